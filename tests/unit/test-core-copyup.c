/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy-up: numbers stay, the kernel is told, and a refused change copies nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>

#include "../lib/core-fixture.h"

/* The same number before and after copy-up, and for a union started later. */
static void numbers_survive_copy_up(void **state)
{
	static const char *const paths[] = { "f", "d", "d/f", "d/l", "d/m", "d/p", "d/e" };
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 f = x\n1 d/f = x\n1 d/l -> t\n2 d/m = middle\n1 d/p fifo\n"
				    "1 d/e/\n2 d/e/x = y");
	uint64_t ino[G_N_ELEMENTS(paths)];

	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
		ino[i] = attrs(fs, paths[i]).stx_ino;
	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		g_autofree char *op = g_strdup_printf("utime %s 950000000", paths[i]);

		must(fs, op);
		assert_int_equal(attrs(fs, paths[i]).stx_ino, ino[i]);
	}
	fs = restart(f);
	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		bool special = strcmp(paths[i], "d/l") == 0 || strcmp(paths[i], "d/p") == 0;

		/* user.* marks cannot be on symlinks and special files. */
		if (!special || f->s.trusted)
			assert_int_equal(attrs(fs, paths[i]).stx_ino, ino[i]);
	}
	same_from_outside(f);
}

static void refused_changes_copy_nothing(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 d/f = f user.a=b\n");
	struct un_inode *inode = find(fs, "d/f");
	struct un_fs_stats stats;
	char buf[16];

	assert_int_equal(un_getxattr(fs, inode, "user.a", buf, sizeof(buf)), 1);
	assert_int_equal(un_getxattr(fs, inode, "user.a", NULL, 0), 1);
	assert_int_equal(un_getxattr(fs, inode, "user.none", buf, sizeof(buf)), -ENODATA);
	assert_int_equal(un_removexattr(fs, inode, "user.none"), -ENODATA);
	assert_int_equal(un_removexattr(fs, inode, "system.posix_acl_access"), 0);
	must_fail(fs, "unlink d/none", ENOENT);
	must_fail(fs, "rmdir d", ENOTEMPTY);
	must_fail(fs, "rmdir d/f", ENOTDIR);
	must_fail(fs, "rename d x", EXDEV);
	must(fs, "fsync d/f");
	must(fs, "fsync d");
	un_fs_stats(fs, &stats);
	assert_int_equal(stats.copyups, 0);
	upper_has(f, "");
	un_inode_put(fs, inode);
}

struct news {
	uint64_t ids[16];
	unsigned n;
};

static void note_stale(void *data, uint64_t id, enum un_stale what)
{
	struct news *v = data;

	if (v->n < G_N_ELEMENTS(v->ids))
		v->ids[v->n++] = id;
}

static void copy_up_is_told(void **state)
{
	struct un_fs *fs = start(*state, "1 d/f = text\n");
	struct un_inode *inode = find(fs, "d/f"), *dir = find(fs, "d");
	struct news news = { 0 };
	unsigned told_of_file = 0, told_of_dir = 0, n;

	un_fs_on_stale(fs, note_stale, &news);
	must(fs, "write d/f X");
	/* Of the directory that something appeared in too: its time of change has moved. */
	for (unsigned i = 0; i < news.n; i++) {
		told_of_file += news.ids[i] == un_inode_id(inode);
		told_of_dir += news.ids[i] == un_inode_id(dir);
	}
	/* Whoever writes asks for the file's attributes again. */
	assert_int_equal(told_of_file, 0);
	assert_true(told_of_dir >= 1);
	n = news.n;
	must(fs, "write d/f Y");
	assert_int_equal(news.n, n);
	un_inode_put(fs, inode);
	un_inode_put(fs, dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(numbers_survive_copy_up),
		T(refused_changes_copy_nothing),
		T(copy_up_is_told),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
