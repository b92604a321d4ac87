/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fewer descriptors than files in use. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(few_descriptors),
		T(moved_and_evicted),
		T(orphans),
		T(tmpfiles_beyond_the_budget),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
