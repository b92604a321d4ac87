/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What union.h promises, on real layers without FUSE; failures of the layers are test-core-faults.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../lib/stack.h"
/* Included for what the daemon cannot be asked for: descriptors that are gone at a chosen moment. */
#include "../../src/core/core_i.h"

/* Whatever hangs is a failure. */
#define TIME_LIMIT 60

struct fixture {
	struct stack s;
	struct un_fs *fs;
	unsigned fds;
	struct rlimit nofile;
};

static atomic_uint criticals;

/* GLib's complaints about wrong arguments fail the test. */
static void count_critical(const char *domain, GLogLevelFlags level, const char *text, void *data)
{
	if (atomic_fetch_add(&criticals, 1) == 0)
		print_message("%s\n", text);
}

static int setup(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	alarm(TIME_LIMIT);
	g_log_set_default_handler(count_critical, NULL);
	criticals = 0;
	f->fds = stack_count_fds();
	getrlimit(RLIMIT_NOFILE, &f->nofile);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	un_fs_free(f->fs);
	setrlimit(RLIMIT_NOFILE, &f->nofile);
	if (f->s.text)
		stack_done(&f->s);
	alarm(0);
	g_free(f);
	return criticals > 0;
}

static struct un_fs *start(struct fixture *f, const char *text)
{
	stack_init(&f->s, text);
	f->fs = stack_fs(&f->s);
	return f->fs;
}

/* Ends the union, which must leave nothing, and starts another. */
static struct un_fs *restart(struct fixture *f)
{
	g_autofree char *work = NULL;

	un_fs_free(f->fs);
	f->fs = NULL;
	work = stack_ls(&f->s, "work/work");
	assert_string_equal(work, "");
	assert_int_equal(stack_count_fds(), f->fds);
	f->fs = stack_fs(&f->s);
	return f->fs;
}

static struct un_inode *find(struct un_fs *fs, const char *path)
{
	int r;
	struct un_inode *inode = stack_find(fs, path, &r);

	if (r < 0)
		fail_msg("%s: %s", path, g_strerror(-r));
	return inode;
}

static struct statx attrs(struct un_fs *fs, const char *path)
{
	struct un_inode *inode = find(fs, path);
	struct statx st;

	assert_int_equal(un_getattr(fs, inode, &st), 0);
	un_inode_put(fs, inode);
	return st;
}

static char *read_inode(struct un_fs *fs, struct un_inode *inode)
{
	char buf[8192];
	ssize_t n = un_read(fs, inode, buf, sizeof(buf) - 1, 0);

	if (n < 0)
		return g_strdup_printf("!%s", g_strerror((int)-n));
	return g_strndup(buf, (size_t)n);
}

static void reads(struct un_fs *fs, const char *path, const char *text)
{
	struct un_inode *inode = find(fs, path);
	g_autofree char *got = read_inode(fs, inode);

	un_inode_put(fs, inode);
	assert_string_equal(got, text);
}

static void must(struct un_fs *fs, const char *op)
{
	int r = stack_do(fs, op);

	if (r < 0)
		fail_msg("%s: %s", op, g_strerror(-r));
}

static void must_fail(struct un_fs *fs, const char *op, int errnum)
{
	int r = stack_do(fs, op);

	if (r != -errnum)
		fail_msg("%s: %s, expected %s", op, g_strerror(r < 0 ? -r : 0), g_strerror(errnum));
}

/* The union and one started later show the same tree, in which nothing is wrong. */
static void same_from_outside(struct fixture *f)
{
	g_autofree char *names = stack_names(&f->s);
	g_autofree char *living = stack_view(f->fs, STACK_VIEW_NAMES, names);
	g_autofree char *outside = NULL;

	restart(f);
	outside = stack_view(f->fs, STACK_VIEW_NAMES, names);
	assert_null(strstr(living, " !"));
	assert_string_equal(living, outside);
}

static void limit_descriptors(void)
{
	/* A budget of 64: un_fs_new() keeps the rest for what is not in its cache. */
	struct rlimit lim;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = 114;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

/* ------------------------------------------------------------------------------------------------
 * Inodes
 */

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

/* ------------------------------------------------------------------------------------------------
 * Errors
 */

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

/* ------------------------------------------------------------------------------------------------
 * What is seen, what is left on the disk
 */

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

/* Of every line of the upper but its root: name and kind. */
static void upper_has(struct fixture *f, const char *want)
{
	g_autofree char *disk = stack_disk(&f->s, "upper");
	g_auto(GStrv) lines = g_strsplit(disk, "\n", -1);
	GString *got = g_string_new("");

	for (char **p = lines + 1; *p && **p; p++) {
		g_auto(GStrv) w = g_strsplit(*p, " ", 3);
		unsigned mode = (unsigned)strtoul(w[1], NULL, 8);
		const char *opaque = strstr(*p, "overlay.opaque=y") ? "!" : "";

		g_string_append_printf(got, "%s%s%s%s", got->len ? " " : "", w[0],
				       S_ISDIR(mode)   ? "/"
				       : S_ISCHR(mode) ? "~"
						       : "",
				       opaque);
	}
	if (strcmp(got->str, want) != 0)
		fail_msg("the upper has \"%s\", expected \"%s\"", got->str, want);
	g_string_free(got, TRUE);
}

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

/* ------------------------------------------------------------------------------------------------
 * Open and removed
 */

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

/* ------------------------------------------------------------------------------------------------
 * Listing
 */

struct listing {
	struct un_fs *fs;
	GHashTable *seen;
	uint64_t cookie;
	unsigned stop_after, taken;
	unsigned twice;
};

static bool take(void *data, const struct un_dirent *e)
{
	struct listing *l = data;

	if (l->taken == l->stop_after)
		return false;
	assert_true(e->cookie > l->cookie);
	l->cookie = e->cookie;
	l->taken++;
	if (e->cookie > 2 && !g_hash_table_add(l->seen, g_strdup(e->name)))
		l->twice++;
	/* What is taken is ours. */
	un_inode_put(l->fs, e->inode);
	return true;
}

/* In pieces, while names come and go: what was there all the time is seen once. */
static void listing_while_it_changes(void **state)
{
	struct fixture *f = *state;
	struct listing l = { .stop_after = 7 };
	struct un_inode *dir;
	struct un_fs *fs;

	stack_init(&f->s, "1 d/\nu d/");
	for (int i = 0; i < 100; i++) {
		g_autofree char *line = g_strdup_printf("%s d/keep%d = x\n%s d/go%d = x",
							i % 2 ? "u" : "1", i, i % 2 ? "1" : "u", i);

		stack_add(&f->s, line);
	}
	f->fs = fs = stack_fs(&f->s);
	dir = find(fs, "d");
	l.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	for (int i = 0;; i++) {
		l.taken = 0;
		l.fs = fs;
		assert_int_equal(un_readdir(fs, dir, l.cookie, i % 2, take, &l), 0);
		if (l.taken == 0)
			break;
		for (int k = 0; k < 4 && i * 4 + k < 100; k++) {
			g_autofree char *gone = g_strdup_printf("unlink d/go%d", i * 4 + k);
			g_autofree char *made = g_strdup_printf("create d/new%d 0644", i * 4 + k);

			must(fs, gone);
			must(fs, made);
		}
		if (i == 9) {
			/* Built anew from nothing, positions stay good. */
			un_inode_put(fs, dir);
			fs = restart(f);
			dir = find(fs, "d");
		}
	}
	assert_int_equal(l.twice, 0);
	for (int i = 0; i < 100; i++) {
		g_autofree char *name = g_strdup_printf("keep%d", i);

		assert_true(g_hash_table_contains(l.seen, name));
	}
	un_inode_put(fs, dir);
	g_hash_table_destroy(l.seen);
	same_from_outside(f);
}

/* ------------------------------------------------------------------------------------------------
 * Set-id bits, news for the kernel
 */

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

struct news {
	uint64_t ids[16];
	unsigned n;
};

static void note_stale(void *data, uint64_t id, bool listing)
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
	assert_int_equal(told_of_file, 1);
	assert_true(told_of_dir >= 1);
	n = news.n;
	must(fs, "write d/f Y");
	assert_int_equal(news.n, n);
	un_inode_put(fs, inode);
	un_inode_put(fs, dir);
}

/* ------------------------------------------------------------------------------------------------
 * Threads
 */

#define THREADS 8

struct worker {
	pthread_t thread;
	struct fixture *f;
	unsigned index;
	unsigned seed;
	uint64_t until; /* monotonic, us */
	uint64_t done;
	char wrong[400];
};

static bool may_happen(int r)
{
	switch (-r) {
	case ENOENT:
	case EEXIST:
	case ENOTEMPTY:
	case EISDIR:
	case ENOTDIR:
	case EXDEV:
	case EINVAL:     /* into itself; not a regular file */
	case EOPNOTSUPP: /* chmod of a symlink */
	case EPERM:      /* link of a directory */
	case ELOOP:
	case ESTALE: /* the kernel looks again then */
	case ENODATA:
		return true;
	default:
		return r >= 0;
	}
}

static void random_path(unsigned *seed, char *ret, size_t size)
{
	static const char *const dirs[] = { "d0", "d1", "d2/e", "d2", "" };
	const char *dir = dirs[(unsigned)rand_r(seed) % G_N_ELEMENTS(dirs)];

	snprintf(ret, size, "%s%sn%u", dir, *dir ? "/" : "", (unsigned)rand_r(seed) % 12);
}

static void random_op(unsigned *seed, char *op, size_t size)
{
	static const char *const one[] = {
		"lookup %s",
		"lookup %s",
		"create %s 0644",
		"create %s 0600",
		"mkdir %s 0755",
		"symlink %s tgt",
		"unlink %s",
		"unlink %s",
		"rmdir %s",
		"write %s AAAAAAAA",
		"write %s BBBBBBBBBBBB 2",
		"truncate %s 3",
		"chmod %s 0750",
		"setxattr %s user.a b",
		"rmxattr %s user.a",
		"fifo %s 0644",
		"utime %s 12345",
		"list %s",
	};
	static const char *const two[] = { "rename %s %s", "rename %s %s", "rename %s %s exchange",
					   "rename %s %s noreplace", "link %s %s" };
	char a[32], b[32];
	unsigned k = (unsigned)rand_r(seed) % (G_N_ELEMENTS(one) + 2 * G_N_ELEMENTS(two) + 1);

	random_path(seed, a, sizeof(a));
	random_path(seed, b, sizeof(b));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	if (k < G_N_ELEMENTS(one))
		snprintf(op, size, one[k], a);
	else if (k < G_N_ELEMENTS(one) + 2 * G_N_ELEMENTS(two))
		snprintf(op, size, two[(k - G_N_ELEMENTS(one)) / 2], a, b);
	else
		snprintf(op, size, "tmpfile d0 temporary %s", a);
#pragma GCC diagnostic pop
}

static void *mixed_work(void *data)
{
	struct worker *w = data;
	char op[200];

	un_ignore(unshare(CLONE_FS)); /* as the daemon's workers: a umask of its own */
	while ((uint64_t)g_get_monotonic_time() < w->until && !w->wrong[0]) {
		int r;

		random_op(&w->seed, op, sizeof(op));
		r = stack_do(w->f->fs, op);
		w->done++;
		if (!may_happen(r))
			snprintf(w->wrong, sizeof(w->wrong), "%s: %s", op, g_strerror(-r));
		if (rand_r(&w->seed) % 64 == 0)
			un_fs_idle(w->f->fs);
	}
	return NULL;
}

static void run_threads(struct worker w[THREADS], struct fixture *f, void *(*fn)(void *data))
{
	for (unsigned i = 0; i < THREADS; i++) {
		w[i].f = f;
		w[i].index = i;
		w[i].seed += i * 7919 + 1;
		assert_int_equal(pthread_create(&w[i].thread, NULL, fn, &w[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		if (w[i].wrong[0])
			fail_msg("%s", w[i].wrong);
}

static void eight_threads(void **state, bool few_descriptors)
{
	struct fixture *f = *state;
	struct worker w[THREADS] = { 0 };
	g_autofree char *lower = NULL, *after = NULL, *names = NULL;
	const char *seed_text = getenv("UN_TEST_SEED");
	unsigned seed = seed_text ? (unsigned)atoi(seed_text) : (unsigned)g_random_int();
	uint64_t done = 0;
	GString *all;

	stack_init(&f->s, "1 d0/\n1 d1/\n1 d2/e/\nu d1/\nu d2/e/\n2 d2/\n");
	for (int i = 0; i < 12; i++) {
		g_autofree char *line = g_strdup_printf(
			"1 d0/n%d = lower user.a=b\n%s d1/n%d = x\n2 d2/e/n%d = deep\n"
			"1 d2/n%d/n1 = y\n1 n%d -> t",
			i, i % 2 ? "u" : "1", i, i, i, i);
		if (i < 9)
			stack_add(&f->s, line);
	}
	lower = stack_disk(&f->s, "1");
	if (few_descriptors)
		limit_descriptors();
	f->fs = stack_fs(&f->s);
	for (unsigned i = 0; i < THREADS; i++) {
		w[i].seed = seed;
		w[i].until = (uint64_t)g_get_monotonic_time() + 2000000;
	}
	print_message("seed %u\n", seed);
	run_threads(w, f, mixed_work);
	for (unsigned i = 0; i < THREADS; i++)
		done += w[i].done;
	print_message("%" PRIu64 " operations\n", done);
	all = g_string_new("");
	for (int i = 0; i < 12; i++)
		g_string_append_printf(all, "n%d ", i);
	names = g_string_free(all, FALSE);
	{
		g_autofree char *living = stack_view(f->fs, STACK_VIEW_NAMES, names);
		g_autofree char *outside = NULL;

		assert_null(strstr(living, " !"));
		restart(f);
		outside = stack_view(f->fs, STACK_VIEW_NAMES, names);
		assert_string_equal(living, outside);
	}
	after = stack_disk(&f->s, "1");
	assert_string_equal(lower, after);
}

static void eight_threads_at_work(void **state)
{
	eight_threads(state, false);
}

static void eight_threads_few_descriptors(void **state)
{
	eight_threads(state, true);
}

static pthread_barrier_t barrier;

#define ROUNDS 40

static void *last_unlinker(void *data)
{
	struct worker *w = data;

	un_ignore(unshare(CLONE_FS));
	for (int i = 0; i < ROUNDS * 10; i++) {
		char op[100];
		int r;

		snprintf(op, sizeof(op), "unlink d%u/%d", w->index, i);
		pthread_barrier_wait(&barrier);
		r = stack_do(w->f->fs, op);
		if (r < 0)
			snprintf(w->wrong, sizeof(w->wrong), "%s: %s", op, g_strerror(-r));
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/*
 * All names of an open file go at once: it stays usable, whatever is evicted then.
 */
static void names_that_go_at_once(void **state)
{
	struct fixture *f = *state;
	struct worker w[THREADS] = { 0 };
	struct un_inode *held[ROUNDS * 10];
	unsigned lost = 0, linked = 0;
	struct un_fs *fs;

	stack_init(&f->s, "u x = 1");
	for (int i = 0; i < THREADS; i++) {
		g_autofree char *line = g_strdup_printf("u d%d/", i);

		stack_add(&f->s, line);
	}
	f->fs = fs = stack_fs(&f->s);
	for (int i = 0; i < ROUNDS * 10; i++) {
		g_autofree char *create = g_strdup_printf("create d0/%d 0644", i);
		g_autofree char *write = g_strdup_printf("write d0/%d text", i);

		must(fs, create);
		must(fs, write);
		for (int k = 1; k < THREADS; k++) {
			g_autofree char *link = g_strdup_printf("link d0/%d d%d/%d", i, k, i);

			must(fs, link);
		}
		write[strlen(write) - strlen(" text")] = '\0';
		held[i] = find(fs, write + strlen("write "));
	}
	pthread_barrier_init(&barrier, NULL, THREADS);
	run_threads(w, f, last_unlinker);
	pthread_barrier_destroy(&barrier);
	/* What happens if other threads need the room. */
	while (un_fdcache_squeeze(fs->fds))
		;
	for (int i = 0; i < ROUNDS * 10; i++) {
		g_autofree char *text = read_inode(fs, held[i]);
		struct statx st;

		lost += strcmp(text, "text") != 0;
		linked +=
			un_getattr(fs, held[i], &st) < 0 || st.stx_nlink != 0 || !held[i]->unlinked;
		un_inode_put(fs, held[i]);
	}
	if (lost || linked)
		fail_msg("%u of %d files are lost, %u do not look unlinked", lost, ROUNDS * 10,
			 linked);
	same_from_outside(f);
}

static void *first_writer(void *data)
{
	struct worker *w = data;

	for (int i = 0; i < ROUNDS; i++) {
		char op[100];
		int r;

		snprintf(op, sizeof(op), "write d%d/e/f %c%c %u", i, 'a' + w->index, 'a' + w->index,
			 w->index * 2);
		pthread_barrier_wait(&barrier);
		r = stack_do(w->f->fs, op);
		if (r < 0)
			snprintf(w->wrong, sizeof(w->wrong), "%s: %s", op, g_strerror(-r));
	}
	return NULL;
}

static void first_writers_copy_once(void **state)
{
	struct fixture *f = *state;
	struct worker w[THREADS] = { 0 };
	struct un_fs_stats stats;

	stack_init(&f->s, "");
	for (int i = 0; i < ROUNDS; i++) {
		g_autofree char *line = g_strdup_printf("1 d%d/e/f = 0123456789012345TAIL", i);

		stack_add(&f->s, line);
	}
	f->fs = stack_fs(&f->s);
	pthread_barrier_init(&barrier, NULL, THREADS);
	run_threads(w, f, first_writer);
	pthread_barrier_destroy(&barrier);
	un_fs_stats(f->fs, &stats);
	assert_int_equal(stats.copyups, 3 * ROUNDS);
	assert_int_equal(stats.copied_bytes, ROUNDS * strlen("0123456789012345TAIL"));
	for (int i = 0; i < ROUNDS; i++) {
		g_autofree char *path = g_strdup_printf("d%d/e/f", i);

		reads(f->fs, path, "aabbccddeeffgghhTAIL");
	}
	same_from_outside(f);
}

struct user {
	struct worker w;
	struct un_inode *inode;
	const char *const *ops; /* one after the other, for ever; NULL: use the inode instead */
};

static void *use_or_change(void *data)
{
	struct user *u = data;
	struct un_fs *fs = u->w.f->fs;
	const struct un_cred me = { geteuid(), getegid(), 0 };
	const struct un_write write = { .buf = "x", .size = 1 };

	un_ignore(unshare(CLONE_FS));
	for (unsigned i = 0; (uint64_t)g_get_monotonic_time() < u->w.until && !u->w.wrong[0]; i++) {
		struct statx st;
		char buf[8];
		bool killed;
		int r;

		if (u->ops) {
			if (!u->ops[i])
				i = 0;
			r = stack_do(fs, u->ops[i]);
			if (r < 0)
				snprintf(u->w.wrong, sizeof(u->w.wrong), "%s: %s", u->ops[i],
					 g_strerror(-r));
			u->w.done++;
			continue;
		}
		r = i % 3 == 0   ? un_getattr(fs, u->inode, &st)
		    : i % 3 == 1 ? (int)un_write(fs, u->inode, &write, &me, &killed)
				 : (int)un_read(fs, u->inode, buf, sizeof(buf), 0);
		/* The descriptor went, as when others need the room. */
		un_fs_idle(fs);
		un_fs_idle(fs);
		if (r < 0)
			snprintf(u->w.wrong, sizeof(u->w.wrong), "%s after %u uses: %s",
				 i % 3 == 0   ? "getattr"
				 : i % 3 == 1 ? "write"
					      : "read",
				 i, g_strerror(-r));
		u->w.done++;
	}
	return NULL;
}

/* One thread changes the names of a file that two others have open. */
static void used_while_renamed(struct fixture *f, const char *const *ops)
{
	struct user u[3] = { 0 };
	struct un_fs *fs = start(f, "1 other = o\nu f = text\nu d/\n1 w = w\nu w whiteout\n");

	for (int i = 0; i < 3; i++) {
		u[i].w.f = f;
		u[i].w.until = (uint64_t)g_get_monotonic_time() + 500000;
		u[i].inode = find(fs, "f");
		u[i].ops = i ? NULL : ops;
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&u[i].w.thread, NULL, use_or_change, &u[i]), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(u[i].w.thread, NULL);
	for (int i = 0; i < 3; i++)
		un_inode_put(fs, u[i].inode);
	for (int i = 0; i < 3; i++)
		if (u[i].w.wrong[0])
			fail_msg("%s", u[i].w.wrong);
	same_from_outside(f);
}

/*
 * Between the change on the disk and its bookkeeping the inode must not be sought under the name it
 * had: that is ESTALE, or what comes of opening something else that is there now (ENXIO of a fifo).
 */
static void open_file_is_renamed(void **state)
{
	static const char *const ops[] = { "rename f d/g", "rename d/g f", NULL };

	used_while_renamed(*state, ops);
}

static void open_file_is_exchanged(void **state)
{
	static const char *const ops[] = { "rename f other exchange", NULL };

	used_while_renamed(*state, ops);
}

static void open_file_is_linked_and_unlinked(void **state)
{
	static const char *const ops[] = { "link f d/g", "unlink f", "link d/g f", "unlink d/g",
					   NULL };

	used_while_renamed(*state, ops);
}

/* The last name goes while the file is written. */
static void open_file_is_unlinked(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 x = 1");
	struct user u[2] = { 0 };

	for (int round = 0; round < 300; round++) {
		must(fs, "create f 0644");
		for (int i = 0; i < 2; i++) {
			u[i].w.f = f;
			u[i].w.until = (uint64_t)g_get_monotonic_time() + 2000;
			u[i].inode = find(fs, "f");
			assert_int_equal(pthread_create(&u[i].w.thread, NULL, use_or_change, &u[i]),
					 0);
		}
		must(fs, "unlink f");
		must(fs, "fifo f 0644");
		must(fs, "unlink f");
		for (int i = 0; i < 2; i++) {
			pthread_join(u[i].w.thread, NULL);
			un_inode_put(fs, u[i].inode);
			if (u[i].w.wrong[0])
				fail_msg("round %d: %s", round, u[i].w.wrong);
		}
	}
	same_from_outside(f);
}

/* ------------------------------------------------------------------------------------------------
 * Few descriptors
 */

#define DEEP 60
#define MANY 2000

static void make_many(struct fixture *f)
{
	GString *path = g_string_new("deep");

	stack_init(&f->s, "1 deep/\nu deep/\n");
	for (int i = 0; i < DEEP; i++) {
		g_autofree char *line =
			g_strdup_printf("%s %s/f = at%d", i % 3 ? "1" : "u", path->str, i);

		stack_add(&f->s, line);
		g_string_append_printf(path, "/d%d", i);
	}
	g_string_free(path, TRUE);
	for (int i = 0; i < MANY; i++) {
		g_autofree char *at = g_strdup_printf("%s/many/%d", i % 2 ? "1" : "upper", i % 50);
		g_autofree char *file = g_strdup_printf("%s/f%d", at, i);
		g_autofree char *text = g_strdup_printf("text %d", i);

		g_mkdir_with_parents(stack_path(&f->s, at), 0755);
		assert_true(g_file_set_contents(stack_path(&f->s, file), text, -1, NULL));
	}
}

static void check_descriptors(struct un_fs *fs)
{
	struct un_fs_stats stats;

	un_fs_stats(fs, &stats);
	assert_true(stats.descriptors <= 64);
}

static void few_descriptors(void **state)
{
	struct fixture *f = *state;
	struct un_inode **held = g_new0(struct un_inode *, MANY);
	GString *path = g_string_new("deep");
	struct un_fs *fs;

	make_many(f);
	limit_descriptors();
	f->fs = fs = stack_fs(&f->s);
	/* Everything is held, as by a kernel with room, and read, written and listed crosswise. */
	for (int i = 0; i < MANY; i++) {
		g_autofree char *name = g_strdup_printf("many/%d/f%d", i % 50, i);
		g_autofree char *text = g_strdup_printf("text %d", i);

		held[i] = find(fs, name);
		reads(fs, name, text);
		check_descriptors(fs);
	}
	for (int i = 0; i < MANY; i += 7) {
		g_autofree char *op = g_strdup_printf("write many/%d/f%d TEXT", i % 50, i);

		must(fs, op);
		check_descriptors(fs);
	}
	for (int i = 0; i < DEEP; i++) {
		g_autofree char *name = g_strdup_printf("%s/f", path->str);
		g_autofree char *text = g_strdup_printf("at%d", i);
		g_autofree char *op = g_strdup_printf("rename %s/f %s/g", path->str, path->str);

		reads(fs, name, text);
		must(fs, op);
		g_string_append_printf(path, "/d%d", i);
		check_descriptors(fs);
	}
	for (int i = MANY - 1; i >= 0; i--) {
		g_autofree char *text = g_strdup_printf("%s %d", i % 7 ? "text" : "TEXT", i);
		g_autofree char *got = read_inode(fs, held[i]);

		assert_string_equal(got, text);
		un_inode_put(fs, held[i]);
	}
	g_free(held);
	g_string_free(path, TRUE);
	same_from_outside(f);
}

/* A directory moved while its descendants have no descriptors: they are found at the new place. */
static void moved_and_evicted(void **state)
{
	struct fixture *f = *state;
	struct un_inode *file, *more[150];
	g_autofree char *text = NULL;
	struct un_fs *fs;

	stack_init(&f->s, "u a/b/c/d/f = text\nu x/y/z/\n1 q = 1\n");
	for (int i = 0; i < 150; i++) {
		g_autofree char *line = g_strdup_printf("u m/%d/f = %d", i, i);

		stack_add(&f->s, line);
	}
	limit_descriptors();
	f->fs = fs = stack_fs(&f->s);
	file = find(fs, "a/b/c/d/f");
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 150; i++) {
			g_autofree char *path = g_strdup_printf("m/%d/f", i);
			g_autofree char *want = g_strdup_printf("%d", i);

			reads(fs, path, want);
			if (round == 0)
				more[i] = find(fs, path);
		}
		must(fs, round ? "rename x/y/z/b a/b" : "rename a/b x/y/z/b");
	}
	must(fs, "rename a/b/c x/c");
	text = read_inode(fs, file);
	assert_string_equal(text, "text");
	for (int i = 0; i < 150; i++)
		un_inode_put(fs, more[i]);
	un_inode_put(fs, file);
	reads(fs, "x/c/d/f", "text");
	same_from_outside(f);
}

/* Nameless it is read and written as before. */
static void check_orphan(struct un_fs *fs, struct un_inode *inode, const char *want)
{
	g_autofree char *got = read_inode(fs, inode);
	const struct un_cred me = { geteuid(), getegid(), 0 };
	const struct un_write w = { .buf = "TEXT", .size = 4 };
	struct statx st;
	bool killed;

	assert_string_equal(got, want);
	assert_int_equal(un_getattr(fs, inode, &st), 0);
	assert_int_equal(st.stx_nlink, 0);
	assert_int_equal(un_write(fs, inode, &w, &me, &killed), 4);
	g_free(got);
	got = read_inode(fs, inode);
	assert_memory_equal(got, "TEXT", 4);
	assert_string_equal(got + 4, want + 4);
}

/* More unlinked files are open than descriptors may be pinned: they wait in the work directory. */
static void orphans(void **state)
{
	struct fixture *f = *state;
	struct un_inode *held[120];
	g_autofree char *work = NULL;
	struct un_fs *fs;
	unsigned names;
	GString *lines = g_string_new("");

	for (int i = 0; i < 120; i++)
		g_string_append_printf(lines, "u d/f%d = text-%d\n%s d/f%d = low\n", i, i,
				       i % 3 ? "2" : "1", i % 3 ? 1000 + i : i);
	stack_init(&f->s, lines->str);
	g_string_free(lines, TRUE);
	limit_descriptors();
	f->fs = fs = stack_fs(&f->s);
	must(fs, "create replacement 0644");
	for (int i = 0; i < 120; i++) {
		g_autofree char *path = g_strdup_printf("d/f%d", i);
		g_autofree char *unlink = g_strdup_printf("unlink d/f%d", i);
		g_autofree char *over = g_strdup_printf("rename replacement d/f%d", i);

		held[i] = find(fs, path);
		if (i % 10 == 5) {
			must(fs, over);
			must(fs, "create replacement 0644");
		} else {
			must(fs, unlink);
			must_fail(fs, unlink, ENOENT);
		}
		check_descriptors(fs);
	}
	work = stack_ls(&f->s, "work/work");
	names = 1;
	for (char *p = work; *p; p++)
		names += *p == ' ';
	assert_true(names > 60);
	for (int i = 0; i < 120; i++) {
		g_autofree char *want = g_strdup_printf("text-%d", i);

		check_orphan(fs, held[i], want);
	}
	/* Some are given back, the others are still known to the kernel when it goes away. */
	for (int i = 0; i < 120; i++) {
		if (i % 2)
			un_inode_remember(fs, held[i]);
		un_inode_put(fs, held[i]);
	}
	same_from_outside(f);
}

/* Nothing leads back to a nameless file but a descriptor, or a link in the work directory. */
static void tmpfiles_beyond_the_budget(void **state)
{
	struct fixture *f = *state;
	struct un_inode *dir, *held[100];
	const struct un_cred me = { geteuid(), getegid(), 0 };
	const struct un_create what = { .mode = S_IFREG | 0600 };
	struct un_write w = { .buf = "text", .size = 4 };
	struct un_fs *fs;
	struct statx st;
	bool killed;

	stack_init(&f->s, "u d/");
	limit_descriptors();
	f->fs = fs = stack_fs(&f->s);
	dir = find(fs, "d");
	for (int i = 0; i < 100; i++) {
		assert_int_equal(un_tmpfile(fs, dir, &what, &me, &held[i], &st), 0);
		assert_int_equal(st.stx_nlink, 0);
		w.off = i;
		assert_int_equal(un_write(fs, held[i], &w, &me, &killed), 4);
		check_descriptors(fs);
	}
	for (int i = 0; i < 100; i++) {
		g_autofree char *text = NULL, *name = g_strdup_printf("n%d", i);

		assert_int_equal(un_getattr(fs, held[i], &st), 0);
		assert_int_equal(st.stx_nlink, 0);
		assert_int_equal(st.stx_size, i + 4);
		if (i % 3 == 0) {
			assert_int_equal(un_link(fs, held[i], dir, name, &st), 0);
			assert_int_equal(st.stx_nlink, 1);
		}
		text = read_inode(fs, held[i]);
		assert_string_not_equal(text, "!");
		un_inode_put(fs, held[i]);
	}
	un_inode_put(fs, dir);
	same_from_outside(f);
	assert_int_equal(attrs(f->fs, "d/n99").stx_nlink, 1);
}

/* ------------------------------------------------------------------------------------------------
 * Layers that change behind the union's back
 */

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

/* ------------------------------------------------------------------------------------------------ */

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(forget_counts),
		T(forgetting_too_much),
		T(children_keep_parents),
		T(upper_links_are_one_inode),
		T(lower_links_are_inodes_apart),
		T(numbers_survive_copy_up),
		T(long_names),
		T(expected_errors),
		T(flags_of_rename),
		T(read_only_union),
		T(merged_view),
		T(what_changes_leave),
		T(refused_changes_copy_nothing),
		T(marks_are_hidden_and_nested),
		T(removed_and_open),
		T(removed_directory),
		T(tmpfiles),
		T(listing_while_it_changes),
		T(writing_clears_set_id),
		T(copy_up_is_told),
		T(eight_threads_at_work),
		T(eight_threads_few_descriptors),
		T(first_writers_copy_once),
		T(names_that_go_at_once),
		T(open_file_is_renamed),
		T(open_file_is_exchanged),
		T(open_file_is_linked_and_unlinked),
		T(open_file_is_unlinked),
		T(few_descriptors),
		T(moved_and_evicted),
		T(orphans),
		T(tmpfiles_beyond_the_budget),
		T(revalidation),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
