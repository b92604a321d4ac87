/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../../src/layer/setup_i.h"
#include "../lib/layer-fault.h"
#include "util/err.h"
#include "util/fd.h"

/* Every test stands in an empty directory of its own that has lower, upper and work. */
struct fixture {
	char dir[64];
};

static int setup(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	strcpy(f->dir, "/tmp/un-setup-XXXXXX");
	*state = f;
	return !mkdtemp(f->dir) || chdir(f->dir) < 0 || mkdir("lower", 0755) < 0 ||
	       mkdir("upper", 0755) < 0 || mkdir("work", 0755) < 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int open_up(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	if (flag == FTW_D || flag == FTW_DNR)
		un_ignore(chmod(path, 0755));
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	r = chdir("/");
	nftw(f->dir, open_up, 64, FTW_PHYS | FTW_MOUNT);
	nftw(f->dir, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	g_free(f);
	return r;
}

/* ------------------------------------------------------------------------------------------------
 * Tools
 */

static const char *const lower_only[] = { "lower" };

static const struct un_setup_request usual = {
	.lowers = lower_only, .n_lowers = 1, .upper = "upper", .work = "work"
};

static struct un_layers *must_open(const struct un_setup_request *req)
{
	char *err = NULL;
	struct un_layers *ls = un_layers_open(req, &err);

	if (!ls)
		fail_msg("%s", err);
	assert_null(err);
	return ls;
}

/* Opening fails with a sentence that begins with @start and ends with the text of @errnum. */
static void must_refuse(const struct un_setup_request *req, const char *start, int errnum)
{
	g_autofree char *err = NULL;
	struct un_layers *ls = un_layers_open(req, &err);

	if (ls) {
		un_layers_close(ls);
		fail_msg("opened, expected: %s", start);
	}
	assert_non_null(err);
	if (!g_str_has_prefix(err, start) || !g_str_has_suffix(err, g_strerror(errnum)))
		fail_msg("got \"%s\", expected \"%s ... %s\"", err, start, g_strerror(errnum));
}

static void put(const char *path, const char *text)
{
	assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void make_dirs(const char *path)
{
	assert_int_equal(g_mkdir_with_parents(path, 0755), 0);
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static unsigned count_fds(void)
{
	return count_entries("/proc/self/fd");
}

/* In a mount namespace of its own the process may mount what it likes. */
static void need_mounts(struct fixture *f)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	/* The directory one stands in lies in the namespace left. */
	assert_int_equal(chdir(f->dir), 0);
}

#define REQ(...) (&(const struct un_setup_request){ __VA_ARGS__ })
#define LOWERS(...)                                                                                \
	.lowers = (const char *const[]){ __VA_ARGS__ },                                            \
	.n_lowers = G_N_ELEMENTS(((const char *const[]){ __VA_ARGS__ }))

/* ------------------------------------------------------------------------------------------------
 * What is refused
 */

static void wrong_paths(void **state)
{
	put("file", "");
	must_refuse(REQ(LOWERS("none")), "lowerdir: none: ", ENOENT);
	must_refuse(REQ(LOWERS("lower", "file")), "lowerdir: file: ", ENOTDIR);
	must_refuse(REQ(LOWERS("lower"), .upper = "none", .work = "work"),
		    "upperdir: none: ", ENOENT);
	must_refuse(REQ(LOWERS("lower"), .upper = "file", .work = "work"),
		    "upperdir: file: ", ENOTDIR);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "none"),
		    "workdir: none: ", ENOENT);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "file"),
		    "workdir: file: ", ENOTDIR);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper"),
		    "upperdir: upper: needs a workdir: ", EINVAL);
	must_refuse(REQ(.n_lowers = 0), "lowerdir: no layer given: ", EINVAL);
	must_refuse(REQ(.n_lowers = 501), "lowerdir: 501 layers given", EINVAL);
	assert_int_equal(count_entries("work"), 0);
}

static void overlaps(void **state)
{
	make_dirs("upper/a/b");
	make_dirs("work/a");
	make_dirs("lower/a/b");
	assert_int_equal(symlink("lower", "link"), 0);

	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "upper"),
		    "workdir: upper: is the same directory as upperdir upper: ", EINVAL);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "upper/a/b"),
		    "workdir: upper/a/b: lies inside upperdir upper: ", EINVAL);
	must_refuse(REQ(LOWERS("lower"), .upper = "work/a", .work = "work"),
		    "upperdir: work/a: lies inside workdir work: ", EINVAL);
	must_refuse(REQ(LOWERS("upper"), .upper = "upper", .work = "work"),
		    "lowerdir: upper: is the same directory as upperdir upper: ", ELOOP);
	must_refuse(REQ(LOWERS("work"), .upper = "upper", .work = "work"),
		    "lowerdir: work: is the same directory as workdir work: ", ELOOP);
	must_refuse(REQ(LOWERS("lower", "lower")),
		    "lowerdir: lower: is the same directory as lowerdir lower: ", ELOOP);
	must_refuse(REQ(LOWERS("lower", "link")),
		    "lowerdir: link: is the same directory as lowerdir lower: ", ELOOP);
	must_refuse(REQ(LOWERS("upper/a/b"), .upper = "upper", .work = "work"),
		    "lowerdir: upper/a/b: lies inside upperdir upper: ", ELOOP);
	must_refuse(REQ(LOWERS("work/a"), .upper = "upper", .work = "work"),
		    "lowerdir: work/a: lies inside workdir work: ", ELOOP);
	must_refuse(REQ(LOWERS("lower", "lower/a")),
		    "lowerdir: lower/a: lies inside lowerdir lower: ", ELOOP);
	must_refuse(REQ(LOWERS("lower/a/b", "lower")),
		    "lowerdir: lower/a/b: lies inside lowerdir lower: ", ELOOP);
	assert_false(exists("work/work"));
	assert_false(exists("upper/a/b/work"));
}

static void upper_and_work_inside_a_lower(void **state)
{
	make_dirs("lower/u");
	make_dirs("lower/w");
	un_layers_close(must_open(REQ(LOWERS("lower"), .upper = "lower/u", .work = "lower/w")));
	un_layers_close(must_open(REQ(LOWERS("lower"), .upper = "lower/u", .work = "work")));
	un_layers_close(must_open(REQ(LOWERS("lower"), .upper = "upper", .work = "lower/w")));
	un_layers_close(must_open(REQ(LOWERS("/"), .upper = "upper", .work = "work")));
}

static void work_on_another_mount(void **state)
{
	need_mounts(*state);
	assert_int_equal(mount("work", "work", NULL, MS_BIND, NULL), 0);
	must_refuse(&usual, "workdir: work: is not on the same mount as upperdir upper: ", EINVAL);
	assert_int_equal(umount("work"), 0);
	un_layers_close(must_open(&usual));
}

/* Mounted on a directory of the upper is not inside it. */
static void lower_mounted_on_upper(void **state)
{
	need_mounts(*state);
	make_dirs("upper/m/n");
	assert_int_equal(mount("none", "upper/m", "tmpfs", 0, NULL), 0);
	make_dirs("upper/m/l");
	un_layers_close(must_open(REQ(LOWERS("upper/m"), .upper = "upper", .work = "work")));
	un_layers_close(must_open(REQ(LOWERS("upper/m/l"), .upper = "upper", .work = "work")));
	must_refuse(REQ(LOWERS("upper/m/l", "upper/m")), "lowerdir: upper/m/l: lies inside", ELOOP);
	assert_int_equal(umount("upper/m"), 0);
}

static void unwritable(void **state)
{
	if (geteuid() == 0) {
		need_mounts(*state);
		make_dirs("ro/upper");
		make_dirs("ro/work");
		assert_int_equal(mount("ro", "ro", NULL, MS_BIND, NULL), 0);
		if (mount(NULL, "ro", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0)
			must_refuse(REQ(LOWERS("lower"), .upper = "ro/upper", .work = "ro/work"),
				    "upperdir: ro/upper: ", EROFS);
		assert_int_equal(umount("ro"), 0);
		assert_false(exists("ro/work/work"));
		return;
	}
	assert_int_equal(chmod("upper", 0555), 0);
	must_refuse(&usual, "upperdir: upper: ", EACCES);
	assert_int_equal(chmod("upper", 0755), 0);
	assert_int_equal(chmod("work", 0555), 0);
	must_refuse(&usual, "workdir: work: ", EACCES);
	assert_int_equal(chmod("work", 0755), 0);
}

static void kernel_file_systems(void **state)
{
	must_refuse(REQ(LOWERS("lower", "/proc/self")), "lowerdir: /proc/self: is on a file system",
		    EINVAL);
	if (exists("/sys/kernel"))
		must_refuse(REQ(LOWERS("/sys/kernel")),
			    "lowerdir: /sys/kernel: is on a file system", EINVAL);
}

/* ------------------------------------------------------------------------------------------------
 * What is opened
 */

static void usual_mount(void **state)
{
	unsigned fds = count_fds();
	struct un_layers *ls = must_open(REQ(LOWERS("lower"), .upper = "upper", .work = "work"));
	struct un_layer *u = &ls->v[0];
	g_autofree char *lock = NULL;
	struct stat st;

	assert_int_equal(ls->n, 1);
	assert_true(ls->has_upper);
	assert_string_equal(u->path, "upper");
	assert_int_equal(ls->v[1].index, 1);
	assert_true(ls->v[1].root >= 0);
	assert_true(u->caps.d_type);
	assert_int_equal(lstat("work/work", &st), 0);
	if (geteuid() != 0)
		assert_int_equal(st.st_mode & 07777, 0700);
	else
		assert_int_equal(st.st_mode & 07777, 0);

	/* Upper and work are one mount for rename, in which only the lock is left. */
	assert_true(strlen(ls->stage_id) >= 8);
	lock = g_strdup_printf("work/work/#%s.lock", ls->stage_id);
	assert_true(exists(lock));
	assert_int_equal(count_entries("work/work"), 1);
	assert_int_equal(u->ops->mkdir(u, ls->work, "#d", 0700), 0);
	assert_int_equal(u->ops->rename(u, ls->work, "#d", u->root, "d", 0), 0);
	assert_true(exists("upper/d"));
	if (u->caps.tmpfile) {
		un_autofd int fd = u->ops->open(u, ls->work, "", O_TMPFILE | O_RDWR, 0600);

		assert_int_equal(u->ops->link(u, fd, "", u->root, "f"), 0);
	}
	un_layers_close(ls);
	assert_int_equal(count_entries("work/work"), 0);
	assert_int_equal(count_fds(), fds);
	un_layers_close(NULL);
}

static void read_only_union(void **state)
{
	struct un_layers *ls = must_open(REQ(LOWERS("lower"), .work = "ignored"));

	assert_false(ls->has_upper);
	assert_int_equal(ls->v[0].root, -1);
	assert_int_equal(ls->work, -1);
	assert_int_equal(ls->stage_lock, -1);
	assert_int_equal(ls->dialect, un_setup_privileged() ? UN_DIALECT_TRUSTED : UN_DIALECT_USER);
	un_layers_close(ls);
	ls = must_open(REQ(LOWERS("lower"), .userxattr = true));
	assert_int_equal(ls->dialect, UN_DIALECT_USER);
	un_layers_close(ls);
}

static void dialects(void **state)
{
	struct un_layers *ls = must_open(&usual);

	if (setxattr("upper", "trusted.overlay.opaque", "y", 1, 0) == 0) {
		assert_int_equal(ls->dialect, UN_DIALECT_TRUSTED);
		assert_true(un_setup_privileged());
	} else if (errno == EPERM) {
		assert_int_equal(ls->dialect, UN_DIALECT_USER);
		assert_false(un_setup_privileged());
	}
	un_layers_close(ls);
	ls = must_open(REQ(LOWERS("lower"), .upper = "upper", .work = "work", .userxattr = true));
	assert_int_equal(ls->dialect, UN_DIALECT_USER);
	assert_int_equal(ls->v[0].caps.xattr, setxattr("upper", "user.x", "y", 1, 0) == 0);
	un_layers_close(ls);
}

static void submounts_are_hidden(void **state)
{
	struct un_setup_request req = usual;
	struct un_layers *ls;
	struct un_layer *l;
	struct statx st;
	un_autofd int fd = -1;

	need_mounts(*state);
	make_dirs("lower/m");
	put("lower/m/below", "");
	assert_int_equal(mount("none", "lower/m", "tmpfs", 0, NULL), 0);
	/* As on a usual machine: what is mounted here later appears in all copies. */
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0);
	ls = must_open(&req);
	l = &ls->v[1];
	/* A user namespace does not let us look below mounts it was given; this one is ours. */
	assert_true(l->clone >= 0);
	assert_true(ls->v[0].clone >= 0);
	assert_int_equal(l->ops->stat(l, l->root, "", &st), 0);
	assert_false(un_stx_is_mountpoint(&st));
	assert_int_equal(l->ops->stat(l, l->root, "m", &st), 0);
	assert_false(un_stx_is_mountpoint(&st));
	fd = l->ops->open(l, l->root, "m", O_RDONLY | O_DIRECTORY, 0);
	assert_true(fd >= 0);
	assert_int_equal(l->ops->stat(l, fd, "below", &st), 0);
	assert_int_equal(l->ops->open(l, l->root, "x", O_CREAT | O_WRONLY, 0600), -EROFS);
	/* A mount made later does not get in either. */
	make_dirs("lower/n");
	assert_int_equal(mount("none", "lower/n", "tmpfs", 0, NULL), 0);
	assert_int_equal(l->ops->stat(l, l->root, "n", &st), 0);
	assert_false(un_stx_is_mountpoint(&st));
	assert_int_equal(un_stx_dev(&st), l->dev);
	un_layers_close(ls);

	req.no_clone = true;
	ls = must_open(&req);
	l = &ls->v[1];
	assert_int_equal(l->clone, -1);
	assert_int_equal(ls->v[0].clone, -1);
	assert_int_equal(l->ops->stat(l, l->root, "m", &st), 0);
	assert_true(un_stx_is_mountpoint(&st));
	assert_int_equal(l->ops->open(l, l->root, "m", O_PATH, 0), -EXDEV);
	un_layers_close(ls);
	assert_int_equal(umount("lower/m"), 0);
	assert_int_equal(umount("lower/n"), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
}

static void layers_that_are_mounts(void **state)
{
	struct un_layers *ls;
	struct statx st;

	need_mounts(*state);
	make_dirs("mnt");
	assert_int_equal(mount("none", "mnt", "tmpfs", 0, NULL), 0);
	make_dirs("mnt/u");
	make_dirs("mnt/w");
	for (int i = 0; i < 2; i++) {
		ls = must_open(
			REQ(LOWERS("lower"), .upper = "mnt/u", .work = "mnt/w", .no_clone = i));
		assert_int_equal(ls->v[0].clone >= 0, !i);
		un_layers_close(ls);
		ls = must_open(REQ(LOWERS("mnt"), .no_clone = i));
		assert_int_equal(ls->v[1].ops->stat(&ls->v[1], ls->v[1].root, "", &st), 0);
		assert_false(un_stx_is_mountpoint(&st));
		un_layers_close(ls);
	}
	assert_int_equal(umount("mnt"), 0);
}

static void five_hundred_lowers(void **state)
{
	const struct rlimit lim = { 4096, 4096 };
	const char *lowers[500];
	int64_t start, opened, closed;
	unsigned fds;

	if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
		skip();
	for (unsigned i = 0; i < 500; i++) {
		lowers[i] = g_strdup_printf("layers/a/b/c/%u/diff", i);
		make_dirs(lowers[i]);
	}
	fds = count_fds();
	start = g_get_monotonic_time();
	un_layers_close(({
		struct un_layers *ls = must_open(
			REQ(.lowers = lowers, .n_lowers = 500, .upper = "upper", .work = "work"));
		opened = g_get_monotonic_time();
		ls;
	}));
	closed = g_get_monotonic_time();
	print_message("500 lowers: opened in %" PRId64 " us, closed in %" PRId64 " us\n",
		      opened - start, closed - opened);
	assert_true(opened - start < 2000000); /* far more than it takes; a slow machine may */
	assert_int_equal(count_fds(), fds);
	for (unsigned i = 0; i < 500; i++)
		g_free((char *)(uintptr_t)lowers[i]);
}

/* ------------------------------------------------------------------------------------------------
 * The work directory
 */

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
	put("work/work/#0123456789abcdef.lock", "");
	put("work/work/#0123456789abcdef-1", "");
	make_dirs("work/work/#0123456789abcdef-2/x/y");
	put("work/work/#fedcba9876543210-7", ""); /* without a lock */
	put("lower/keep", "");
	assert_int_equal(symlink("../../lower", "work/work/link"), 0);
	assert_int_equal(symlink("../../../lower", "work/work/dir/link"), 0);
	assert_int_equal(symlink("../../lower/keep", "work/work/#00000000.lock"), 0);
	make_dirs("work/work/#11111111.lock");
	assert_int_equal(mkfifo("work/work/#22222222.lock", 0600), 0);
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

static void living_mounts_are_spared(void **state)
{
	struct un_layers *a = must_open(&usual), *b;
	struct un_layer *u = &a->v[0];
	g_autofree char *name = g_strdup_printf("#%s-1", a->stage_id);
	g_autofree char *dir = g_strdup_printf("#%s-2", a->stage_id);
	struct statx st;
	pid_t pid;

	assert_int_equal(u->ops->mknod(u, a->work, name, S_IFREG | 0600, 0), 0);
	assert_int_equal(u->ops->mkdir(u, a->work, dir, 0700), 0);
	assert_int_equal(u->ops->mkdir(u, a->work, "stray", 0700), 0);
	b = must_open(&usual);
	assert_string_not_equal(a->stage_id, b->stage_id);
	assert_int_equal(u->ops->stat(u, a->work, name, &st), 0);
	assert_int_equal(u->ops->stat(u, a->work, dir, &st), 0);
	assert_int_equal(u->ops->stat(u, a->work, "stray", &st), -ENOENT);
	un_layers_close(b);
	assert_int_equal(u->ops->stat(u, a->work, name, &st), 0);

	/* The lock belongs to the open file: a daemon forks, its parent ends. */
	pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(pid, NULL, WUNTRACED);
	close(a->stage_lock);
	a->stage_lock = -1;
	b = must_open(&usual);
	assert_int_equal(u->ops->stat(u, a->work, name, &st), 0);
	un_layers_close(b);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	b = must_open(&usual);
	assert_int_equal(u->ops->stat(u, a->work, name, &st), -ENOENT);
	assert_int_equal(u->ops->stat(u, a->work, dir, &st), -ENOENT);
	un_layers_close(b);
	un_layers_close(a);
	assert_int_equal(count_entries("work/work"), 0);
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

/* ------------------------------------------------------------------------------------------------
 * Failures
 */

/* Makes the Nth operation on the upper fail while work is prepared and the upper probed. */
static int prepare_with_fault(struct un_fault *fault, char **ret_err, struct un_layer_caps *ret)
{
	struct un_layer v[2] = { { .root = -1, .clone = -1, .ops = &un_layer_posix },
				 { .root = -1, .clone = -1, .ops = &un_layer_posix } };
	struct un_layers ls = { .v = v, .n = 1, .has_upper = true, .work = -1, .stage_lock = -1 };
	struct un_setup s = { .req = &usual, .ls = &ls, .ret_err = ret_err };
	int r;

	v[0].path = (char *)(uintptr_t) "upper";
	v[0].root = open("upper", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s.work_parent = open("work", O_PATH | O_DIRECTORY | O_CLOEXEC);
	un_layer_fault(&v[0], fault);
	r = un_setup_work_open(&s);
	if (r == 0)
		r = un_setup_probe_upper(&s);
	*ret = v[0].caps;
	fault->countdown = -1;
	un_setup_work_close(&ls);
	un_close(ls.work);
	un_close(ls.stage_lock);
	g_free(ls.stage_id);
	un_layer_unfault(&v[0]);
	un_close(v[0].root);
	un_close(s.work_parent);
	return r;
}

static void faults(int errnum)
{
	struct un_fault fault = { .hit = true };
	struct un_layer_caps caps, all;
	unsigned refused = 0, fds = count_fds();

	fault.countdown = -1;
	assert_int_equal(prepare_with_fault(&fault, &(char *){ NULL }, &all), 0);
	for (int n = 1; fault.hit || n == 1; n++) {
		g_autofree char *err = NULL;
		int r;

		put("stray", "");
		un_ignore(rename("stray", "work/work/stray"));
		fault = (struct un_fault){ .countdown = n, .err = errnum };
		r = prepare_with_fault(&fault, &err, &caps);
		assert_int_equal(r < 0, err != NULL);
		refused += r < 0;
		if (r < 0 && !(r == -errnum && g_str_has_prefix(err, "workdir: work: ")))
			fail_msg("%d: %s", n, err);
		assert_int_equal(count_fds(), fds);
		assert_true(n < 1000);
		if (!fault.hit)
			assert_memory_equal(&caps, &all, sizeof(caps));
	}
	assert_true(refused > 5);
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
}

static void io_errors_in_the_probe(void **state)
{
	faults(EIO);
}

static void full_disk_in_the_probe(void **state)
{
	struct un_layer_caps all = { 0 };
	struct un_fault fault = { .hit = true };

	faults(ENOSPC);
	/* A full disk can be mounted, and is taken for what it is when it is not full. */
	for (int n = 0; fault.hit; n++) {
		struct un_layers *ls = must_open(&usual);
		char *err = NULL;
		struct un_setup s = { .req = &usual, .ls = ls, .ret_err = &err };

		if (n == 0)
			all = ls->v[0].caps;
		fault = (struct un_fault){ .countdown = n, .err = ENOSPC, .changes_only = true };
		memset(&ls->v[0].caps, 0, sizeof(all));
		un_layer_fault(&ls->v[0], &fault);
		assert_int_equal(un_setup_probe_upper(&s), 0);
		un_layer_unfault(&ls->v[0]);
		assert_memory_equal(&ls->v[0].caps, &all, sizeof(all));
		un_layers_close(ls);
		fault.hit |= n == 0;
	}
	assert_int_equal(count_entries("work/work"), 0);
}

/* What the file system does not have is no failure. */
static void refusals_in_the_probe(void **state)
{
	struct un_layers *ls = must_open(&usual);
	char *err = NULL;
	struct un_setup s = { .req = &usual, .ls = ls, .work_parent = -1, .ret_err = &err };
	struct un_fault fault = { .hit = true };
	unsigned missing = 0;

	for (int n = 1; fault.hit; n++) {
		fault = (struct un_fault){ .countdown = n,
					   .err = EOPNOTSUPP,
					   .changes_only = true };
		memset(&ls->v[0].caps, 0, sizeof(ls->v[0].caps));
		un_layer_fault(&ls->v[0], &fault);
		if (un_setup_probe_upper(&s) < 0)
			g_clear_pointer(&err, g_free); /* an operation every file system has */
		un_layer_unfault(&ls->v[0]);
		missing += !ls->v[0].caps.tmpfile + !ls->v[0].caps.rename_whiteout +
			   !ls->v[0].caps.rename_exchange + !ls->v[0].caps.mknod_whiteout;
		un_setup_probe_report(&s);
	}
	assert_true(missing >= 4);
	un_layers_close(ls);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(wrong_paths),
		T(overlaps),
		T(upper_and_work_inside_a_lower),
		T(kernel_file_systems),
		T(usual_mount),
		T(read_only_union),
		T(dialects),
		T(work_that_is_not_a_directory),
		T(work_inherits_nothing),
		T(closed_work_is_opened),
		T(dead_leftovers_are_removed),
		T(deep_leftovers_are_removed),
		T(living_mounts_are_spared),
		T(mounts_come_and_go),
		T(volatile_is_refused),
		T(unknown_features_are_refused),
		T(io_errors_in_the_probe),
		T(full_disk_in_the_probe),
		T(refusals_in_the_probe),
		T(five_hundred_lowers),
		/* These leave the mount namespace. */
		T(unwritable),
		T(work_on_another_mount),
		T(lower_mounted_on_upper),
		T(submounts_are_hidden),
		T(layers_that_are_mounts),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
