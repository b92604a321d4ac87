/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is opened: caps, dialects, private mounts, many layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../../src/layer/setup_i.h"
#include "../lib/setup-fixture.h"
#include "util/fd.h"

static void usual_mount(void **state)
{
	unsigned fds = count_fds();
	struct un_layers *ls = must_open(REQ(LOWERS("lower"), .upper = "upper", .work = "work"));
	struct un_layer *u = &ls->v[0];
	un_autofd int work = -1;
	struct stat st;

	assert_int_equal(ls->n, 1);
	assert_true(ls->has_upper);
	assert_string_equal(u->path, "upper");
	assert_true(ls->v[0].index == 0 && ls->v[1].index > 0);
	assert_true(ls->v[1].root >= 0);
	assert_true(u->caps.d_type);
	assert_int_equal(lstat("work/work", &st), 0);
	if (geteuid() != 0)
		assert_int_equal(st.st_mode & 07777, 0700);
	else
		assert_int_equal(st.st_mode & 07777, 0);

	/* Empty, and locked. */
	assert_int_equal(strlen(ls->stage_id), 16);
	assert_int_equal(count_entries("work/work"), 0);
	work = open("work/work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(work >= 0);
	assert_int_equal(flock(work, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	assert_int_equal(flock(work, LOCK_SH | LOCK_NB), 0);
	un_close(un_take_fd(&work));
	/* Upper and work are one mount for rename. */
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
	assert_int_equal(ls->v[0].dialect,
			 un_setup_privileged() ? UN_DIALECT_TRUSTED : UN_DIALECT_USER);
	un_layers_close(ls);
	ls = must_open(REQ(LOWERS("lower"), .userxattr = true));
	assert_int_equal(ls->v[0].dialect, UN_DIALECT_USER);
	un_layers_close(ls);
}

static void dialects(void **state)
{
	struct un_layers *ls = must_open(&usual);

	if (setxattr("upper", "trusted.overlay.opaque", "y", 1, 0) == 0) {
		assert_int_equal(ls->v[0].dialect, UN_DIALECT_TRUSTED);
		assert_true(un_setup_privileged());
	} else if (errno == EPERM) {
		assert_int_equal(ls->v[0].dialect, UN_DIALECT_USER);
		assert_false(un_setup_privileged());
	}
	un_layers_close(ls);
	ls = must_open(REQ(LOWERS("lower"), .upper = "upper", .work = "work", .userxattr = true));
	assert_int_equal(ls->v[0].dialect, UN_DIALECT_USER);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(usual_mount),
		T(read_only_union),
		T(dialects),
		T(five_hundred_lowers),
		/* These leave the mount namespace. */
		T(submounts_are_hidden),
		T(layers_that_are_mounts),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
