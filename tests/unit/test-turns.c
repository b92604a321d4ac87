/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Workers on a pipe as the device: nothing is lost, nothing waits for the stuck, nobody is awake for nothing. */
#include "transport/turns_i.h"

#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#define WORKERS 3
#define MOST 8
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

enum { PLAIN, STUCK, RELEASE, LONGER, ANSWERED };

struct fixture {
	struct un_turns *turns;
	int pipe[2], answer;
	pthread_t keeper;
	struct one {
		struct fixture *f;
		pthread_t thread;
		struct un_turn turn;
		atomic_bool ended;
		atomic_uint taken;
		bool used;
	} one[MOST];
	atomic_uint taken, alive, most_alive;
	atomic_bool stopping, released, refuses;
};

static void process(struct fixture *f, char what)
{
	if (what == STUCK)
		while (!f->released && !f->stopping)
			g_usleep(200);
	if (what == RELEASE)
		f->released = true;
	/* Longer than from one look of the keeper to the next. */
	if (what == LONGER)
		g_usleep(3000);
	atomic_fetch_add(&f->taken, 1);
}

static void *worker(void *data)
{
	struct one *o = data;
	struct fixture *f = o->f;
	struct un_turn *me = &o->turn;

	while (!f->stopping) {
		char what;

		if (!un_turn_ask(f->turns, me))
			break;
		if (read(f->pipe[0], &what, 1) != 1) {
			un_turn_missed(f->turns, me);
			continue;
		}
		un_turn_taken(f->turns, me, &(struct un_turn_request){ .client = 1 });
		process(f, what);
		o->taken++;
		if (what == ANSWERED)
			assert_int_equal(eventfd_write(f->answer, 1), 0);
	}
	un_turns_leave(f->turns, me);
	f->alive--;
	o->ended = true;
	un_turns_poke(f->turns);
	return NULL;
}

static void start_one(struct fixture *f)
{
	for (unsigned i = 0; i < MOST; i++) {
		struct one *o = &f->one[i];

		if (o->used && o->ended) {
			pthread_join(o->thread, NULL);
			o->used = false;
		}
		if (o->used)
			continue;
		o->used = true;
		o->ended = false;
		o->f = f;
		if (++f->alive > f->most_alive)
			f->most_alive = f->alive;
		assert_int_equal(un_turns_join(f->turns, &o->turn, f->pipe[0]), 0);
		assert_int_equal(pthread_create(&o->thread, NULL, worker, o), 0);
		return;
	}
	fail();
}

static void *keeper(void *data)
{
	struct fixture *f = data;

	while (f->alive > 0) {
		unsigned n = un_turns_watch(f->turns);

		if (n && f->refuses)
			un_turns_refused(f->turns);
		else
			while (n--)
				start_one(f);
	}
	return NULL;
}

static struct fixture *start_some(uint64_t spin_ns, unsigned warm, unsigned max, unsigned linger_ms)
{
	struct fixture *f = g_new0(struct fixture, 1);

	assert_int_equal(pipe2(f->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	f->answer = eventfd(0, EFD_CLOEXEC);
	f->turns = un_turns_new(&(struct un_turns_config){
		.warm = warm,
		.max = max,
		.spin_ns = spin_ns,
		.linger_ms = linger_ms,
		.device = f->pipe[0],
	});
	for (unsigned i = 0; i < warm; i++)
		start_one(f);
	assert_int_equal(pthread_create(&f->keeper, NULL, keeper, f), 0);
	return f;
}

static struct fixture *start(uint64_t spin_ns)
{
	return start_some(spin_ns, WORKERS, WORKERS, 5000);
}

static void stop(struct fixture *f)
{
	f->stopping = true;
	un_turns_stop(f->turns);
	pthread_join(f->keeper, NULL);
	for (unsigned i = 0; i < MOST; i++)
		if (f->one[i].used)
			pthread_join(f->one[i].thread, NULL);
	un_turns_free(f->turns);
	close(f->pipe[0]);
	close(f->pipe[1]);
	close(f->answer);
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

/* The same with a client that sleeps until it is woken with the answer. */
static void calm(struct fixture *f, unsigned n)
{
	uint64_t got;

	for (unsigned i = 0; i < n; i++) {
		send_one(f, ANSWERED);
		assert_int_equal(read(f->answer, &got, sizeof(got)), sizeof(got));
	}
}

static void pin(struct fixture *f, const cpu_set_t *where)
{
	assert_int_equal(sched_setaffinity(0, sizeof(*where), where), 0);
	for (unsigned i = 0; i < MOST; i++)
		if (f->one[i].used)
			assert_int_equal(
				pthread_setaffinity_np(f->one[i].thread, sizeof(*where), where), 0);
}

static void wait_alive(struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < 2000 && f->alive != n; i++)
		g_usleep(1000);
	assert_int_equal(f->alive, n);
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

/* With none to spare, whoever is stuck: others come, in a few looks of the keeper, and go again. */
static void more_come_and_go(void **state)
{
	const uint64_t spins[] = { 0, SPIN_NS };

	(void)state;
	for (unsigned s = 0; s < G_N_ELEMENTS(spins); s++)
		for (unsigned warm = 1; warm <= 2; warm++) {
			struct fixture *f = start_some(spins[s], warm, MOST, 100);
			unsigned n = 0;

			for (unsigned round = 0; round < 3; round++) {
				n = hot(f, 200);
				f->released = false;
				for (unsigned i = 0; i < MOST - 1; i++)
					send_one(f, STUCK);
				send_one(f, PLAIN);
				wait_taken(f, n + 1, 2000);
				/* Nobody is left over for these, until the first is released by itself. */
				assert_int_equal(f->alive, MOST);
				send_one(f, RELEASE);
				wait_taken(f, n + MOST + 1, 2000);
				for (unsigned i = 0; i < 1000 && f->alive > warm; i++)
					g_usleep(5000);
				assert_int_equal(f->alive, warm);
			}
			/* In quick succession one is enough. */
			f->most_alive = 0;
			hot(f, 2000);
			assert_in_range(f->most_alive, 0, warm + 1);
			stop(f);
		}
}

/* A request that takes a little longer, while no other waits, brings nobody in. */
static void nobody_comes_in_vain(void **state)
{
	const uint64_t spins[] = { 0, SPIN_NS };

	(void)state;
	for (unsigned s = 0; s < G_N_ELEMENTS(spins); s++) {
		unsigned most = 2;

		/* On a busy machine one may be kept from a processor for several looks. */
		for (unsigned round = 0; round < 10 && most > 1; round++) {
			struct fixture *f = start_some(spins[s], 1, MOST, 5000);

			for (unsigned i = 1; i <= 30; i++) {
				send_one(f, LONGER);
				while (f->taken < i)
					g_usleep(50);
			}
			most = f->most_alive;
			stop(f);
		}
		assert_int_equal(most, 1);
	}
}

/* Those who came in stay out of the way of who is enough, and do not wait for a request in turns with it. */
static void the_spare_stay_away(void **state)
{
	const uint64_t spins[] = { 0, SPIN_NS };

	(void)state;
	for (unsigned s = 0; s < G_N_ELEMENTS(spins); s++) {
		struct fixture *f = start_some(spins[s], 1, MOST, 60000);
		unsigned n = hot(f, 200), best = 0;
		cpu_set_t all, one;

		for (unsigned i = 0; i < MOST - 1; i++)
			send_one(f, STUCK);
		wait_alive(f, MOST);
		send_one(f, RELEASE);
		wait_taken(f, n + MOST, 2000);
		/* Where all share a processor who has answered is not back before the next request is there. */
		sched_getaffinity(0, sizeof(all), &all);
		CPU_ZERO(&one);
		CPU_SET(sched_getcpu(), &one);
		pin(f, &one);
		/* The stuck are remembered for a while. */
		for (unsigned round = 0; round < 10 && best < 1900; round++) {
			g_usleep(300 * 1000);
			for (unsigned i = 0; i < MOST; i++)
				f->one[i].taken = 0;
			calm(f, 2000);
			for (unsigned i = 0; i < MOST; i++)
				best = MAX(best, f->one[i].taken);
		}
		pin(f, &all);
		assert_in_range(best, 1900, 2001);
		assert_int_equal(f->alive, MOST);
		stop(f);
	}
}

/* The one that is stuck gives its place to another that listens: that one does not end. */
static void the_stuck_are_not_counted_on(void **state)
{
	struct fixture *f = start_some(SPIN_NS, 2, MOST, 50);

	(void)state;
	send_one(f, STUCK);
	send_one(f, STUCK);
	for (unsigned i = 1; i <= 20; i++) {
		g_usleep(30 * 1000);
		send_one(f, PLAIN);
		wait_taken(f, i, 2000);
	}
	assert_in_range(f->alive, 3, 4);
	send_one(f, RELEASE);
	wait_taken(f, 23, 2000);
	for (unsigned i = 0; i < 1000 && f->alive > 2; i++) {
		/* Whoever was stuck has to be asked before it knows. */
		g_usleep(5000);
	}
	assert_int_equal(f->alive, 2);
	stop(f);
}

/* Where no thread can be started, those there are go on; and as soon as one can be, it is. */
static void refused(void **state)
{
	struct fixture *f = start_some(SPIN_NS, 2, MOST, 5000);

	(void)state;
	f->refuses = true;
	send_one(f, STUCK);
	send_one(f, STUCK);
	send_one(f, PLAIN);
	g_usleep(300 * 1000);
	assert_int_equal(f->taken, 0);
	f->refuses = false;
	wait_taken(f, 1, 2000);
	send_one(f, RELEASE);
	wait_taken(f, 4, 2000);
	stop(f);
}

/* That nobody more can be started keeps nobody from calling those who are parked. */
static void refused_lately(void **state)
{
	unsigned late = 0;

	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		struct fixture *f = start_some(SPIN_NS, 2, MOST, 5000);
		unsigned base = hot(f, 300);
		gint64 begin;

		f->refuses = true;
		un_turns_refused(f->turns);
		send_one(f, STUCK);
		g_usleep(4000);
		begin = g_get_monotonic_time();
		send_one(f, PLAIN);
		wait_taken(f, base + 1, 2000);
		late += g_get_monotonic_time() - begin > 50000;
		send_one(f, RELEASE);
		wait_taken(f, base + 3, 2000);
		stop(f);
	}
	/* A busy machine may be late by itself. */
	assert_in_range(late, 0, 2);
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
	struct un_turns *t = un_turns_new(&(struct un_turns_config){ .warm = 1, .max = 1, .device = -1 });
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
		cmocka_unit_test(more_come_and_go),
		cmocka_unit_test(nobody_comes_in_vain),
		cmocka_unit_test(the_spare_stay_away),
		cmocka_unit_test(the_stuck_are_not_counted_on),
		cmocka_unit_test(refused),
		cmocka_unit_test(refused_lately),
		cmocka_unit_test(the_idle_sleep),
		cmocka_unit_test(failed_join),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
