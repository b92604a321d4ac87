/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/caps.h"

/* What this thread has, as one number. */
static uint64_t effective(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	assert_int_equal(syscall(SYS_capget, &head, data), 0);
	return data[0].effective | (uint64_t)data[1].effective << 32;
}

/* In a child: the status is 0 if all is as it should be. */
static void reduced(void **state)
{
	const uint64_t gone = 1ull << CAP_SYS_RESOURCE | 1ull << CAP_NET_ADMIN |
			      1ull << CAP_SYS_PTRACE | 1ull << CAP_SYS_MODULE;
	const uint64_t kept = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_SYS_ADMIN |
			      1ull << CAP_SETFCAP | 1ull << CAP_MKNOD;
	const uint64_t before = effective();
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		int bad = un_caps_reduce() < 0;

		bad |= (effective() & gone) != 0;
		bad |= (effective() & kept) != (before & kept);
		/* Again does no harm, and brings nothing back. */
		bad |= un_caps_reduce() < 0 || (effective() & gone) != 0;
		_exit(bad);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(effective() == before);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(reduced) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
