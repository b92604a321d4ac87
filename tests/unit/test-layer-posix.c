/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every test runs twice: with the calls this kernel has, and as on an old kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../lib/layer-fault.h"
#include "../lib/layer-recorder.h"
#include "layer/layer-posix_i.h"
#include "layer/owner.h"
#include "util/fd.h"
#include "util/log.h"

struct fixture {
	char dir[64];
	struct un_layer l;
};

static int setup(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	strcpy(f->dir, "/tmp/un-posix-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->l = (struct un_layer){ .index = 1, .clone = -1, .ops = &un_layer_posix };
	f->l.root = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->l.root < 0 ? -1 : 0;
}

/* What this kernel has, before a test takes it away. */
static struct un_posix_have all;

static int setup_new(void **state)
{
	un_posix_found = all;
	return setup(state);
}

static int setup_old(void **state)
{
	memset(&un_posix_found, 0, sizeof(un_posix_found));
	return setup(state);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->l.root);
	nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	g_free(f);
	return 0;
}

#define L(f) (&(f)->l)
#define OP(f, op, ...) ((f)->l.ops->op(&(f)->l, __VA_ARGS__))

static void put(struct fixture *f, const char *name, const char *text)
{
	int fd = OP(f, open, f->l.root, name, O_CREAT | O_EXCL | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(OP(f, pwrite, fd, text, strlen(text), 0), strlen(text));
	close(fd);
}

/* ------------------------------------------------------------------------------------------------ */

static void open_never_follows(void **state)
{
	struct fixture *f = *state;
	struct statx st;
	char buf[16];
	int fd;

	put(f, "target", "x");
	assert_int_equal(OP(f, symlink, "target", f->l.root, "link"), 0);
	assert_int_equal(OP(f, open, f->l.root, "link", O_RDONLY, 0), -ELOOP);
	fd = OP(f, open, f->l.root, "link", O_PATH | O_NOFOLLOW, 0);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(OP(f, stat, fd, "", &st), 0);
	assert_true(S_ISLNK(st.stx_mode));
	assert_int_equal(OP(f, readlink, fd, "", buf, sizeof(buf)), 6);
	assert_int_equal(OP(f, readlink, f->l.root, "link", buf, sizeof(buf)), 6);
	close(fd);
	fd = OP(f, open, f->l.root, "link", O_PATH, 0);
	assert_true(fd >= 0);
	assert_int_equal(OP(f, stat, fd, "", &st), 0);
	assert_true(S_ISLNK(st.stx_mode));
	close(fd);
	assert_int_equal(OP(f, open, f->l.root, "none", O_RDONLY, 0), -ENOENT);
	assert_int_equal(OP(f, open, f->l.root, "target", O_DIRECTORY, 0), -ENOTDIR);
	assert_int_equal(OP(f, open, f->l.root, "target", O_CREAT | O_EXCL, 0), -EEXIST);
}

static void open_takes_what_fuse_hands_it(void **state)
{
	struct fixture *f = *state;
	int fd;

	put(f, "a", "x");
	/* FMODE_EXEC, the kernel's O_LARGEFILE; and a mode without O_CREAT */
	fd = OP(f, open, f->l.root, "a", O_RDONLY | 0x20 | 0100000, 0644);
	assert_true(fd >= 0);
	close(fd);
	fd = OP(f, open, f->l.root, "a", O_PATH | O_RDWR | O_APPEND, 0644);
	assert_true(fd >= 0);
	close(fd);
}

static void what_is_in_memory(void **state)
{
	struct fixture *f = *state;
	char buf[4];

	put(f, "a", "xy");
	un_autofd int fd = OP(f, open, f->l.root, "a", O_RDONLY, 0);
	ssize_t n = OP(f, pread_cached, fd, buf, 4, 0);

	assert_int_equal(n, f->l.never_cached ? -EOPNOTSUPP : 2);
	n = OP(f, is_cached, fd);
	assert_true(n == 1 || n == -ENOSYS);
	assert_int_equal(OP(f, will_need, fd, 0, 2), 0);
	assert_int_equal(OP(f, will_need, -1, 0, 2), -EBADF);
}

static void empty_name_reopens(void **state)
{
	struct fixture *f = *state;
	char buf[4];
	int path, fd;

	put(f, "a", "x");
	path = OP(f, open, f->l.root, "a", O_PATH, 0);
	fd = OP(f, open, path, "", O_RDWR, 0);
	assert_true(fd >= 0);
	assert_int_equal(OP(f, pread, fd, buf, sizeof(buf), 0), 1);
	close(fd);
	assert_int_equal(OP(f, unlink, f->l.root, "a", 0), 0);
	fd = OP(f, open, path, "", O_RDONLY, 0);
	assert_true(fd >= 0);
	close(fd);
	close(path);
	fd = OP(f, open, f->l.root, "", O_RDONLY | O_DIRECTORY, 0);
	assert_true(fd >= 0);
	assert_true(OP(f, getdents, fd, (char[512]){ 0 }, 512) > 0);
	close(fd);

	assert_int_equal(OP(f, symlink, "nowhere", f->l.root, "link"), 0);
	path = OP(f, open, f->l.root, "link", O_PATH, 0);
	fd = OP(f, open, path, "", O_PATH, 0);
	assert_true(fd >= 0);
	assert_int_equal(OP(f, readlink, fd, "", buf, sizeof(buf)), 4);
	assert_int_equal(OP(f, open, path, "", O_RDONLY, 0), -ELOOP);
	close(fd);
	close(path);
}

static void tmpfile_is_linked(void **state)
{
	struct fixture *f = *state;
	struct statx st;
	int fd;

	for (int i = 0; i < 2; i++) {
		const char *name = i ? "b" : "a";

		fd = OP(f, open, f->l.root, i ? "." : "", O_TMPFILE | O_RDWR, 0640);
		assert_true(fd >= 0);
		assert_int_equal(OP(f, link, fd, "", f->l.root, name), 0);
		assert_int_equal(OP(f, link, fd, "", f->l.root, name), -EEXIST);
		close(fd);
		assert_int_equal(OP(f, stat, f->l.root, name, &st), 0);
		assert_int_equal(st.stx_nlink, 1);
	}
	assert_int_equal(OP(f, link, f->l.root, "a", f->l.root, "c"), 0);
	assert_int_equal(OP(f, stat, f->l.root, "a", &st), 0);
	assert_int_equal(st.stx_nlink, 2);
}

static void stat_asks_for_all(void **state)
{
	struct fixture *f = *state;
	struct statx st;

	put(f, "a", "x");
	assert_int_equal(OP(f, stat, f->l.root, "a", &st), 0);
	assert_int_equal(st.stx_size, 1);
	assert_int_equal(st.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	assert_false(un_stx_is_mountpoint(&st));
	assert_int_equal(OP(f, stat, f->l.root, "none", &st), -ENOENT);
}

/* A mount in a layer is told, not entered; what we hold ourselves is not one. */
static void mountpoints_are_not_entered(void **state)
{
	struct fixture *f = *state;
	g_autofree char *path = g_strdup_printf("%s/m", f->dir);
	struct un_layer inside = f->l;
	struct statx st;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		skip();
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	close(f->l.root); /* it lies in the namespace left */
	inside.root = f->l.root = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(OP(f, mkdir, f->l.root, "m", 0755), 0);
	assert_int_equal(mount("none", path, "tmpfs", 0, NULL), 0);
	assert_int_equal(OP(f, stat, f->l.root, "m", &st), 0);
	assert_true(un_stx_is_mountpoint(&st));
	assert_int_equal(OP(f, open, f->l.root, "m", O_PATH, 0), -EXDEV);
	assert_int_equal(OP(f, open, f->l.root, "m", O_RDONLY | O_DIRECTORY, 0), -EXDEV);
	assert_int_equal(OP(f, unlink, f->l.root, "m", AT_REMOVEDIR), -EBUSY);
	inside.root = open(path, O_PATH);
	assert_int_equal(inside.ops->stat(&inside, inside.root, "", &st), 0);
	assert_false(un_stx_is_mountpoint(&st));
	close(inside.root);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
}

/* ------------------------------------------------------------------------------------------------ */

static void xattrs_of_files(void **state)
{
	struct fixture *f = *state;
	char buf[256];
	int fd, path;

	put(f, "a", "x");
	if (OP(f, setxattr, f->l.root, "a", "user.k", "v1", 2, 0) == -EOPNOTSUPP)
		skip();
	fd = OP(f, open, f->l.root, "a", O_RDONLY, 0);
	path = OP(f, open, f->l.root, "a", O_PATH, 0);
	assert_int_equal(OP(f, setxattr, f->l.root, "a", "user.k", "v", 1, XATTR_CREATE), -EEXIST);
	assert_int_equal(OP(f, setxattr, f->l.root, "a", "user.n", "v", 1, XATTR_REPLACE),
			 -ENODATA);
	for (int i = 0; i < 3; i++) {
		int at = i == 0 ? f->l.root : i == 1 ? fd : path;
		const char *name = i == 0 ? "a" : "";

		memset(buf, 0, sizeof(buf));
		assert_int_equal(OP(f, getxattr, at, name, "user.k", buf, sizeof(buf)), 2);
		assert_memory_equal(buf, "v1", 2);
		assert_int_equal(OP(f, getxattr, at, name, "user.k", NULL, 0), 2);
		assert_int_equal(OP(f, getxattr, at, name, "user.k", buf, 1), -ERANGE);
		assert_int_equal(OP(f, getxattr, at, name, "user.none", buf, 1), -ENODATA);
		assert_true(OP(f, listxattr, at, name, buf, sizeof(buf)) >= 7);
		assert_non_null(memmem(buf, sizeof(buf), "user.k", 7));
		assert_int_equal(OP(f, setxattr, at, name, "user.z", "1", 1, 0), 0);
		assert_int_equal(OP(f, removexattr, at, name, "user.z"), 0);
		assert_int_equal(OP(f, removexattr, at, name, "user.z"), -ENODATA);
	}
	close(fd);
	close(path);
	assert_int_equal(OP(f, getxattr, f->l.root, "none", "user.k", NULL, 0), -ENOENT);
	assert_int_equal(OP(f, setxattr, f->l.root, "", "user.d", "1", 1, 0), 0);
	assert_int_equal(OP(f, getxattr, f->l.root, "", "user.d", NULL, 0), 1);
}

static void xattrs_of_symlinks_do_not_follow(void **state)
{
	struct fixture *f = *state;
	char buf[16];
	int path;

	put(f, "target", "x");
	assert_int_equal(OP(f, symlink, "target", f->l.root, "link"), 0);
	path = OP(f, open, f->l.root, "link", O_PATH, 0);
	if (OP(f, setxattr, f->l.root, "target", "user.k", "v", 1, 0) == 0) {
		/* Not the target's: symlinks have no user xattrs. */
		assert_true(OP(f, getxattr, f->l.root, "link", "user.k", buf, 16) < 0);
		assert_true(OP(f, getxattr, path, "", "user.k", buf, 16) < 0);
		assert_int_equal(OP(f, setxattr, f->l.root, "link", "user.n", "v", 1, 0), -EPERM);
		assert_int_equal(OP(f, setxattr, path, "", "user.n", "v", 1, 0), -EPERM);
		assert_true(OP(f, removexattr, f->l.root, "link", "user.k") < 0);
		assert_true(OP(f, removexattr, path, "", "user.k") < 0);
		assert_int_equal(OP(f, listxattr, f->l.root, "link", NULL, 0), 0);
		assert_int_equal(OP(f, listxattr, path, "", NULL, 0), 0);
		assert_int_equal(OP(f, getxattr, f->l.root, "target", "user.k", buf, 16), 1);
	}
	if (OP(f, setxattr, f->l.root, "link", "trusted.k", "v", 1, 0) == 0) {
		assert_int_equal(OP(f, getxattr, f->l.root, "link", "trusted.k", buf, 16), 1);
		assert_int_equal(OP(f, getxattr, path, "", "trusted.k", buf, 16), 1);
		assert_int_equal(OP(f, setxattr, path, "", "trusted.k", "vv", 2, 0), 0);
		assert_int_equal(OP(f, getxattr, f->l.root, "target", "trusted.k", buf, 16),
				 -ENODATA);
		assert_int_equal(OP(f, removexattr, path, "", "trusted.k"), 0);
	}
	close(path);
}

static void changes_of_symlinks_do_not_follow(void **state)
{
	struct fixture *f = *state;
	const struct timespec ts[2] = { { 5, 6 }, { 7, 8 } };
	struct statx st;
	int path;

	put(f, "target", "x");
	assert_int_equal(OP(f, symlink, "target", f->l.root, "link"), 0);
	path = OP(f, open, f->l.root, "link", O_PATH, 0);
	assert_int_equal(OP(f, utimens, f->l.root, "link", ts), 0);
	assert_int_equal(OP(f, stat, path, "", &st), 0);
	assert_int_equal(st.stx_mtime.tv_sec, 7);
	assert_int_equal(st.stx_mtime.tv_nsec, 8);
	assert_int_equal(OP(f, utimens, path, "", ts), 0);
	assert_int_equal(OP(f, chown, f->l.root, "link", -1, getgid()), 0);
	assert_int_equal(OP(f, chown, path, "", -1, getgid()), 0);
	assert_int_equal(OP(f, chmod, f->l.root, "link", 0), -EOPNOTSUPP);
	assert_int_equal(OP(f, stat, f->l.root, "target", &st), 0);
	assert_int_equal(st.stx_mode & 0777, 0644);
	assert_true(st.stx_mtime.tv_sec > 7);
	close(path);
}

static void changes_by_name_and_descriptor(void **state)
{
	struct fixture *f = *state;
	const struct timespec ts[2] = { { 5, 6 }, { 7, 8 } };
	struct statx st;
	int fd, path;

	put(f, "a", "x");
	fd = OP(f, open, f->l.root, "a", O_RDWR, 0);
	path = OP(f, open, f->l.root, "a", O_PATH, 0);
	for (int i = 0; i < 3; i++) {
		int at = i == 0 ? f->l.root : i == 1 ? fd : path;
		const char *name = i == 0 ? "a" : "";

		assert_int_equal(OP(f, chmod, at, name, 0600 + i), 0);
		assert_int_equal(OP(f, utimens, at, name, ts), 0);
		assert_int_equal(OP(f, chown, at, name, getuid(), -1), 0);
		assert_int_equal(OP(f, stat, at, name, &st), 0);
		assert_int_equal(st.stx_mode & 0777, 0600 + i);
		assert_int_equal(st.stx_mtime.tv_sec, 7);
	}
	assert_int_equal(OP(f, chmod, f->l.root, "a", 0600), 0);
	assert_int_equal(OP(f, truncate, fd, 100), 0);
	assert_int_equal(OP(f, fsync, fd, false), 0);
	assert_int_equal(OP(f, fsync, fd, true), 0);
	assert_int_equal(OP(f, stat, fd, "", &st), 0);
	assert_int_equal(st.stx_size, 100);
	close(fd);
	close(path);
}

static void data_is_copied(void **state)
{
	struct fixture *f = *state;
	char buf[8] = "";
	int a, b, r;

	put(f, "a", "hello");
	put(f, "b", "");
	a = OP(f, open, f->l.root, "a", O_RDONLY, 0);
	b = OP(f, open, f->l.root, "b", O_RDWR, 0);
	assert_int_equal(OP(f, copy_range, a, 1, b, 0, 100), 4);
	assert_int_equal(OP(f, pread, b, buf, sizeof(buf), 0), 4);
	assert_memory_equal(buf, "ello", 4);
	r = OP(f, fallocate, b, 0, 0, 8192);
	assert_true(r == 0 || r == -EOPNOTSUPP);
	r = OP(f, clone, b, a);
	assert_true(r == 0 || r == -EOPNOTSUPP || r == -ENOTTY || r == -EINVAL);
	close(a);
	close(b);
}

static void names_come_and_go(void **state)
{
	struct fixture *f = *state;
	char name[300];
	struct statx st;

	memset(name, 'n', sizeof(name));
	name[255] = 0;
	put(f, name, "x");
	assert_true(OP(f, getxattr, f->l.root, name, "user.k", NULL, 0) != -ENAMETOOLONG);
	assert_int_equal(OP(f, chmod, f->l.root, name, 0600), 0);
	assert_int_equal(OP(f, rename, f->l.root, name, f->l.root, "b", 0), 0);
	name[255] = 'n';
	name[256] = 0;
	assert_int_equal(OP(f, stat, f->l.root, name, &st), -ENAMETOOLONG);
	assert_int_equal(OP(f, open, f->l.root, name, O_RDONLY, 0), -ENAMETOOLONG);
	assert_int_equal(OP(f, getxattr, f->l.root, name, "user.k", NULL, 0), -ENAMETOOLONG);
	name[256] = 'n';
	name[299] = 0;
	assert_int_equal(OP(f, setxattr, f->l.root, name, "user.k", "v", 1, 0), -ENAMETOOLONG);
	assert_int_equal(OP(f, mkdir, f->l.root, "d", 0700), 0);
	assert_int_equal(OP(f, rename, f->l.root, "b", f->l.root, "d", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(OP(f, unlink, f->l.root, "d", 0), -EISDIR);
	assert_int_equal(OP(f, unlink, f->l.root, "d", AT_REMOVEDIR), 0);
	assert_int_equal(OP(f, mknod, f->l.root, "p", S_IFIFO | 0600, 0), 0);
	assert_int_equal(OP(f, stat, f->l.root, "p", &st), 0);
	assert_true(S_ISFIFO(st.stx_mode));
}

/* ------------------------------------------------------------------------------------------------ */

static void decorators_stack(void **state)
{
	struct fixture *f = *state;
	struct un_fault fault = { .countdown = 2, .err = ENOSPC, .changes_only = true };
	struct un_layer *inner;
	struct statx st;

	un_layer_trace(&f->l);
	un_layer_fault(&f->l, &fault);
	assert_int_equal(OP(f, stat, f->l.root, "", &st), 0);
	assert_int_equal(OP(f, mkdir, f->l.root, "d", 0700), 0);
	assert_false(fault.hit);
	assert_int_equal(OP(f, mkdir, f->l.root, "e", 0700), -ENOSPC);
	assert_true(fault.hit);
	assert_int_equal(OP(f, mkdir, f->l.root, "e", 0700), 0);
	assert_int_equal(fault.calls, 3);
	fault = (struct un_fault){ .countdown = 1, .err = EIO };
	assert_int_equal(OP(f, stat, f->l.root, "", &st), -EIO);
	assert_int_equal(OP(f, stat, f->l.root, "", &st), 0);
	fault.countdown = -1;
	for (int i = 0; i < 5; i++)
		assert_int_equal(OP(f, stat, f->l.root, "", &st), 0);
	un_layer_unfault(&f->l);

	inner = f->l.ops_data;
	f->l.ops = inner->ops;
	f->l.ops_data = NULL;
	g_free(inner);
}

/* The whole table through the trace, which must change no result. */
static int setup_traced(void **state)
{
	struct fixture *f;
	int r = setup_new(state);

	f = *state;
	un_log_set_level(LOG_DEBUG);
	un_layer_trace(&f->l);
	return r;
}

static int teardown_traced(void **state)
{
	struct fixture *f = *state;

	un_log_set_level(LOG_INFO);
	g_free(f->l.ops_data);
	return teardown(state);
}

#define EACH(test)                                                                                 \
	{ #test, test, setup_new, teardown, NULL },                                                \
	{                                                                                          \
#test " (old)", test, setup_old, teardown, NULL                                    \
	}
#define TRACED(test)                                                                               \
	{                                                                                          \
#test " (traced)", test, setup_traced, teardown_traced, NULL                       \
	}

/* Whatever leads elsewhere is refused, in every call. */
static void one_component(void **state)
{
	static const char *const bad[] = { "d/f", "/", "/etc", "d/", "..", "../x", "d/../f" };
	struct fixture *f = *state;
	struct timespec now[2] = { 0 };
	struct statx st;
	char buf[8];

	assert_int_equal(OP(f, mkdir, f->l.root, "d", 0755), 0);
	assert_int_equal(OP(f, mkdir, f->l.root, "e", 0755), 0);
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		const char *n = bad[i];
		int root = f->l.root;

		assert_int_equal(OP(f, open, root, n, O_PATH, 0), -EINVAL);
		assert_int_equal(OP(f, open, root, n, O_CREAT | O_WRONLY, 0600), -EINVAL);
		assert_int_equal(OP(f, stat, root, n, &st), -EINVAL);
		assert_int_equal(OP(f, has, root, n, "x"), -EINVAL);
		assert_int_equal(OP(f, has, root, "d", n), -EINVAL);
		assert_int_equal(OP(f, readlink, root, n, buf, sizeof(buf)), -EINVAL);
		assert_int_equal(OP(f, getxattr, root, n, "user.x", buf, sizeof(buf)), -EINVAL);
		assert_int_equal(OP(f, listxattr, root, n, buf, sizeof(buf)), -EINVAL);
		assert_int_equal(OP(f, setxattr, root, n, "user.x", "y", 1, 0), -EINVAL);
		assert_int_equal(OP(f, removexattr, root, n, "user.x"), -EINVAL);
		assert_int_equal(OP(f, mkdir, root, n, 0755), -EINVAL);
		assert_int_equal(OP(f, mknod, root, n, S_IFREG | 0600, 0), -EINVAL);
		assert_int_equal(OP(f, symlink, "t", root, n), -EINVAL);
		assert_int_equal(OP(f, link, root, n, root, "x"), -EINVAL);
		assert_int_equal(OP(f, link, root, "d", root, n), -EINVAL);
		assert_int_equal(OP(f, rename, root, n, root, "x", 0), -EINVAL);
		assert_int_equal(OP(f, rename, root, "d", root, n, 0), -EINVAL);
		assert_int_equal(OP(f, unlink, root, n, AT_REMOVEDIR), -EINVAL);
		assert_int_equal(OP(f, chown, root, n, geteuid(), getegid()), -EINVAL);
		assert_int_equal(OP(f, chmod, root, n, 0700), -EINVAL);
		assert_int_equal(OP(f, utimens, root, n, now), -EINVAL);
	}
}

static void is_in_a_directory(void **state)
{
	struct fixture *f = *state;
	int root = f->l.root;

	assert_int_equal(OP(f, mkdir, root, "d", 0755), 0);
	assert_int_equal(OP(f, mkdir, root, "out", 0755), 0);
	assert_int_equal(OP(f, symlink, "out", root, "l"), 0);
	un_close(OP(f, open, root, "f", O_CREAT | O_WRONLY, 0600));
	assert_int_equal(OP(f, has, root, "d", "x"), 0);
	assert_int_equal(OP(f, has, root, "none", "x"), 0);
	assert_int_equal(OP(f, has, root, "f", "x"), -ENOTDIR);
	un_close(openat(root, "d/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	un_close(openat(root, "out/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(symlinkat("/nowhere", root, "d/s"), 0);
	assert_int_equal(OP(f, has, root, "d", "x"), 1);
	assert_int_equal(OP(f, has, root, "d", "s"), 1);
	assert_int_equal(OP(f, has, root, "out", "x"), 1);
	/* Not through a symlink. */
	assert_int_equal(OP(f, has, root, "l", "x"), -ENOTDIR);
}

/* A call that a decorator does not know would be made by nobody. */
static void tables_are_complete(void **state)
{
	static const struct un_owners owners = { .squash_uid = true };
	struct fixture *f = *state;
	struct un_layer l = f->l;
	struct recorder rec = { 0 };
	struct un_fault fault = { 0 };

	for (int i = 0; i < 5; i++) {
		void *const *op = (void *const *)l.ops;

		for (size_t k = 0; k < sizeof(*l.ops) / sizeof(*op); k++)
			if (!op[k])
				fail_msg("decorator %d: no call %zu", i, k);
		if (i == 0)
			un_layer_trace(&l);
		else if (i == 1)
			assert_int_equal(un_layer_owner(&l, &owners, false), 0);
		else if (i == 2)
			un_layer_fault(&l, &fault);
		else if (i == 3)
			un_layer_record(&l, &rec, &fault);
	}
	un_layer_unrecord(&l, &rec);
	while (l.ops_data) {
		struct un_layer *inner = l.ops_data;

		l.ops_data = inner->ops_data;
		g_free(inner);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TRACED(tmpfile_is_linked),
		TRACED(xattrs_of_files),
		TRACED(changes_by_name_and_descriptor),
		TRACED(data_is_copied),
		TRACED(names_come_and_go),
		{ "tables_are_complete", tables_are_complete, setup_new, teardown, NULL },
		{ "decorators_stack", decorators_stack, setup_new, teardown, NULL },
		EACH(open_takes_what_fuse_hands_it),
		EACH(what_is_in_memory),
		EACH(empty_name_reopens),
		EACH(tmpfile_is_linked),
		EACH(stat_asks_for_all),
		EACH(mountpoints_are_not_entered),
		EACH(xattrs_of_files),
		EACH(xattrs_of_symlinks_do_not_follow),
		EACH(changes_of_symlinks_do_not_follow),
		EACH(changes_by_name_and_descriptor),
		EACH(data_is_copied),
		EACH(names_come_and_go),
		EACH(open_never_follows),
		EACH(one_component),
		EACH(is_in_a_directory),
		TRACED(is_in_a_directory),
	};

	umask(022);
	all = *un_posix_have();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
