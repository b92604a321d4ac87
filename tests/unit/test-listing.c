/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of a directory's names; reading it from layers is test-merge.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merge/merge.h"

static void put_find_remove(void **state)
{
	struct un_listing *l = un_listing_new();
	struct un_entry *e;

	assert_null(un_listing_find(l, "a"));
	un_listing_remove(l, "a");
	assert_int_equal(un_listing_shown(l), 0);
	e = un_listing_put(l, "a", 3, DT_REG, UN_ENTRY_LOWER, 77);
	assert_ptr_equal(un_listing_find(l, "a"), e);
	assert_string_equal(e->name, "a");
	assert_int_equal(e->pos, 3);
	assert_int_equal(e->type, DT_REG);
	assert_int_equal(e->flags, UN_ENTRY_LOWER);
	assert_int_equal(e->ino, 77);
	assert_int_equal(un_listing_shown(l), 1);
	/* Replaced: the same entry, at the same place. */
	assert_ptr_equal(un_listing_put(l, "a", 0, DT_DIR, UN_ENTRY_MORE, 78), e);
	assert_int_equal(e->pos, 0);
	assert_int_equal(e->ino, 78);
	assert_int_equal(un_listing_shown(l), 1);
	un_listing_remove(l, "a");
	assert_null(un_listing_find(l, "a"));
	assert_int_equal(un_listing_shown(l), 0);
	un_listing_settle(l);
	assert_null(un_listing_next(l, 0));
	assert_null(un_listing_free(l));
	assert_null(un_listing_free(NULL));
}

static void add_name(const char *name, void *data)
{
	g_hash_table_add(data, g_strdup(name));
}

static void hidden_and_whiteouts(void **state)
{
	struct un_listing *l = un_listing_new();
	GHashTable *wh = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	un_listing_put(l, "a", 0, DT_REG, 0, 1);
	un_listing_put(l, "w", 0, DT_CHR, UN_ENTRY_WHITEOUT | UN_ENTRY_HIDDEN, 0);
	un_listing_put(l, "h", 0, DT_REG, UN_ENTRY_HIDDEN, 0);
	assert_int_equal(un_listing_shown(l), 1);
	assert_true(un_listing_has_whiteouts(l));
	un_listing_settle(l);
	assert_string_equal(un_listing_next(l, 0)->name, "a");
	assert_null(un_listing_next(l, un_listing_next(l, 0)->cookie));
	un_listing_each_whiteout(l, add_name, wh);
	assert_int_equal(g_hash_table_size(wh), 1);
	assert_true(g_hash_table_contains(wh, "w"));
	/* It becomes a name again. */
	un_listing_put(l, "w", 0, DT_REG, 0, 5);
	assert_false(un_listing_has_whiteouts(l));
	assert_int_equal(un_listing_shown(l), 2);
	un_listing_put(l, "a", 0, DT_CHR, UN_ENTRY_WHITEOUT | UN_ENTRY_HIDDEN, 0);
	assert_true(un_listing_has_whiteouts(l));
	un_listing_remove(l, "a");
	assert_false(un_listing_has_whiteouts(l));
	assert_int_equal(un_listing_shown(l), 1);
	un_listing_free(l);
	g_hash_table_destroy(wh);
}

static void check_order(struct un_listing *l, GHashTable *model)
{
	uint64_t at = 0;
	size_t n = 0;

	if (!un_listing_settled(l))
		un_listing_settle(l);
	assert_true(un_listing_settled(l));
	for (const struct un_entry *e; (e = un_listing_next(l, at)); n++) {
		assert_true(e->cookie > 2 && e->cookie > at && e->cookie < (1ull << 63));
		at = e->cookie;
		assert_true(g_hash_table_contains(model, e->name));
	}
	assert_int_equal(n, g_hash_table_size(model));
	assert_int_equal(n, un_listing_shown(l));
}

/* Against a plain table, with thousands of names coming and going. */
static void random_changes(void **state)
{
	struct un_listing *l = un_listing_new();
	GHashTable *model = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	unsigned seed = 4711;

	for (int i = 0; i < 60000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "name-%d", rand_r(&seed) % 3000);
		if (rand_r(&seed) % 100 < (i / 10000 % 2 ? 35 : 65)) {
			un_listing_put(l, name, 0, DT_REG, 0, 1);
			g_hash_table_add(model, g_strdup(name));
		} else {
			un_listing_remove(l, name);
			g_hash_table_remove(model, name);
		}
		assert_int_equal(un_listing_find(l, name) != NULL,
				 g_hash_table_contains(model, name));
		if (i % 1500 == 0)
			check_order(l, model);
	}
	check_order(l, model);
	un_listing_free(l);
	g_hash_table_destroy(model);
}

/* A position is a function of the name: of when and with what else it was added it knows nothing. */
static void cookies_are_stable(void **state)
{
	struct un_listing *a = un_listing_new(), *b = un_listing_new();

	for (int i = 0; i < 5000; i++) {
		char x[16], y[16];

		snprintf(x, sizeof(x), "f%d", i);
		snprintf(y, sizeof(y), "f%d", 4999 - i);
		un_listing_put(a, x, 0, DT_REG, 0, 1);
		un_listing_put(b, y, 1, DT_DIR, UN_ENTRY_LOWER, 2);
	}
	for (int i = 0; i < 5000; i++) {
		char x[16];
		uint64_t cookie;

		snprintf(x, sizeof(x), "f%d", i);
		cookie = un_listing_find(a, x)->cookie;
		assert_int_equal(cookie, un_listing_find(b, x)->cookie);
		un_listing_remove(a, x);
		assert_int_equal(un_listing_put(a, x, 0, DT_REG, 0, 1)->cookie, cookie);
	}
	un_listing_free(a);
	un_listing_free(b);
}

/* An entry stays good until it is removed, while the table grows, and is skipped when it is dead. */
static void entries_stay(void **state)
{
	struct un_listing *l = un_listing_new();
	struct un_entry *e = un_listing_put(l, "kept", 0, DT_REG, 0, 9);
	uint64_t cookie = e->cookie;

	for (int i = 0; i < 1000; i++) {
		char x[16];

		snprintf(x, sizeof(x), "f%d", i);
		un_listing_put(l, x, 0, DT_REG, 0, 1);
	}
	assert_ptr_equal(un_listing_find(l, "kept"), e);
	un_listing_settle(l);
	assert_int_equal(e->cookie, cookie);
	/* Gone while somebody is listing: not seen any more, the position behind it is good. */
	un_listing_remove(l, "kept");
	for (const struct un_entry *p = un_listing_next(l, 0); p; p = un_listing_next(l, p->cookie))
		assert_string_not_equal(p->name, "kept");
	assert_true(un_listing_settled(l));
	un_listing_put(l, "new", 0, DT_REG, 0, 1);
	assert_false(un_listing_settled(l));
	un_listing_free(l);
}

/* Made and removed with nobody listing: nothing piles up, the longest names are names. */
static void churn(void **state)
{
	struct un_listing *l = un_listing_new();
	char name[256];

	memset(name, 'x', sizeof(name));
	name[255] = '\0';
	for (int i = 0; i < 100000; i++) {
		snprintf(name, 20, "tmp%d", i);
		name[strlen(name)] = 'x';
		un_listing_put(l, name, 0, DT_REG, 0, 1);
		un_listing_remove(l, name);
	}
	assert_int_equal(un_listing_shown(l), 0);
	un_listing_settle(l);
	assert_null(un_listing_next(l, 0));
	un_listing_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_find_remove), cmocka_unit_test(hidden_and_whiteouts),
		cmocka_unit_test(random_changes),  cmocka_unit_test(cookies_are_stable),
		cmocka_unit_test(entries_stay),    cmocka_unit_test(churn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
