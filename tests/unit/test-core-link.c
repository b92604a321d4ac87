/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hard links in the upper and in a lower: which names are one inode, before and after copy-up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "../lib/core-fixture.h"

static void upper_links_are_one_inode(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u a = text\nu d/b == a\n1 x = 1");
	struct un_inode *a = find(fs, "a"), *b = find(fs, "d/b"), *c;
	struct statx st;

	assert_ptr_equal(a, b);
	un_inode_put(fs, b);
	assert_int_equal(attrs(fs, "d/b").stx_nlink, 2);
	must(fs, "link a d/c");
	c = find(fs, "d/c");
	assert_ptr_equal(a, c);
	un_inode_put(fs, c);
	assert_int_equal(attrs(fs, "a").stx_nlink, 3);
	must(fs, "write d/c TEXT");
	reads(fs, "d/b", "TEXT");
	must(fs, "unlink a");
	must(fs, "unlink d/c");
	assert_int_equal(un_getattr(fs, a, &st), 0);
	assert_int_equal(st.stx_nlink, 1);
	must(fs, "unlink d/b");
	assert_int_equal(un_getattr(fs, a, &st), 0);
	assert_int_equal(st.stx_nlink, 0);
	un_inode_put(fs, a);
	same_from_outside(f);
}

static void lower_links_are_inodes_apart(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 a = text\n1 d/b == a\n1 d/c == a\n");
	struct un_inode *a = find(fs, "a"), *b = find(fs, "d/b");
	struct statx sa, sb;

	assert_ptr_not_equal(a, b);
	assert_int_equal(un_getattr(fs, a, &sa), 0);
	assert_int_equal(un_getattr(fs, b, &sb), 0);
	assert_int_equal(sa.stx_ino, sb.stx_ino);
	assert_int_equal(sa.stx_nlink, 3);
	assert_int_equal(sb.stx_nlink, 3);
	/* A copy is a file of its own, with a number of its own; the others are what they were. */
	must(fs, "write a CHANGED");
	assert_int_equal(un_getattr(fs, a, &sa), 0);
	assert_int_not_equal(sa.stx_ino, sb.stx_ino);
	assert_int_equal(sa.stx_nlink, 1);
	reads(fs, "d/b", "text");
	un_inode_put(fs, a);
	un_inode_put(fs, b);
	fs = restart(f);
	reads(fs, "a", "CHANGED");
	reads(fs, "d/b", "text");
	reads(fs, "d/c", "text");
	assert_int_equal(attrs(fs, "a").stx_ino, sa.stx_ino);
	assert_int_equal(attrs(fs, "d/b").stx_ino, sb.stx_ino);
	/* link() of a lower name: both names are one at once. */
	must(fs, "link d/b e");
	a = find(fs, "e");
	b = find(fs, "d/b");
	assert_ptr_equal(a, b);
	un_inode_put(fs, a);
	un_inode_put(fs, b);
	assert_int_equal(attrs(fs, "e").stx_nlink, 2);
	same_from_outside(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(upper_links_are_one_inode),
		T(lower_links_are_inodes_apart),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
