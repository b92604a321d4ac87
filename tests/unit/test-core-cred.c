/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>
#include <grp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "object/cred.h"
#include "object/types.h"

/* The kernel has told: nobody else is asked. */
static void told(void **state)
{
	const struct un_cred root = { .uid = 0, .gid = 5, .pid = 0 };
	const struct un_cred user = { .uid = 7, .gid = 8, .pid = 0 };

	assert_true(un_is_root(&root));
	assert_true(un_in_group(&root, 1));
	assert_false(un_is_root(&user));
	assert_true(un_in_group(&user, 8));
	assert_false(un_in_group(&user, 7));
}

static void nobody(void **state)
{
	const struct un_cred none = { UN_NO_ID, (gid_t)-1, 1 }, half = { 5, (gid_t)-1, 1 };
	const struct un_cred user = { 5, 5, 1 };

	assert_true(un_is_nobody(&none) && un_is_nobody(&half));
	assert_false(un_is_nobody(&user));
}

/* It has not, and there is nobody to ask: no rights. */
static void unknown(void **state)
{
	const pid_t pids[] = { 0, -1, 0x7fffffff };

	for (size_t i = 0; i < sizeof(pids) / sizeof(pids[0]); i++) {
		const struct un_cred c = { UN_NO_ID, (gid_t)-1, pids[i] };

		assert_false(un_is_root(&c));
		assert_false(un_in_group(&c, 0));
		assert_false(un_in_group(&c, (gid_t)-1));
	}
}

/* A process with these ids that does nothing; 0: not possible here. */
static pid_t sleeper(uid_t uid, gid_t gid, size_t n, const gid_t *groups)
{
	int ready[2];
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		bool done = setgroups(n, groups) == 0 && setresgid(gid, gid, gid) == 0 &&
			    setresuid(uid, uid, uid) == 0;

		c = done;
		if (write(ready[1], &c, 1) == 1 && done)
			pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	if (!c)
		waitpid(pid, NULL, 0);
	return c ? pid : 0;
}

static void asked(void **state)
{
	const gid_t groups[] = { 30, 40 };
	struct un_cred user = { UN_NO_ID, (gid_t)-1, sleeper(10, 20, 2, groups) };
	struct un_cred root = { UN_NO_ID, (gid_t)-1, sleeper(0, 20, 0, NULL) };

	if (!user.pid || !root.pid)
		skip();
	assert_false(un_is_root(&user));
	assert_true(un_in_group(&user, 20) && un_in_group(&user, 30) && un_in_group(&user, 40));
	assert_false(un_in_group(&user, 10) || un_in_group(&user, 0) || un_in_group(&user, 3));
	assert_true(un_is_root(&root));
	assert_true(un_in_group(&root, 77));
	/* A user that was told is not root because the process is; its other groups count. */
	root.uid = user.uid = 5;
	root.gid = user.gid = 6;
	assert_false(un_is_root(&root) || un_in_group(&root, 20));
	assert_true(un_in_group(&user, 6) && un_in_group(&user, 30));
	assert_false(un_in_group(&user, 20));
	kill(user.pid, SIGKILL);
	kill(root.pid, SIGKILL);
	waitpid(user.pid, NULL, 0);
	waitpid(root.pid, NULL, 0);
}

/* More than a page of them: all count, and a number is not torn in two. */
static void many_groups(void **state)
{
	gid_t groups[3000];
	struct un_cred user = { UN_NO_ID, (gid_t)-1, 0 };
	size_t found = 0;
	bool none;

	for (size_t i = 0; i < G_N_ELEMENTS(groups); i++)
		groups[i] = (gid_t)(1000000 + 10 * i);
	user.pid = sleeper(10, 20, G_N_ELEMENTS(groups), groups);
	if (!user.pid)
		skip();
	for (size_t i = 0; i < G_N_ELEMENTS(groups); i++)
		found += un_in_group(&user, groups[i]);
	none = !un_in_group(&user, 1000005) && !un_in_group(&user, 1000) &&
	       !un_in_group(&user, 100) && !un_is_root(&user);
	kill(user.pid, SIGKILL);
	waitpid(user.pid, NULL, 0);
	assert_int_equal(found, G_N_ELEMENTS(groups));
	assert_true(none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody),
		cmocka_unit_test(told),
		cmocka_unit_test(unknown),
		cmocka_unit_test(asked),
		cmocka_unit_test(many_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
