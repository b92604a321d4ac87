/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads on demand: each job at once, no more threads than may be, nothing left. */
#include "transport/pool_i.h"

#include "util/err.h"

#include <glib.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define MOST 8u

static atomic_uint started, running, done;
static atomic_bool go_on;

static void count_start(void *data)
{
	(void)data;
	started++;
}

static void hang(void *data)
{
	(void)data;
	running++;
	while (!go_on)
		g_usleep(200);
	running--;
	done++;
}

static void quick(void *data)
{
	(void)data;
	done++;
}

static struct un_pool *new_pool(void)
{
	const struct un_pool_config c = { .max = MOST, .start = count_start };

	started = running = done = 0;
	go_on = false;
	return un_pool_new(&c);
}

static void wait_for(atomic_uint *what, unsigned n)
{
	for (unsigned i = 0; i < 20000 && *what != n; i++)
		g_usleep(500);
	assert_int_equal(*what, n);
}

static void nobody_waits_for_the_stuck(void **state)
{
	struct un_pool *p = new_pool();

	(void)state;
	for (unsigned i = 0; i < MOST; i++)
		assert_true(un_pool_run(p, hang, NULL));
	wait_for(&running, MOST);
	assert_false(un_pool_run(p, quick, NULL));
	assert_true(un_pool_queue(p, quick, NULL));
	g_usleep(20000);
	assert_int_equal(done, 0);
	go_on = true;
	wait_for(&done, MOST + 1);
	assert_int_equal(started, MOST);
	un_pool_free(p);
}

static void threads_are_used_again(void **state)
{
	struct un_pool *p = new_pool();

	(void)state;
	for (unsigned i = 1; i <= 500; i++) {
		assert_true(un_pool_run(p, quick, NULL));
		wait_for(&done, i);
	}
	/* One may not be back yet when the next job comes. */
	assert_in_range(started, 1, 3);
	un_pool_free(p);
}

static void stopping_runs_what_is_there(void **state)
{
	struct un_pool *p = new_pool();

	(void)state;
	go_on = true;
	for (unsigned i = 0; i < 200; i++)
		assert_true(un_pool_queue(p, i % 2 ? hang : quick, NULL));
	un_pool_stop(p);
	assert_int_equal(done, 200);
	assert_false(un_pool_run(p, quick, NULL));
	assert_false(un_pool_queue(p, quick, NULL));
	un_pool_free(p);
	/* Never used. */
	un_pool_free(new_pool());
	un_pool_free(NULL);
}

static struct un_pool *shared;

static void *many(void *data)
{
	for (unsigned i = 0; i < 2000; i++)
		while (!un_pool_run(shared, quick, NULL))
			g_usleep(10);
	return data;
}

static void from_several_threads(void **state)
{
	pthread_t threads[4];

	(void)state;
	shared = new_pool();
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many, NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	un_pool_stop(shared);
	assert_int_equal(done, 8000);
	assert_in_range(started, 1, MOST);
	un_pool_free(shared);
}

static void *stop(void *data)
{
	un_pool_stop(data);
	return NULL;
}

/* By a signal, and by the end of the connection. */
static void stopped_by_two(void **state)
{
	struct un_pool *p = new_pool();
	pthread_t threads[2];

	(void)state;
	assert_true(un_pool_run(p, hang, NULL));
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, stop, p), 0);
	g_usleep(20000);
	go_on = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(done, 1);
	un_pool_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_waits_for_the_stuck),
		cmocka_unit_test(threads_are_used_again),
		cmocka_unit_test(stopping_runs_what_is_there),
		cmocka_unit_test(from_several_threads),
		cmocka_unit_test(stopped_by_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
