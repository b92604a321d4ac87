/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/piece.h"

#include <glib.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* The size of the piece after one that took @us. */
static size_t after(struct un_piece *p, int64_t us)
{
	size_t n = un_piece_begin(p, 1024 * GIB);

	p->begin -= us;
	un_piece_end(p, n);
	return un_piece_begin(p, 1024 * GIB);
}

static void grows_and_shrinks(void **state)
{
	struct un_piece p = { 0 };

	(void)state;
	assert_int_equal(un_piece_begin(&p, 1024 * GIB), MIB);
	assert_int_equal(after(&p, 5000), 2 * MIB);
	assert_int_equal(after(&p, 5000), 4 * MIB);
	assert_int_equal(after(&p, 5000), 4 * MIB);
	assert_int_equal(after(&p, 50000), 4 * MIB);
	assert_int_equal(after(&p, 500000), 2 * MIB);
	for (int i = 0; i < 10; i++)
		after(&p, 500000);
	assert_int_equal(un_piece_begin(&p, 1024 * GIB), 128 * KIB);
	assert_int_equal(un_piece_begin(&p, 5), 5);
}

/* A reflink, or a hole: some 10 calls for 4 GiB, and no large one once data is moved. */
static void not_moved(void **state)
{
	struct un_piece p = { 0 };
	uint64_t left = 5 * GIB;
	unsigned calls = 0;

	(void)state;
	while (left) {
		size_t n = un_piece_begin(&p, left);

		p.begin = g_get_monotonic_time();
		un_piece_end(&p, n);
		left -= n;
		if (left < GIB)
			break;
		calls++;
	}
	assert_in_range(calls, 1, 20);
	assert_int_equal(un_piece_begin(&p, 1024 * GIB), GIB);
	assert_int_equal(after(&p, 400000), 2 * MIB);
}

/* Short ones say nothing of the speed. */
static void short_ones(void **state)
{
	struct un_piece p = { 0 };

	(void)state;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(un_piece_begin(&p, 1024 * GIB), MIB);
		un_piece_end(&p, 1000);
	}
	un_piece_begin(&p, 1024 * GIB);
	un_piece_end(&p, 0);
	assert_int_equal(un_piece_begin(&p, 1024 * GIB), MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_and_shrinks),
		cmocka_unit_test(not_moved),
		cmocka_unit_test(short_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
