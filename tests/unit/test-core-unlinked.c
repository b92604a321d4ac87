/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is removed and still open, and what never had a name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/core-fixture.h"

static void removed_and_open(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 low = lower\nu up = upper\n1 cp = x\nu cp = copied\n");
	static const char *const names[] = { "low", "up", "cp" };
	static const char *const texts[] = { "lower", "upper", "copied" };
	struct un_inode *inode[3], *root = find(fs, "");
	struct statx st;
	bool killed;
	const struct un_cred me = { geteuid(), getegid(), 0 };

	for (int i = 0; i < 3; i++) {
		g_autofree char *op = g_strconcat("unlink ", names[i], NULL), *text = NULL;
		struct un_write w = { .buf = "NEW", .size = 3 };

		inode[i] = find(fs, names[i]);
		must(fs, op);
		must_fail(fs, op, ENOENT);
		text = read_inode(fs, inode[i]);
		assert_string_equal(text, texts[i]);
		assert_int_equal(un_getattr(fs, inode[i], &st), 0);
		assert_int_equal(st.stx_nlink, 0);
		/* A lower one is copied then, with no name. */
		assert_int_equal(un_write(fs, inode[i], &w, &me, &killed), 3);
		g_free(text);
		text = read_inode(fs, inode[i]);
		assert_memory_equal(text, "NEW", 3);
		assert_string_equal(text + 3, texts[i] + 3);
	}
	/* The names are free for something else. */
	must(fs, "create low 0644");
	must(fs, "mkdir up 0755");
	must(fs, "symlink cp target");
	for (int i = 0; i < 3; i++) {
		g_autofree char *text = read_inode(fs, inode[i]);
		struct statx now;

		assert_memory_equal(text, "NEW", 3);
		assert_int_equal(un_getattr(fs, inode[i], &st), 0);
		now = attrs(fs, names[i]);
		assert_int_not_equal(now.stx_mtime.tv_sec, 0);
		assert_int_equal(un_link(fs, inode[i], root, "again", &now), -ENOENT);
		un_inode_put(fs, inode[i]);
	}
	un_inode_put(fs, root);
	same_from_outside(f);
}

static bool count_entry(void *data, const struct un_dirent *e)
{
	(*(int *)data)++;
	return true;
}

static void removed_directory(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 d/ user.a=b\nu e/\n1 d2/\nu d2/ mode=0711\n");
	static const char *const names[] = { "d", "e", "d2" };
	const struct un_cred me = { geteuid(), getegid(), 0 };
	const struct un_create what = { .mode = S_IFREG | 0600 };

	for (int i = 0; i < 3; i++) {
		g_autofree char *op = g_strconcat("rmdir ", names[i], NULL);
		struct un_inode *dir = find(fs, names[i]), *made = NULL;
		struct statx st, before = attrs(fs, names[i]);
		int n = 0;

		must(fs, op);
		assert_int_equal(un_getattr(fs, dir, &st), 0);
		assert_int_equal(st.stx_nlink, 0);
		assert_int_equal(st.stx_ino, before.stx_ino);
		assert_int_equal(st.stx_mode, before.stx_mode);
		assert_int_equal(un_readdir(fs, dir, 0, true, count_entry, &n), 0);
		assert_int_equal(n, 0);
		assert_int_equal(un_lookup(fs, dir, "x", &made, NULL), -ENOENT);
		assert_int_equal(un_create(fs, dir, "x", &what, true, &me, &made, &st), -ENOENT);
		assert_int_equal(un_tmpfile(fs, dir, &what, &me, &made, &st), -ENOENT);
		assert_int_equal(un_unlink(fs, dir, "x"), -ENOENT);
		assert_int_equal(un_fsync(fs, dir, false), 0);
		un_inode_put(fs, dir);
	}
	same_from_outside(f);
}

static void tmpfiles(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 d/w = lower\nu d/w whiteout\n");
	const struct un_cred me = { geteuid(), getegid(), 0 };
	const struct un_create what = { .mode = S_IFREG | 0600 };
	struct un_inode *dir = find(fs, "d"), *made = NULL, *again;
	struct statx st;

	assert_int_equal(un_tmpfile(fs, dir, &what, &me, &made, &st), 0);
	assert_int_equal(st.stx_nlink, 0);
	assert_int_equal(un_link(fs, made, dir, "w", &st), 0);
	assert_int_equal(st.stx_nlink, 1);
	again = find(fs, "d/w");
	assert_ptr_equal(made, again);
	un_inode_put(fs, again);
	must(fs, "unlink d/w");
	assert_int_equal(un_getattr(fs, made, &st), 0);
	assert_int_equal(st.stx_nlink, 0);
	/* It had a name once: no more. */
	assert_int_equal(un_link(fs, made, dir, "x", &st), -ENOENT);
	un_inode_put(fs, made);
	un_inode_put(fs, dir);
	same_from_outside(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(removed_and_open),
		T(removed_directory),
		T(tmpfiles),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
