/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inodes: how long they live, and that ids are never used again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "../lib/core-fixture.h"

static void forget_counts(void **state)
{
	struct un_fs *fs = start(*state, "1 a = x\nu b = y");
	struct un_inode *a = find(fs, "a"), *again;
	uint64_t id = un_inode_id(a);
	struct un_fs_stats stats;

	for (int i = 0; i < 3; i++)
		un_inode_remember(fs, a);
	un_inode_put(fs, a);
	un_inode_forget(fs, id, 2);
	a = un_inode_get(fs, id);
	assert_non_null(a);
	again = find(fs, "a");
	assert_ptr_equal(a, again);
	un_inode_put(fs, again);
	/* Forgotten, but still in use. */
	un_inode_forget(fs, id, 1);
	reads(fs, "a", "x");
	assert_int_equal(un_inode_id(a), id);
	un_inode_put(fs, a);
	assert_null(un_inode_get(fs, id));
	/* Found anew it is another one: ids are never used again. */
	a = find(fs, "a");
	assert_true(un_inode_id(a) > id);
	un_inode_put(fs, a);
	un_fs_stats(fs, &stats);
	assert_int_equal(stats.inodes, 1);
}

static void forgetting_too_much(void **state)
{
	struct un_fs *fs = start(*state, "1 a = x");
	struct un_inode *a = find(fs, "a");
	uint64_t id = un_inode_id(a);

	un_inode_forget(fs, id, 1); /* was never told of it */
	un_inode_remember(fs, a);
	un_inode_forget(fs, id, 100);
	reads(fs, "a", "x");
	un_inode_put(fs, a);
	assert_null(un_inode_get(fs, id));
	un_inode_forget(fs, id, 1);
	un_inode_forget(fs, 123456, 1);
	un_inode_forget(fs, 0, 1);
	assert_null(un_inode_get(fs, 0));
	assert_null(un_inode_get(fs, 123456));
	assert_null(un_inode_get(fs, UINT64_MAX));
	a = un_inode_get(fs, UN_ROOT_ID);
	assert_non_null(a);
	assert_int_equal(un_inode_id(a), UN_ROOT_ID);
	un_inode_put(fs, a);
	un_inode_put(fs, NULL);
}

/* A directory lives as long as anything in it does, however it is forgotten. */
static void children_keep_parents(void **state)
{
	struct un_fs *fs = start(*state, "1 a/b/c/f = x");
	struct un_inode *file = find(fs, "a/b/c/f"), *dir = find(fs, "a/b/c");
	uint64_t id = un_inode_id(dir);
	struct statx st;

	un_inode_remember(fs, dir);
	un_inode_put(fs, dir);
	un_inode_forget(fs, id, 1);
	assert_int_equal(un_getattr(fs, file, &st), 0);
	must(fs, "write a/b/c/f yy");
	assert_int_equal(un_getattr(fs, file, &st), 0);
	assert_int_equal(st.stx_size, 2);
	dir = un_inode_get(fs, id);
	assert_non_null(dir);
	un_inode_put(fs, dir);
	un_inode_put(fs, file);
	assert_null(un_inode_get(fs, id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(forget_counts),
		T(forgetting_too_much),
		T(children_keep_parents),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
