/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glib.h>

#include "util/number-map.h"

/* Random puts, removals and questions, with few keys so that they meet, against a table of GLib's. */
static void is_a_map(void **state)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	g_autoptr(GHashTable) want = g_hash_table_new(g_direct_hash, g_direct_equal);
	struct un_number_map m = { 0 };
	uint64_t value;

	(void)state;
	assert_false(un_number_map_get(&m, 1, &value));
	un_number_map_remove(&m, 1);
	for (unsigned i = 0; i < 200000; i++) {
		unsigned keys = i < 100000 ? 300 : 5000;
		unsigned key = (unsigned)g_rand_int_range(rand, 1, (gint32)keys);
		gpointer there = g_hash_table_lookup(want, GUINT_TO_POINTER(key));

		assert_int_equal(un_number_map_get(&m, key, &value), there != NULL);
		if (there)
			assert_int_equal(value, GPOINTER_TO_UINT(there));
		if (g_rand_boolean(rand)) {
			un_number_map_put(&m, key, i + 1);
			g_hash_table_insert(want, GUINT_TO_POINTER(key), GUINT_TO_POINTER(i + 1));
		} else {
			un_number_map_remove(&m, key);
			g_hash_table_remove(want, GUINT_TO_POINTER(key));
		}
		assert_int_equal(m.n, g_hash_table_size(want));
	}
	un_number_map_clear(&m);
	assert_int_equal(m.n, 0);
}

static void has_no_zero(void **state)
{
	struct un_number_map m = { 0 };
	uint64_t value;

	(void)state;
	un_number_map_put(&m, 0, 1);
	assert_false(un_number_map_get(&m, 0, &value));
	un_number_map_put(&m, UINT64_MAX, UINT64_MAX);
	un_number_map_remove(&m, 0);
	assert_true(un_number_map_get(&m, UINT64_MAX, &value));
	assert_true(value == UINT64_MAX);
	un_number_map_clear(&m);
}

static void sieves(void **state)
{
	struct un_number_sieve s = { 0 };
	unsigned wrong = 0, n = 300000;

	(void)state;
	assert_false(un_number_sieve_may_have(&s, 1));
	for (unsigned i = 0; i < n; i++) {
		un_number_sieve_add(&s, (uint64_t)i * 256);
		assert_true(un_number_sieve_may_have(&s, (uint64_t)i * 256));
	}
	for (unsigned i = 0; i < n; i++) {
		assert_true(un_number_sieve_may_have(&s, (uint64_t)i * 256));
		wrong += un_number_sieve_may_have(&s, (uint64_t)i * 256 + 1);
	}
	print_message("%u of %u strangers taken for members\n", wrong, n);
	assert_true(wrong < n / 500);
	un_number_sieve_clear(&s);
	assert_false(un_number_sieve_may_have(&s, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_a_map),
		cmocka_unit_test(has_no_zero),
		cmocka_unit_test(sieves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
