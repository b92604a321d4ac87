/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "covering_i.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/err.h"
#include "util/fd.h"

static _Atomic uint64_t own_device;

void un_layer_own_device(uint64_t dev)
{
	own_device = dev;
}

int un_covering_open(struct un_layer *l, int dirfd, const char *name)
{
	const int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
	struct open_how how = { .flags = (unsigned)flags,
				.resolve = RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS };
	un_autofd int fd = -1;
	unsigned tries = 0;
	struct statx st;

	/* What is changed in the upper must not change something else. */
	if (l->index == 0 || l->clone >= 0)
		return -EXDEV;
	do {
		fd = (int)un_errno(syscall(SYS_openat2, dirfd, name, &how, sizeof(how)));
		if (fd == -ENOSYS || fd == -EPERM)
			fd = un_errno(openat(dirfd, name, flags));
	} while (un_fd_again(fd, &tries));
	if (fd < 0)
		return un_fd_result(fd);
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return -errno;
	if (S_ISDIR(st.stx_mode) || S_ISLNK(st.stx_mode) || un_stx_dev(&st) == own_device ||
	    !un_stx_is_mountpoint(&st))
		return -EXDEV;
	return un_take_fd(&fd);
}

int un_covering_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret)
{
	un_autofd int fd = un_covering_open(l, dirfd, name);
	struct statx st;

	/* Without its first answer, which may be an old one. */
	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, UN_STATX_MASK, &st) < 0)
		return fd == -ENFILE ? fd : 0;
	*ret = st;
	/* Flags are of the layer's file, which is not there to be asked. */
	ret->stx_attributes &=
		~(uint64_t)(STATX_ATTR_MOUNT_ROOT | STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND);
	ret->stx_attributes |= UN_STATX_COVERED;
	return 0;
}
