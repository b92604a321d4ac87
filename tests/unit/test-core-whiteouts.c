/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which whiteouts and opaque directories changes leave in the upper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/stat.h>

#include "../lib/core-fixture.h"

static void what_changes_leave(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 d/f = f\n1 d/g = g\n1 e/h = h\n1 k = k\n");

	must(fs, "list d");
	must(fs, "chmod k 0644");
	upper_has(f, "k");
	must(fs, "unlink d/f");
	upper_has(f, "d/ d/f~ k");
	must(fs, "create d/f 0600");
	upper_has(f, "d/ d/f k");
	must(fs, "unlink d/f");
	must(fs, "mkdir d/f 0700");
	upper_has(f, "d/ d/f/! k");
	must(fs, "rmdir d/f");
	must(fs, "rename d/g d/f");
	upper_has(f, "d/ d/f d/g~ k");
	must(fs, "unlink d/f");
	upper_has(f, "d/ d/f~ d/g~ k");
	must(fs, "rmdir d");
	upper_has(f, "d~ k");
	must(fs, "mkdir d 0755");
	must_fail(fs, "lookup d/g", ENOENT);
	must(fs, "create d/n 0644");
	must(fs, "unlink d/n");
	upper_has(f, "d/! k");
	must(fs, "rename d m");
	/* The name is hidden, and the moved directory needs no mark for it has one. */
	upper_has(f, "d~ k m/!");
	must(fs, "unlink k");
	upper_has(f, "d~ k~ m/!");
	must(fs, "rename e/h k");
	upper_has(f, "d~ e/ e/h~ k m/!");
	same_from_outside(f);
	/* What was never below leaves nothing. */
	fs = f->fs;
	must(fs, "create n 0644");
	must(fs, "unlink n");
	must(fs, "mkdir n 0755");
	must(fs, "rmdir n");
	upper_has(f, "d~ e/ e/h~ k m/!");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_changes_leave),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
