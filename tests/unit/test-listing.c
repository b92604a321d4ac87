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
#include "util/hash.h"

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

static void hidden_and_whiteouts(void **state)
{
	struct un_listing *l = un_listing_new();

	un_listing_put(l, "a", 0, DT_REG, 0, 1);
	un_listing_put(l, "w", 0, DT_CHR, UN_ENTRY_WHITEOUT | UN_ENTRY_HIDDEN, 0);
	un_listing_put(l, "h", 0, DT_REG, UN_ENTRY_HIDDEN, 0);
	assert_int_equal(un_listing_shown(l), 1);
	assert_true(un_listing_has_whiteouts(l));
	un_listing_settle(l);
	assert_string_equal(un_listing_next(l, 0)->name, "a");
	assert_null(un_listing_next(l, un_listing_next(l, 0)->cookie));
	assert_true(un_listing_find(l, "w")->flags & UN_ENTRY_WHITEOUT);
	assert_false(un_listing_find(l, "h")->flags & UN_ENTRY_WHITEOUT);
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
}

static void check_order(struct un_listing *l, GHashTable *model)
{
	uint64_t at = 0;
	size_t n = 0;

	if (!un_listing_settled(l))
		un_listing_settle(l);
	assert_true(un_listing_settled(l));
	for (const struct un_entry *e; (e = un_listing_next(l, at)); n++) {
		assert_true(e->cookie > 2 && e->cookie > at && e->cookie < (1ull << 31));
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

/*
 * A position is a function of the name: of when and with what else it was added it knows nothing. (Two of
 * 5,000 names share a place once in twenty runs, and then count in the order in which they came.)
 */
static void cookies_are_stable(void **state)
{
	struct un_listing *a = un_listing_new(), *b = un_listing_new();
	int same = 0;

	for (int i = 0; i < 5000; i++) {
		char x[16], y[16];

		snprintf(x, sizeof(x), "f%d", i);
		snprintf(y, sizeof(y), "f%d", 4999 - i);
		un_listing_put(a, x, 0, DT_REG, 0, 1);
		un_listing_put(b, y, 1, DT_DIR, UN_ENTRY_LOWER, 2);
	}
	for (int i = 0; i < 5000; i++) {
		char x[16];
		const struct un_entry *e;
		uint64_t cookie;

		snprintf(x, sizeof(x), "f%d", i);
		e = un_listing_find(a, x);
		cookie = e->cookie;
		if (cookie % 8 == 0 && un_listing_find(b, x)->cookie % 8 == 0) {
			assert_int_equal(cookie, un_listing_find(b, x)->cookie);
			same++;
		}
		un_listing_remove(a, x);
		assert_int_equal(un_listing_put(a, x, 0, DT_REG, 0, 1)->cookie, cookie);
	}
	assert_true(same > 4980);
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

static int compare_cookies(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* As many as there are: each has a place of its own, below 2^31, and is come by once. */
static void a_million(void **state)
{
	enum {
		N = 1000000
	};
	struct un_listing *l = un_listing_new();
	uint32_t *all = g_new(uint32_t, N);
	unsigned shared = 0, n = 0;
	char name[32];

	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		all[i] = un_listing_put(l, name, 0, DT_REG, 0, (uint64_t)i)->cookie;
		shared += all[i] % 8 != 0;
	}
	qsort(all, N, sizeof(*all), compare_cookies);
	assert_true(all[0] > 2 && all[N - 1] < 1u << 31);
	for (int i = 1; i < N; i++)
		assert_true(all[i - 1] < all[i]);
	/* 1,862 are to be expected. */
	assert_true(shared > 1400 && shared < 2400);
	un_listing_settle(l);
	for (size_t at = 0; un_listing_at(l, &at); at++, n++)
		assert_int_equal(un_listing_at(l, &at)->cookie, all[n]);
	assert_int_equal(n, N);
	for (int i = 0; i < N; i += 7) {
		snprintf(name, sizeof(name), "name-%d", i);
		assert_int_equal(un_listing_find(l, name)->ino, i);
	}
	g_free(all);
	un_listing_free(l);
}

/* Two names that meet: both are there, and each keeps its place. */
static void names_that_meet(void **state)
{
	struct un_listing *l = un_listing_new();
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	uint32_t cookies[2], last = 0;

	for (unsigned i = 0; names->len < 2; i++) {
		g_autoptr(GHashTable) seen =
			g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);

		for (unsigned k = 0; k < 200000 && names->len < 2; k++) {
			char *name = g_strdup_printf("%u-%u", i, k);
			gpointer h = GUINT_TO_POINTER((guint)un_hash_name(name) & 0xfffffff);
			const char *other = g_hash_table_lookup(seen, h);

			if (other) {
				g_ptr_array_add(names, g_strdup(other));
				g_ptr_array_add(names, name);
			} else {
				g_hash_table_insert(seen, h, name);
			}
		}
	}
	for (unsigned i = 0; i < 2; i++)
		cookies[i] = un_listing_put(l, names->pdata[i], 0, DT_REG, 0, i)->cookie;
	assert_int_equal(cookies[1], cookies[0] + 1);
	/* One goes: the other stays where it is, however often the order is made. */
	un_listing_remove(l, names->pdata[0]);
	un_listing_settle(l);
	assert_int_equal(un_listing_next(l, cookies[0])->cookie, cookies[1]);
	assert_int_equal(un_listing_put(l, names->pdata[0], 0, DT_REG, 0, 1)->cookie, cookies[0]);
	un_listing_settle(l);
	for (const struct un_entry *e; (e = un_listing_next(l, last)); last = e->cookie)
		assert_true(e->cookie == cookies[0] || e->cookie == cookies[1]);
	un_listing_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_find_remove), cmocka_unit_test(hidden_and_whiteouts),
		cmocka_unit_test(random_changes),  cmocka_unit_test(cookies_are_stable),
		cmocka_unit_test(entries_stay),    cmocka_unit_test(churn),
		cmocka_unit_test(a_million),       cmocka_unit_test(names_that_meet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
