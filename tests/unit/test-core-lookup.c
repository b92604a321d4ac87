/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is seen of merged layers, also of layers that change behind the union's back. */
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
#include "../lib/stack.h"

static void merged_view(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs =
		start(f, "2 d/low = 2\n1 d/low = 1\n1 d/mid = 1\nu d/up = u\n"
			 "2 d/gone = 2\n1 d/gone whiteout\n"
			 "2 o/hidden = 2\n1 o/seen = 1\n1 o/ overlay.opaque=y\n"
			 "2 file-over-dir/x = 2\n1 file-over-dir = 1\n"
			 "2 dir-over-file = 2\n1 dir-over-file/x = 1\n"
			 "2 x = 2\nu x xwhiteout\n"
			 "2 t/gone = 2\n1 t/.wh.gone = x\n2 w/a = 2\n1 w/.wh..wh..opq = x\n"
			 "1 l -> d/low\n1 p fifo mode=0600\n");
	g_autofree char *view = stack_view(fs, 0, NULL), *flat = NULL;
	g_autoptr(GRegex) re = g_regex_new(" (\\d+:\\d+ 1000000000.123456789|links:1)", 0, 0, NULL);

	flat = g_regex_replace(re, view, -1, 0, "", 0, NULL);
	assert_string_equal(flat, " d0755\n"
				  "d d0755\n"
				  "d/low -0644 = 1\n"
				  "d/mid -0644 = 1\n"
				  "d/up -0644 = u\n"
				  "dir-over-file d0755\n"
				  "dir-over-file/x -0644 = 1\n"
				  "file-over-dir -0644 = 1\n"
				  "l l0777 -> d/low\n"
				  "o d0755\n"
				  "o/seen -0644 = 1\n"
				  "p p0600\n"
				  "t d0755\n"
				  "w d0755\n");
	same_from_outside(f);
}

static void revalidation(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs;
	struct un_inode *old;

	stack_init(&f->s, "1 d/f = one\n1 d/g = g\n");
	f->s.revalidate = true;
	f->fs = fs = stack_fs(&f->s);
	must(fs, "list d");
	reads(fs, "d/f", "one");
	old = find(fs, "d/f");
	must_fail(fs, "lookup d/new", ENOENT);
	stack_add(&f->s, "1 d/new = new");
	reads(fs, "d/new", "new");
	stack_add(&f->s, "u d/h = h"); /* a directory appears in the upper */
	reads(fs, "d/h", "h");
	reads(fs, "d/g", "g");
	assert_int_equal(unlink(stack_path(&f->s, "1/d/g")), 0);
	must_fail(fs, "lookup d/g", ENOENT);
	stack_add(&f->s, "u d/f whiteout");
	must_fail(fs, "lookup d/f", ENOENT);
	un_inode_put(fs, old);
	same_from_outside(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(merged_view),
		T(revalidation),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
