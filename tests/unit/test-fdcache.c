/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "../lib/stack.h"
#include "object/fdcache.h"

#define BUDGET 64

struct fixture {
	struct un_fdcache *c;
	unsigned fds;
	struct un_fd *homes[300];
};

static int setup(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	f->fds = stack_count_fds();
	f->c = un_fdcache_new(BUDGET, BUDGET);
	*state = f;
	return 0;
}

/* The homes are empty and everything is closed when the cache goes. */
static int teardown(void **state)
{
	struct fixture *f = *state;
	int bad = 0;

	un_fdcache_free(f->c);
	un_fdcache_free(NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(f->homes); i++)
		bad += f->homes[i] != NULL;
	bad += stack_count_fds() != f->fds;
	g_free(f);
	return bad;
}

static int new_fd(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void add(struct fixture *f, unsigned i, unsigned flags)
{
	un_fdcache_put(f->c, un_fdcache_add(f->c, &f->homes[i], NULL, new_fd(), flags));
}

static bool has(struct fixture *f, unsigned i)
{
	struct un_fd *fd = un_fdcache_get(f->c, &f->homes[i], 0);

	un_fdcache_put(f->c, fd);
	return fd != NULL;
}

static void get_and_put(void **state)
{
	struct fixture *f = *state;
	struct un_fd *a, *b;

	assert_null(un_fdcache_get(f->c, &f->homes[0], 0));
	a = un_fdcache_add(f->c, &f->homes[0], NULL, new_fd(), UN_FD_READ);
	assert_ptr_equal(a, f->homes[0]);
	assert_int_equal(un_fdcache_count(f->c), 1);
	assert_ptr_equal(un_fdcache_get(f->c, &f->homes[0], 0), a);
	assert_ptr_equal(un_fdcache_get(f->c, &f->homes[0], UN_FD_READ), a);
	assert_null(un_fdcache_get(f->c, &f->homes[0], UN_FD_WRITE));
	assert_null(un_fdcache_get(f->c, &f->homes[0], UN_FD_READ | UN_FD_WRITE));
	assert_ptr_equal(un_fdcache_use(f->c, a), a);
	for (int i = 0; i < 3; i++)
		un_fdcache_put(f->c, a);
	/* Replaced while in use: good until it is given back. */
	b = un_fdcache_add(f->c, &f->homes[0], NULL, new_fd(), UN_FD_READ | UN_FD_WRITE);
	assert_ptr_equal(f->homes[0], b);
	assert_int_equal(un_fdcache_count(f->c), 1);
	assert_true(is_open(a->fd));
	un_fdcache_put(f->c, a);
	assert_int_equal(stack_count_fds(), f->fds + 1);
	/* Cleared while in use. */
	un_fdcache_clear(f->c, &f->homes[0]);
	assert_null(f->homes[0]);
	assert_int_equal(un_fdcache_count(f->c), 0);
	assert_true(is_open(b->fd));
	un_fdcache_put(f->c, b);
	assert_int_equal(stack_count_fds(), f->fds);
	un_fdcache_clear(f->c, &f->homes[0]);
	un_fdcache_put(f->c, NULL);
	/* Replaced and not in use: closed at once. */
	add(f, 0, 0);
	add(f, 0, 0);
	assert_int_equal(stack_count_fds(), f->fds + 1);
}

static void keeps_within_the_budget(void **state)
{
	struct fixture *f = *state;
	struct un_fd *used[10];

	for (unsigned i = 0; i < 10; i++)
		used[i] = un_fdcache_add(f->c, &f->homes[i], NULL, new_fd(), 0);
	for (unsigned i = 10; i < 300; i++) {
		add(f, i, 0);
		assert_true(un_fdcache_count(f->c) <= BUDGET);
	}
	for (unsigned i = 0; i < 10; i++) {
		assert_ptr_equal(f->homes[i], used[i]);
		un_fdcache_put(f->c, used[i]);
	}
	assert_true(has(f, 299));
	assert_false(has(f, 20));
}

/* Everything is in use: more than the budget, for a while. */
static void all_in_use(void **state)
{
	struct fixture *f = *state;
	struct un_fd *used[100];

	for (unsigned i = 0; i < 100; i++)
		used[i] = un_fdcache_add(f->c, &f->homes[i], NULL, new_fd(), 0);
	assert_int_equal(un_fdcache_count(f->c), 100);
	assert_false(un_fdcache_squeeze(f->c));
	for (unsigned i = 0; i < 100; i++)
		un_fdcache_put(f->c, used[i]);
	add(f, 100, 0);
	add(f, 101, 0);
	assert_true(un_fdcache_count(f->c) <= BUDGET);
}

static void pins(void **state)
{
	struct fixture *f = *state;

	assert_false(un_fdcache_pin(f->c, &f->homes[0], true));
	assert_false(un_fdcache_pin(f->c, &f->homes[0], false));
	for (unsigned i = 0; i < BUDGET / 2; i++)
		add(f, i, i % 2 ? UN_FD_PIN : 0);
	for (unsigned i = 0; i < BUDGET / 2; i += 2)
		assert_true(un_fdcache_pin(f->c, &f->homes[i], true));
	assert_true(un_fdcache_pin(f->c, &f->homes[0], true)); /* twice is once */
	/* Half of the budget is pinned: no more. */
	add(f, 50, UN_FD_PIN);
	assert_false(f->homes[50]->flags & UN_FD_PIN);
	assert_false(un_fdcache_pin(f->c, &f->homes[50], true));
	assert_true(un_fdcache_pin(f->c, &f->homes[50], false));
	for (unsigned i = 51; i < 300; i++)
		add(f, i, 0);
	assert_true(un_fdcache_count(f->c) <= BUDGET);
	for (unsigned i = 0; i < BUDGET / 2; i++)
		assert_true(has(f, i));
	assert_false(has(f, 50));
	/* Let go, by each way, there is room for others. */
	assert_true(un_fdcache_pin(f->c, &f->homes[0], false));
	add(f, 50, UN_FD_PIN);
	assert_true(f->homes[50]->flags & UN_FD_PIN);
	un_fdcache_clear(f->c, &f->homes[1]);
	assert_true(un_fdcache_pin(f->c, &f->homes[299], true));
	add(f, 3, 0); /* replaces a pinned one */
	add(f, 4, UN_FD_PIN);
	assert_true(f->homes[4]->flags & UN_FD_PIN);
	assert_true(un_fdcache_pin(f->c, &f->homes[298], true));
	assert_false(un_fdcache_pin(f->c, &f->homes[297], true));
}

static void squeezes(void **state)
{
	struct fixture *f = *state;
	struct un_fd *used;
	unsigned pinned = 0;

	assert_false(un_fdcache_squeeze(f->c));
	for (unsigned i = 0; i < 60; i++)
		add(f, i, i < 5 ? UN_FD_PIN : 0);
	used = un_fdcache_get(f->c, &f->homes[7], 0);
	assert_true(un_fdcache_squeeze(f->c));
	assert_true(un_fdcache_count(f->c) <= 30);
	assert_true(un_fdcache_count(f->c) >= 6);
	while (un_fdcache_squeeze(f->c))
		;
	assert_int_equal(un_fdcache_count(f->c), 6);
	for (unsigned i = 0; i < 5; i++)
		pinned += has(f, i);
	assert_int_equal(pinned, 5);
	assert_ptr_equal(f->homes[7], used);
	un_fdcache_put(f->c, used);
	/* It stays below what there was room for, and works on. */
	for (unsigned i = 100; i < 300; i++)
		add(f, i, 0);
	assert_true(un_fdcache_count(f->c) < BUDGET);
	assert_true(has(f, 299));
}

static void idle_writers(void **state)
{
	struct fixture *f = *state;
	struct un_fd *used;

	assert_false(un_fdcache_idle(f->c));
	add(f, 0, UN_FD_READ);
	add(f, 1, UN_FD_READ | UN_FD_WRITE);
	add(f, 2, UN_FD_WRITE | UN_FD_PIN);
	used = un_fdcache_add(f->c, &f->homes[3], NULL, new_fd(), UN_FD_WRITE);
	assert_true(un_fdcache_idle(f->c)); /* they were used since */
	assert_true(has(f, 1));
	assert_true(un_fdcache_idle(f->c)); /* has() was a use */
	assert_true(un_fdcache_idle(f->c)); /* one is in use still */
	assert_false(has(f, 1));
	assert_true(has(f, 0));
	assert_true(has(f, 2));
	un_fdcache_put(f->c, used);
	assert_false(un_fdcache_idle(f->c));
	assert_false(has(f, 3));
	assert_true(has(f, 2));
}

struct worker {
	pthread_t thread;
	struct fixture *f;
	unsigned seed, bad;
};

/* Homes of their own to fill, everyone's to use: what was got is open until it is given back. */
static void *hammer(void *data)
{
	struct worker *w = data;
	struct fixture *f = w->f;

	for (int i = 0; i < 20000; i++) {
		unsigned any = (unsigned)rand_r(&w->seed) % 160;
		struct un_fd *fd = un_fdcache_get(f->c, &f->homes[any], 0);

		if (!fd)
			fd = un_fdcache_add(f->c, &f->homes[any], NULL,
					    open("/dev/null", O_RDWR | O_CLOEXEC),
					    i % 7 ? UN_FD_READ : UN_FD_READ | UN_FD_WRITE);
		w->bad += !is_open(fd->fd);
		if (i % 50 == 0)
			un_fdcache_clear(f->c, &f->homes[any]);
		if (i % 70 == 0)
			un_fdcache_pin(f->c, &f->homes[any], i % 140 == 0);
		if (i % 500 == 0)
			un_fdcache_idle(f->c);
		if (i % 3000 == 0)
			un_fdcache_squeeze(f->c);
		w->bad += !is_open(fd->fd);
		un_fdcache_put(f->c, fd);
	}
	return NULL;
}

static void many_threads(void **state)
{
	struct worker w[6] = { 0 };

	for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
		w[i].f = *state;
		w[i].seed = i + 1;
		pthread_create(&w[i].thread, NULL, hammer, &w[i]);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(w); i++)
		pthread_join(w[i].thread, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(w); i++)
		assert_int_equal(w[i].bad, 0);
	assert_true(un_fdcache_count(w[0].f->c) <= BUDGET);
	assert_int_equal(stack_count_fds(), w[0].f->fds + un_fdcache_count(w[0].f->c));
}

static int reopened, closed;

static int reopen(void *data, int fd)
{
	(void)data;
	(void)fd;
	reopened++;
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void closing(void *data, int fd)
{
	(void)data;
	assert_true(is_open(fd));
	closed++;
}

static const struct un_fdcache_ops counting = { .reopen = reopen, .closing = closing };

/* What was written stays known by one descriptor or another until it is synced, and each is asked. */
static void written_ones(void **state)
{
	struct fixture *f = *state;
	struct un_fd *fd;
	unsigned before;

	reopened = closed = 0;
	un_fdcache_set_ops(f->c, &counting, NULL);
	fd = un_fdcache_add(f->c, &f->homes[0], NULL, new_fd(), UN_FD_READ | UN_FD_WRITE);
	un_fdcache_put(f->c, fd);
	fd = un_fdcache_get(f->c, &f->homes[0], UN_FD_WRITE);
	assert_true(fd->flags & UN_FD_DIRTY);
	un_fdcache_put(f->c, fd);
	/* Others go first. */
	for (int i = 1; i <= BUDGET * 2; i++)
		un_fdcache_put(f->c, un_fdcache_add(f->c, &f->homes[i], NULL, new_fd(), UN_FD_READ));
	assert_ptr_equal(f->homes[0], fd);
	assert_true(un_fdcache_idle(f->c) || reopened == 1);
	assert_false(un_fdcache_idle(f->c));
	assert_int_equal(reopened, 1);
	assert_int_equal(closed, 1);
	assert_ptr_equal(f->homes[0], fd);
	assert_int_equal(fd->flags, UN_FD_READ | UN_FD_DIRTY);
	assert_null(un_fdcache_get(f->c, &f->homes[0], UN_FD_WRITE));
	/* Read to its end, it stays; replaced, it is asked. */
	un_fdcache_put_done(f->c, un_fdcache_get(f->c, &f->homes[0], UN_FD_READ));
	assert_ptr_equal(f->homes[0], fd);
	fd = un_fdcache_add(f->c, &f->homes[0], NULL, new_fd(), UN_FD_READ | UN_FD_WRITE);
	assert_int_equal(closed, 2);
	assert_true(fd->flags & UN_FD_DIRTY);
	/* Written while it is synced: not known to be on disk. */
	before = un_fdcache_sync_begin(f->c, fd);
	un_fdcache_put(f->c, un_fdcache_get(f->c, &f->homes[0], UN_FD_WRITE));
	un_fdcache_synced(f->c, fd, before);
	assert_true(fd->flags & UN_FD_DIRTY);
	before = un_fdcache_sync_begin(f->c, fd);
	un_fdcache_synced(f->c, fd, before);
	assert_false(fd->flags & UN_FD_DIRTY);
	un_fdcache_put(f->c, fd);
	un_fdcache_clear(f->c, &f->homes[0]);
	assert_int_equal(closed, 2);
	un_fdcache_set_ops(f->c, NULL, NULL);
}

/* However much room there is; but pinned and dirty ones are not closed for it. */
static void keeps_few_that_can_be_had_again(void **state)
{
	struct fixture *f = *state;

	un_fdcache_free(f->c);
	f->c = un_fdcache_new(1000, 32);
	for (unsigned i = 0; i < 60; i++)
		add(f, i, UN_FD_PIN);
	for (unsigned i = 60; i < 100; i++)
		add(f, i, UN_FD_READ | UN_FD_WRITE | UN_FD_DIRTY);
	assert_int_equal(un_fdcache_count(f->c), 100);
	for (unsigned i = 100; i < 300; i++)
		add(f, i, UN_FD_READ);
	assert_true(un_fdcache_count(f->c) <= 100 + 32);
	assert_true(has(f, 299));
	for (unsigned i = 0; i < 100; i++)
		assert_true(has(f, i));
}

static void closes_what_rests(void **state)
{
	struct fixture *f = *state;
	struct un_fd *used;

	un_fdcache_free(f->c);
	f->c = un_fdcache_new(1000, 500);
	add(f, 0, UN_FD_PIN);
	add(f, 1, UN_FD_READ | UN_FD_WRITE | UN_FD_DIRTY);
	add(f, 2, UN_FD_READ | UN_FD_DIRTY);
	used = un_fdcache_add(f->c, &f->homes[3], NULL, new_fd(), UN_FD_READ);
	for (unsigned i = 4; i < 200; i++)
		add(f, i, UN_FD_READ);
	assert_false(un_fdcache_age(f->c, 200)); /* nothing to do, so nothing is forgotten of their use */
	assert_true(un_fdcache_age(f->c, 20));
	assert_int_equal(un_fdcache_count(f->c), 200);
	assert_true(has(f, 10));
	assert_false(un_fdcache_age(f->c, 20));
	assert_int_equal(un_fdcache_count(f->c), 20);
	for (unsigned i = 0; i < 4; i++)
		assert_true(has(f, i));
	assert_true(has(f, 10));
	assert_true(has(f, 199));
	assert_false(has(f, 100));
	un_fdcache_age(f->c, 0);
	un_fdcache_age(f->c, 0);
	/* What is left cannot be closed: no reason to come again, but for what is in use. */
	assert_int_equal(un_fdcache_count(f->c), 4);
	assert_true(un_fdcache_age(f->c, 0));
	un_fdcache_put(f->c, used);
	assert_false(un_fdcache_age(f->c, 0));
	assert_int_equal(un_fdcache_count(f->c), 3);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(get_and_put),  T(keeps_within_the_budget),
		T(all_in_use),   T(pins),
		T(squeezes),     T(idle_writers),
		T(many_threads), T(written_ones),
		T(keeps_few_that_can_be_had_again), T(closes_what_rests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
