/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is refused, with which errno; whoever is refused leaves no trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "object/object.h"
#include "../lib/core-fixture.h"
#include "../lib/layer-fault.h"
#include "../lib/stack.h"

static void long_names(void **state)
{
	struct fixture *f = *state;
	g_autofree char *max = g_strnfill(255, 'm'), *over = g_strnfill(256, 'o');
	g_autofree char *low = g_strdup_printf("1 %s = lower\nu f = f\nu d/", max);
	struct un_fs *fs = start(f, low);
	static const char *const ops[] = {
		"lookup %s",
		"create %s 0644",
		"mkdir %s 0755",
		"fifo %s 0644",
		"symlink %s x",
		"unlink %s",
		"rmdir %s",
		"rename %s x",
		"rename f %s",
		"rename d %s",
		"link f %s",
		"rename f %s noreplace",
		"rename f %s exchange",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(ops); i++) {
		g_auto(GStrv) halves = g_strsplit(ops[i], "%s", 2);
		g_autofree char *op = g_strconcat(halves[0], over, halves[1], NULL);

		must_fail(fs, op, ENAMETOOLONG);
	}
	/* One of the greatest length can be all a name can be, deleted in a lower too. */
	for (int i = 0; i < 2; i++) {
		g_autofree char *unlink = g_strconcat("unlink ", max, NULL);
		g_autofree char *create = g_strconcat("create ", max, " 0644", NULL);
		g_autofree char *lookup = g_strconcat("lookup ", max, NULL);
		g_autofree char *move = g_strconcat("rename ", max, " other", NULL);
		g_autofree char *back = g_strconcat("rename other ", max, NULL);

		must(fs, unlink);
		must_fail(fs, lookup, ENOENT);
		must(fs, create);
		must_fail(fs, create, EEXIST);
		must(fs, move);
		must(fs, back);
		fs = restart(f);
	}
	same_from_outside(f);
}

static const char *const errors[][2] = {
	{ "lookup none", "2" },
	{ "lookup none/x", "2" },
	{ "lookup f/x", "20" },
	{ "list f", "20" },
	{ "create f 0644", "17" },
	{ "create d 0644", "17" },
	{ "create low 0644", "17" },
	{ "create none/x 0644", "2" },
	{ "create f/x 0644", "20" },
	{ "mkdir f 0755", "17" },
	{ "mkdir low 0755", "17" },
	{ "mkdir f/x 0755", "20" },
	{ "symlink l x", "17" },
	{ "mknod new 0644 0:0", "1" }, /* a whiteout made by hand */
	{ "unlink none", "2" },
	{ "unlink gone", "2" },
	{ "unlink d", "21" },
	{ "unlink lowdir", "21" },
	{ "unlink f/x", "20" },
	{ "rmdir none", "2" },
	{ "rmdir f", "20" },
	{ "rmdir low", "20" },
	{ "rmdir d", "39" },
	{ "rmdir lowdir", "39" },
	{ "rename none x", "2" },
	{ "rename gone x", "2" },
	{ "rename f none/x", "2" },
	{ "rename f d", "21" },
	{ "rename d f", "20" },
	{ "rename d e", "39" },
	{ "rename d lowdir", "39" },
	{ "rename f g noreplace", "17" },
	{ "rename f low noreplace", "17" },
	{ "rename f none exchange", "2" },
	{ "rename f gone exchange", "2" },
	{ "rename d d/new", "22" },
	{ "rename lowdir x", "18" },
	{ "rename merged x", "18" },
	{ "rename d merged exchange", "18" },
	{ "rename d lowdir exchange", "18" },
	{ "link d x", "1" },
	{ "link f g", "17" },
	{ "link f low", "17" },
	{ "link none x", "2" },
	{ "write d x", "21" },
	{ "write l x", "22" },
	{ "truncate d 0", "21" },
	{ "truncate p 0", "22" },
	{ "chmod l 0600", "95" },
	{ "rmxattr f user.none", "61" },
	{ "rmxattr low user.none", "61" },
	/* Marks that are not followed. */
	{ "lookup redirected", "1" },
	{ "lookup meta", "1" },
	{ "lookup redirected/x", "1" },
};

#define ERRORS_STACK                                                                               \
	"u f = f\nu g = g\nu d/x = x\nu e/y = y\n1 low = low\n1 lowdir/z = z\nu l -> f\n"          \
	"u p fifo\n1 merged/a = a\nu merged/b = b\n1 gone = gone\nu gone whiteout\n"               \
	"u redirected/ overlay.redirect=other\n1 redirected/q = q\n1 meta = data\n"                \
	"u meta = x size=100000 overlay.metacopy=\n"

static void expected_errors(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, ERRORS_STACK);
	g_autofree char *before = NULL, *after = NULL;

	must(fs, "lookup merged"); /* gets its origin */
	for (int listed = 0; listed < 2; listed++) {
		before = stack_disk(&f->s, "upper");
		for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
			must_fail(fs, errors[i][0], atoi(errors[i][1]));
			/* Whoever is refused leaves no trace. */
			g_free(after);
			after = stack_disk(&f->s, "upper");
			if (strcmp(before, after) != 0)
				fail_msg("%s: changed the upper:\n%s->\n%s", errors[i][0], before,
					 after);
		}
		g_clear_pointer(&before, g_free);
		must(fs, "list ");
		must(fs, "list d");
		must(fs, "list e");
		must(fs, "list merged");
	}
}

static void read_only_union(void **state)
{
	static const char *const ops[] = {
		"create x 0644",
		"mkdir x 0755",
		"symlink x y",
		"unlink f",
		"rmdir d",
		"rename f x",
		"link f x",
		"write f x",
		"truncate f 0",
		"chmod f 0600",
		"utime f 1",
		"tmpfile d x",
		"setxattr f user.x y",
		"rmxattr f user.a",
		"fallocate f 10",
		"unlink none2/x",
	};
	struct fixture *f = *state;
	g_autofree char *disk = NULL, *after = NULL;
	struct un_fs *fs;

	stack_init(&f->s, "1 f = text user.a=b\n1 d/\n");
	disk = stack_disk(&f->s, "1");
	f->s.has_upper = false;
	f->fs = fs = stack_fs(&f->s);
	for (size_t i = 0; i + 1 < G_N_ELEMENTS(ops); i++)
		must_fail(fs, ops[i], EROFS);
	must_fail(fs, "unlink none2/x", ENOENT);
	reads(fs, "f", "text");
	must(fs, "list ");
	after = stack_disk(&f->s, "1");
	assert_string_equal(disk, after);
}

/*
 * Making something, while from some moment on nothing can be asked any more: the call fails, and the
 * name is free, or a whiteout, as before.
 */
static void nothing_stays_of_a_failed_making(void **state)
{
	static const char *const ops[] = {
		"create w 0600",  "create d/w 0644", "mkdir w 0755",    "mkdir d/w 0700",
		"symlink w x",    "symlink d/w x",   "fifo w 0644",     "create new 0600",
		"mkdir new 0700", "symlink new x",   "create d/n 0644", "tmpfile d text d/w",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < G_N_ELEMENTS(ops); i++) {
		bool hit = true;

		for (int n = 1; hit; n++) {
			struct un_fs *fs = start(f, "1 w/x = low\n1 d/w = low\nu w whiteout\n"
						    "u d/ overlay.origin=\nu d/w whiteout\n");
			struct un_fault fault = {
				.countdown = n, .err = EIO, .stats_only = true, .lasting = true
			};
			int r;

			must(fs, "list ");
			must(fs, "list d");
			un_layer_fault(fs->upper, &fault);
			r = stack_do(fs, ops[i]);
			un_layer_unfault(fs->upper);
			hit = fault.hit;
			assert_true(hit || r == 0);
			if (r < 0)
				upper_has(f, "d/ d/w~ w~");
			core_teardown(state);
			core_setup(state);
			f = *state;
		}
	}
}

/* A question that fails is no answer: whoever asks whether a directory is empty hears of it. */
static void unanswered_is_not_full(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 d/x = low\n1 e/\nu d/\n");
	bool hit = true;

	must(fs, "list d");
	for (int n = 1; hit; n++) {
		struct un_fault fault = {
			.countdown = n, .err = EIO, .stats_only = true, .lasting = true
		};
		int r;

		un_layer_fault(&fs->layers->v[1], &fault);
		r = stack_do(fs, "rmdir d");
		un_layer_unfault(&fs->layers->v[1]);
		hit = fault.hit;
		assert_int_equal(r, hit ? -EIO : -ENOTEMPTY);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(long_names),
		T(expected_errors),
		T(read_only_union),
		T(nothing_stays_of_a_failed_making),
		T(unanswered_is_not_full),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
