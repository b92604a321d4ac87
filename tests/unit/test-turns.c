/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Workers on a pipe as the device: nothing is lost, nothing waits for the stuck, nobody is awake for nothing. */
#include "transport/turns_i.h"

#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#define WORKERS 3
#define SPIN_NS 50000

/* In the place of the libc's: what is closed twice could be somebody else's by then. */
static atomic_uint closed_in_vain;

int close(int fd)
{
	long r = syscall(SYS_close, fd);

	if (r < 0 && errno == EBADF)
		closed_in_vain++;
	return (int)r;
}

enum { PLAIN, STUCK, RELEASE };

struct fixture {
	struct un_turns *turns;
	int pipe[2];
	pthread_t threads[WORKERS];
	struct un_turn turn[WORKERS];
	atomic_uint taken;
	atomic_bool stopping, released;
};

struct arg {
	struct fixture *f;
	unsigned i;
};

static void process(struct fixture *f, char what)
{
	if (what == STUCK)
		while (!f->released && !f->stopping)
			g_usleep(200);
	if (what == RELEASE)
		f->released = true;
	atomic_fetch_add(&f->taken, 1);
}

static void *worker(void *data)
{
	struct arg *a = data;
	struct fixture *f = a->f;
	struct un_turn *me = &f->turn[a->i];

	g_free(a);
	while (!f->stopping) {
		char what;

		un_turn_ask(f->turns, me);
		if (read(f->pipe[0], &what, 1) != 1) {
			un_turn_missed(f->turns, me);
			continue;
		}
		un_turn_taken(f->turns, me, &(struct un_turn_request){ .client = 1 });
		process(f, what);
	}
	un_turns_leave(f->turns, me);
	return NULL;
}

static struct fixture *start(uint64_t spin_ns)
{
	struct fixture *f = g_new0(struct fixture, 1);

	assert_int_equal(pipe2(f->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	f->turns = un_turns_new(WORKERS, spin_ns);
	for (unsigned i = 0; i < WORKERS; i++) {
		struct arg *a = g_new(struct arg, 1);

		*a = (struct arg){ f, i };
		assert_int_equal(un_turns_join(f->turns, &f->turn[i], f->pipe[0]), 0);
		assert_int_equal(pthread_create(&f->threads[i], NULL, worker, a), 0);
	}
	return f;
}

static void stop(struct fixture *f)
{
	f->stopping = true;
	un_turns_stop(f->turns);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(f->threads[i], NULL);
	un_turns_free(f->turns);
	close(f->pipe[0]);
	close(f->pipe[1]);
	g_free(f);
}

static void send_one(struct fixture *f, char what)
{
	while (write(f->pipe[1], &what, 1) != 1)
		g_usleep(50);
}

/* Within @ms; a lost request would never be. */
static void wait_taken(struct fixture *f, unsigned n, unsigned ms)
{
	gint64 end = g_get_monotonic_time() + ms * 1000;

	while (f->taken < n && g_get_monotonic_time() < end)
		g_usleep(50);
	assert_int_equal(f->taken, n);
}

/* One after the other, as a client does that waits for each answer. */
static unsigned hot(struct fixture *f, unsigned n)
{
	unsigned base = f->taken;

	for (unsigned i = 1; i <= n; i++) {
		send_one(f, PLAIN);
		while (f->taken < base + i)
			;
	}
	return base + n;
}

static void each_request_is_taken_once(void **state)
{
	const uint64_t spins[] = { 0, SPIN_NS };

	(void)state;
	for (unsigned s = 0; s < G_N_ELEMENTS(spins); s++) {
		struct fixture *f = start(spins[s]);
		unsigned n = hot(f, 2000);

		/* Bursts and pauses of all lengths. */
		for (unsigned i = 0; i < 300; i++) {
			for (unsigned k = 0; k < i % 7; k++, n++)
				send_one(f, PLAIN);
			g_usleep(i % 11 * 20);
		}
		wait_taken(f, n, 5000);
		stop(f);
	}
}

static void the_stuck_are_replaced(void **state)
{
	struct fixture *f = start(SPIN_NS);
	unsigned n;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		/* So that all but one keep away. */
		n = hot(f, 200);
		f->released = false;
		send_one(f, STUCK);
		g_usleep(round * 100);
		send_one(f, RELEASE);
		wait_taken(f, n + 2, 2000);
		/* All but the last. */
		f->released = false;
		for (unsigned i = 1; i < WORKERS; i++)
			send_one(f, STUCK);
		g_usleep(round * 100);
		send_one(f, RELEASE);
		wait_taken(f, n + 2 + WORKERS, 2000);
	}
	stop(f);
}

static double cpu_seconds(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static unsigned long switches(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return (unsigned long)u.ru_nvcsw;
}

static void the_idle_sleep(void **state)
{
	struct fixture *f = start(SPIN_NS);
	unsigned long before, woken = 0;
	double cpu = 0;

	(void)state;
#ifdef __SANITIZE_THREAD__
	/* It has a thread of its own that wakes up. */
	stop(f);
	skip();
#endif
	hot(f, 500);
	/* Those who keep away come back, one each time they look; on a busy machine that takes a while. */
	for (int i = 0; i < 20; i++) {
		g_usleep(200 * 1000);
		before = switches();
		cpu = cpu_seconds();
		g_usleep(300 * 1000);
		woken = switches() - before;
		cpu = cpu_seconds() - cpu;
		if (woken <= 2 && cpu < 0.01)
			break;
	}
	/* This sleep is one. */
	assert_in_range(woken, 0, 2);
	assert_true(cpu < 0.01);
	stop(f);
}

static void failed_join(void **state)
{
	struct un_turns *t = un_turns_new(1, 0);
	struct un_turn me;
	int last;

	(void)state;
	closed_in_vain = 0;
	assert_int_equal(un_turns_join(t, &me, -1), -EBADF);
	assert_int_equal(closed_in_vain, 0);
	last = dup(0);
	assert_int_equal(un_turns_join(t, &me, -1), -EBADF);
	close(last);
	assert_int_equal(dup(0), last);
	close(last);
	un_turns_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_request_is_taken_once),
		cmocka_unit_test(the_stuck_are_replaced),
		cmocka_unit_test(the_idle_sleep),
		cmocka_unit_test(failed_join),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
