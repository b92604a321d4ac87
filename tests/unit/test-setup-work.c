/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The work directory: what is cleared, spared and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/setup-fixture.h"

static void work_that_is_not_a_directory(void **state)
{
	struct stat st;

	put("work/work", "x");
	un_layers_close(must_open(&usual));
	assert_int_equal(lstat("work/work", &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(rmdir("work/work"), 0);
	put("lower/keep", "x");
	assert_int_equal(symlink("../lower", "work/work"), 0);
	un_layers_close(must_open(&usual));
	assert_int_equal(lstat("work/work", &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_true(exists("lower/keep"));
}

static void work_inherits_nothing(void **state)
{
	struct stat st;

	assert_int_equal(chmod("work", 02777), 0);
	un_layers_close(must_open(&usual));
	assert_int_equal(lstat("work/work", &st), 0);
	assert_int_equal(st.st_mode & 07000, 0);
	assert_int_equal(chmod("work/work", 02700), 0);
	un_layers_close(must_open(&usual));
	assert_int_equal(lstat("work/work", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

/* As a kernel mount made by another identity of ours leaves it. */
static void closed_work_is_opened(void **state)
{
	make_dirs("work/work/a/b");
	put("work/work/a/b/c", "");
	assert_int_equal(chmod("work/work/a/b", 0), 0);
	assert_int_equal(chmod("work/work/a", 0), 0);
	assert_int_equal(chmod("work/work", 0), 0);
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
}

static void dead_leftovers_are_removed(void **state)
{
	make_dirs("work/work/dir/a/b/c/d");
	put("work/work/dir/a/b/c/d/file", "");
	put("work/work/#1a2f", "");
	put("work/work/#0123456789abcdef-1", "");
	make_dirs("work/work/#0123456789abcdef-2/x/y");
	put("work/work/#fedcba9876543210", "");
	put("work/work/#fedcba9876543210.7", "");
	put("lower/keep", "");
	assert_int_equal(symlink("../../lower", "work/work/link"), 0);
	assert_int_equal(symlink("../../../lower", "work/work/dir/link"), 0);
	assert_int_equal(symlink("../../lower/keep", "work/work/#fedcba9876543210-8"), 0);
	assert_int_equal(mkfifo("work/work/#fedcba9876543210-9", 0600), 0);
	put("work/other", "");
	make_dirs("work/index");
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
	assert_true(exists("lower/keep"));
	assert_true(exists("work/other"));
	assert_true(exists("work/index"));
}

static void deep_leftovers_are_removed(void **state)
{
	int fd = open("work", O_PATH), next;

	assert_int_equal(mkdir("work/work", 0700), 0);
	next = openat(fd, "work", O_PATH);
	close(fd);
	for (int i = 0; i < 3000; i++) {
		fd = next;
		assert_int_equal(mkdirat(fd, "dddddd", 0700), 0);
		next = openat(fd, "dddddd", O_PATH | O_DIRECTORY);
		if (i % 100 == 1)
			assert_int_equal(mknodat(next, "f", S_IFREG | 0400, 0), 0);
		if (i % 7 == 0)
			assert_int_equal(fchmodat(fd, ".", 0500, 0), 0);
		close(fd);
	}
	close(next);
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
}

/* Something of the mount's own: "#ID" and @suffix. */
static void stage(const struct un_layers *ls, const char *suffix)
{
	g_autofree char *name = g_strdup_printf("#%s%s", ls->stage_id, suffix);
	struct un_layer *u = &ls->v[0];

	assert_int_equal(u->ops->mkdir(u, ls->work, name, 0700), 0);
}

static bool is_staged(const struct un_layers *ls, const char *suffix)
{
	g_autofree char *name = g_strdup_printf("work/work/#%s%s", ls->stage_id, suffix);

	return exists(name);
}

static void living_mounts_are_spared(void **state)
{
	struct un_layers *a = must_open(&usual), *b;

	stage(a, "-1");
	stage(a, "");
	make_dirs("work/work/stray/x");
	b = must_open(&usual);
	assert_string_not_equal(a->stage_id, b->stage_id);
	stage(b, "-1");
	stage(b, ".1");
	assert_true(is_staged(a, "-1") && is_staged(a, ""));
	/* Nobody's, but who can tell? */
	assert_true(exists("work/work/stray/x"));
	un_layers_close(a);
	assert_true(is_staged(b, "-1") && is_staged(b, ".1"));
	assert_int_equal(count_entries("work/work"), 3);
	/* The last goes, and takes its own; the next one is alone. */
	un_layers_close(b);
	assert_int_equal(count_entries("work/work"), 1);
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
}

/* A daemon forks, its parent ends; then the daemon is killed. */
static void the_lock_ends_with_the_last_process(void **state)
{
	struct un_layers *a = must_open(&usual), *b;
	pid_t pid;

	stage(a, "-1");
	pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(pid, NULL, WUNTRACED);
	close(a->stage_lock);
	a->stage_lock = -1;
	b = must_open(&usual);
	assert_true(is_staged(a, "-1"));
	un_layers_close(b);
	assert_true(is_staged(a, "-1"));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	b = must_open(&usual);
	assert_false(is_staged(a, "-1"));
	un_layers_close(b);
	un_layers_close(a);
	assert_int_equal(count_entries("work/work"), 0);
}

/* Of both directories; a dead one's in the index goes too. */
static void nothing_of_ones_own_is_left(void **state)
{
	struct un_setup_request req = usual;
	struct un_layers *ls;
	g_autofree char *master = NULL;
	int fd;

	req.index = true;
	ls = must_open(&req);
	if (ls->index < 0) {
		un_layers_close(ls);
		skip();
	}
	stage(ls, "");
	stage(ls, ".0");
	stage(ls, "-0");
	master = g_strdup_printf("work/index/#%s", ls->stage_id);
	for (int i = 0; i < 2; i++) {
		fd = open(master, O_CREAT | O_EXCL | O_WRONLY, 0600);
		assert_true(fd >= 0);
		close(fd);
		if (i == 0)
			un_layers_close(ls);
		else
			un_layers_close(must_open(&req));
		assert_int_equal(count_entries("work/work"), 0);
		assert_int_equal(count_entries("work/index"), 0);
	}
}

/* Another mount is emptying the directory. */
static void the_lock_is_waited_for(void **state)
{
	int fd, status;
	pid_t pid;

	un_layers_close(must_open(&usual));
	put("work/work/being-removed", "");
	fd = open("work/work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	pid = fork();
	if (pid == 0) {
		close(fd);
		un_layers_close(must_open(&usual));
		_exit(0);
	}
	g_usleep(50000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(exists("work/work/being-removed"));
}

/* From now on flock(2) fails in this process; only for @op, if that is not 0. */
static bool forbid_flock(int op, int errnum)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_flock, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) +
							   (G_BYTE_ORDER == G_BIG_ENDIAN ? 4 : 0)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)op, 0, op ? 1 : 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = G_N_ELEMENTS(code), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

/* What a mount says where flock fails, or NULL if it cannot be made to fail. */
static char *log_without_flock(int op, int errnum, bool succeeds)
{
	g_autofree char *text = NULL;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int log = open("log", O_CREAT | O_TRUNC | O_WRONLY, 0600);
		char *err = NULL;
		struct un_layers *ls;

		if (!forbid_flock(op, errnum))
			_exit(77);
		dup2(log, STDERR_FILENO);
		ls = un_layers_open(&usual, &err);
		if (err)
			fprintf(stderr, "%s\n", err);
		if (ls)
			stage(ls, "-1");
		un_layers_close(ls);
		_exit(!ls);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		return NULL;
	assert_int_equal(WEXITSTATUS(status), !succeeds);
	assert_true(g_file_get_contents("log", &text, NULL, NULL));
	return g_steal_pointer(&text);
}

static void without_locks_nothing_is_removed(void **state)
{
	static const int ops[] = { 0, LOCK_EX | LOCK_NB };

	make_dirs("work/work/left/x");
	put("work/work/#0123456789abcdef-1", "");
	for (size_t i = 0; i < G_N_ELEMENTS(ops); i++) {
		g_autofree char *said = log_without_flock(ops[i], EOPNOTSUPP, true);

		if (!said)
			skip();
		assert_non_null(strstr(said, "workdir: work: work/ cannot be locked (Operation not "
					     "supported): what dead mounts left in it stays"));
		assert_true(exists("work/work/left/x"));
		assert_true(exists("work/work/#0123456789abcdef-1"));
		assert_int_equal(count_entries("work/work"), 2);
	}
}

/* Where others can lock, a mount that cannot is none. */
static void losing_the_lock_is_refused(void **state)
{
	static const struct {
		int op, err;
	} cases[] = { { LOCK_SH, ENOLCK }, { LOCK_SH, ENOMEM }, { 0, ENOMEM } };

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *said = log_without_flock(cases[i].op, cases[i].err, false);
		g_autofree char *want = g_strdup_printf("workdir: work: work/ cannot be locked: %s",
							g_strerror(cases[i].err));

		if (!said)
			skip();
		assert_non_null(strstr(said, want));
		assert_int_equal(count_entries("work/work"), 0);
	}
}

/* Mounts come and go at once; none loses what it stages. */
static void mount_in_loop(int seed)
{
	for (int i = 0; i < 150; i++) {
		char *err = NULL;
		struct un_layers *ls = un_layers_open(&usual, &err);
		struct un_layer *u;
		struct statx st;
		char name[64];

		if (!ls) {
			fprintf(stderr, "%s\n", err);
			_exit(1);
		}
		u = &ls->v[0];
		snprintf(name, sizeof(name), "#%s-0", ls->stage_id);
		if (u->ops->mkdir(u, ls->work, name, 0700) < 0)
			_exit(2);
		sched_yield();
		if (u->ops->stat(u, ls->work, name, &st) < 0)
			_exit(3);
		/* Some die without a word. */
		if ((i + seed) % 3 == 0) {
			g_clear_pointer(&ls->stage_id, g_free);
			un_layers_close(ls);
		} else {
			un_layers_close(ls);
		}
	}
	_exit(0);
}

static void mounts_come_and_go(void **state)
{
	pid_t pids[4];
	int status;

	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			mount_in_loop(i);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
}

static void volatile_is_refused(void **state)
{
	struct un_setup_request req = usual;
	struct stat st;

	req.is_volatile = true;
	un_layers_close(must_open(&req));
	assert_true(exists("work/work/incompat") || errno == EACCES);
	assert_int_equal(chmod("work/work", 0), 0);
	for (int i = 0; i < 2; i++) {
		req.is_volatile = i;
		must_refuse(
			&req,
			"workdir: work: was used by a volatile mount (work/incompat/volatile): ",
			EINVAL);
	}
	/* Refused is unchanged. */
	assert_int_equal(stat("work/work", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0);
	assert_int_equal(chmod("work/work", 0700), 0);
	assert_int_equal(chmod("work/work/incompat", 0700), 0);
	assert_int_equal(chmod("work/work/incompat/volatile", 0700), 0);
	assert_int_equal(count_entries("work/work"), 1);
	assert_int_equal(unlink("work/work/incompat/volatile/dirty"), 0);
	must_refuse(&usual, "workdir: work: was used by a volatile mount", EINVAL);
	assert_int_equal(rmdir("work/work/incompat/volatile"), 0);
	un_layers_close(must_open(&req));
	assert_int_equal(count_entries("work/work"), 1);
}

static void unknown_features_are_refused(void **state)
{
	struct stat st;

	make_dirs("work/work/incompat/future");
	put("work/work/#1a2f", "");
	assert_int_equal(chmod("work/work/incompat", 0), 0);
	must_refuse(&usual,
		    "workdir: work: was used with a feature unknown here (work/incompat/future): ",
		    EINVAL);
	assert_true(exists("work/work/#1a2f"));
	assert_int_equal(stat("work/work/incompat", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0);
	assert_int_equal(chmod("work/work/incompat", 0755), 0);
	assert_int_equal(rmdir("work/work/incompat/future"), 0);
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
	put("work/work/incompat", "");
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(work_that_is_not_a_directory),
		T(work_inherits_nothing),
		T(closed_work_is_opened),
		T(dead_leftovers_are_removed),
		T(deep_leftovers_are_removed),
		/* Others use it too. */
		T(living_mounts_are_spared),
		T(the_lock_ends_with_the_last_process),
		T(nothing_of_ones_own_is_left),
		T(the_lock_is_waited_for),
		T(without_locks_nothing_is_removed),
		T(losing_the_lock_is_refused),
		T(mounts_come_and_go),
		/* A kernel mount left word in it. */
		T(volatile_is_refused),
		T(unknown_features_are_refused),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
