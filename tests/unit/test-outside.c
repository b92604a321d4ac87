/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/outside.h"
#include "util/err.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static pid_t parent;

/* As its answer: 1 it is one of us, 2 it has what is ours, 3 neither. */
static int look(const void *arg)
{
	const int *fd = arg;

	if (getpid() == parent)
		return -1;
	return fcntl(*fd, F_GETFD) >= 0 ? -2 : -3;
}

static int end(const void *arg)
{
	(void)arg;
	un_ignore(kill(getpid(), SIGKILL));
	return 0;
}

static int answer(const void *arg)
{
	return *(const int *)arg;
}

static void is_another_process_without_our_descriptors(void **state)
{
	int fd = open("/dev/null", O_RDWR);

	(void)state;
	parent = getpid();
	assert_true(fd > 2);
	assert_int_equal(un_outside(look, &fd), -3);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

static void tells_what_came_of_it(void **state)
{
	(void)state;
	for (int r = 0; r >= -254; r--)
		assert_int_equal(un_outside(answer, &r), r);
	assert_int_equal(un_outside(end, NULL), -ECHILD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_another_process_without_our_descriptors),
		cmocka_unit_test(tells_what_came_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
