/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Xattrs, where marks are hidden and nested, and set-id bits, which writing clears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "../lib/core-fixture.h"
#include "../lib/stack.h"

static void marks_are_hidden_and_nested(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u f = f overlay.origin= user.x=1\n1 f = low\n");
	const struct un_cred root = { 0 };
	const char *name = f->s.trusted ? "trusted.overlay.opaque" : "user.overlay.opaque";
	struct un_inode *inode = find(fs, "f");
	g_autofree char *disk = NULL;
	char list[1024] = "";
	ssize_t n;

	assert_int_equal(un_listxattr(fs, inode, &root, list, sizeof(list)), sizeof("user.x"));
	assert_string_equal(list, "user.x");
	assert_int_equal(un_listxattr(fs, inode, &root, list, 3), -ERANGE);
	assert_int_equal(un_getxattr(fs, inode, name, list, sizeof(list)), -ENODATA);
	assert_int_equal(un_setxattr(fs, inode, name, "q", 1, 0, false), 0);
	assert_int_equal(un_setxattr(fs, inode, name, "q", 1, XATTR_CREATE, false), -EEXIST);
	assert_int_equal(un_setxattr(fs, inode, "user.n", "q", 1, XATTR_REPLACE, false), -ENODATA);
	assert_int_equal(un_getxattr(fs, inode, name, list, sizeof(list)), 1);
	n = un_listxattr(fs, inode, &root, list, sizeof(list));
	assert_int_equal(n, sizeof("user.x") + strlen(name) + 1);
	disk = stack_disk(&f->s, "upper");
	assert_non_null(strstr(disk, "overlay.overlay.opaque=q"));
	assert_int_equal(un_removexattr(fs, inode, name), 0);
	assert_int_equal(un_removexattr(fs, inode, name), -ENODATA);
	un_inode_put(fs, inode);
}

static void writing_clears_set_id(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 f = text mode=06755\n");
	struct un_inode *inode = find(fs, "f");
	const struct un_cred other = { 12345, 12345, 0 };
	struct un_write w = { .buf = "X", .size = 1 };
	bool killed = true;

	/* Without the privilege in the initial user namespace the upper clears them by itself. */
	if (f->s.root) {
		assert_int_equal(un_write(fs, inode, &w, &other, &killed), 1);
		assert_false(killed);
		assert_int_equal(attrs(fs, "f").stx_mode & 07777, 06755);
	} else {
		must(fs, "chmod f 06755");
	}
	w.kill = true;
	assert_int_equal(un_write(fs, inode, &w, &other, &killed), 1);
	assert_true(killed);
	assert_int_equal(attrs(fs, "f").stx_mode & 07777, 0755);
	assert_int_equal(un_write(fs, inode, &w, &other, &killed), 1);
	assert_false(killed);
	un_inode_put(fs, inode);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(marks_are_hidden_and_nested),
		T(writing_clears_set_id),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
