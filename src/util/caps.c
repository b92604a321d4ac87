/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * What a change of somebody else's files takes; SYS_ADMIN for trusted.* and security.* and to unmount; SYS_NICE to be a
 * thread like any other again (transport/processor.c).
 */
static const unsigned needed[] = {
	CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,    CAP_FSETID,
	CAP_SETGID,  CAP_SETUID,       CAP_LINUX_IMMUTABLE, CAP_SYS_ADMIN, CAP_MKNOD,
	CAP_SETFCAP, CAP_MAC_ADMIN,    CAP_MAC_OVERRIDE,   CAP_SYS_NICE,
};

int un_caps_reduce(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	uint32_t keep[2] = { 0 };

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		keep[CAP_TO_INDEX(needed[i])] |= CAP_TO_MASK(needed[i]);
	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		data[i].effective &= keep[i];
		data[i].permitted &= keep[i];
		data[i].inheritable &= keep[i];
	}
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* PROC_USER_INIT_INO: the number is part of the kernel's interface (lsns(8), nsenter(1)). */
#define INITIAL 0xEFFFFFFDu

bool un_caps_rule(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	struct stat ns;

	return stat("/proc/self/ns/user", &ns) == 0 && ns.st_ino == INITIAL &&
	       syscall(SYS_capget, &head, data) == 0 &&
	       (data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN));
}
