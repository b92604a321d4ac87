/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Flags of rename, and renaming onto itself. Its outcomes under faults: test-core-faults-rename.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "../lib/core-fixture.h"

static void flags_of_rename(void **state)
{
	struct un_fs *fs = start(*state, "u f = f\nu g = g");
	struct un_inode *root = un_inode_get(fs, UN_ROOT_ID);

	assert_int_equal(un_rename(fs, root, "f", root, "x", RENAME_WHITEOUT), -EINVAL);
	assert_int_equal(un_rename(fs, root, "f", root, "x", 1 << 5), -EINVAL);
	assert_int_equal(un_rename(fs, root, "f", root, "g", RENAME_NOREPLACE | RENAME_EXCHANGE),
			 -EINVAL);
	assert_int_equal(un_rename(fs, root, "f", root, "f", 0), 0);
	un_inode_put(fs, root);
	reads(fs, "f", "f");
	/* Names of one inode: nothing happens. */
	must(fs, "link f h");
	must(fs, "rename f h");
	reads(fs, "f", "f");
	reads(fs, "h", "f");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(flags_of_rename),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
