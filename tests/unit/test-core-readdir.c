/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listing a directory in pieces while it changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glib.h>
#include <sys/stat.h>

#include "../lib/core-fixture.h"
#include "../lib/stack.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(listing_while_it_changes),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
