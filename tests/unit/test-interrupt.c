/* SPDX-License-Identifier: GPL-2.0-or-later */
/* INTERRUPT before, during and after a request; whether a thread was killed, asked of real ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/interrupt_i.h"
#include "transport/killed_i.h"

#include "util/cancel.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define PID 77

/* ---- the table ---------------------------------------------------------------------------------------- */

static _Atomic int answer; /* of is_killed() */
static atomic_uint asked;

static int is_killed(uint32_t pid)
{
	assert_int_equal(pid, PID);
	asked++;
	return answer;
}

struct fixture {
	struct un_interrupts *t;
	struct un_in_hand me;
};

static int setup_grace(void **state, int64_t grace)
{
	struct fixture *f = g_new0(struct fixture, 1);

	answer = 1;
	asked = 0;
	f->t = un_interrupts_new(is_killed, grace);
	un_in_hand_join(f->t, &f->me);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_grace(state, 60 * G_USEC_PER_SEC);
}

static int setup_short(void **state)
{
	return setup_grace(state, 50000);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	un_in_hand_leave(&f->me);
	un_interrupts_free(f->t);
	g_free(f);
	return 0;
}

static void during(void **state)
{
	struct fixture *f = *state;

	un_in_hand_begin(&f->me, 10, PID);
	assert_false(un_cancelled());
	un_interrupts_note(f->t, 12);
	un_interrupts_note(f->t, 0);
	assert_false(un_cancelled());
	assert_int_equal(asked, 0);
	un_interrupts_note(f->t, 10);
	assert_true(un_cancelled());
	answer = 0;
	/* For good. */
	assert_true(un_cancelled());
	un_in_hand_end(&f->me);
	assert_false(un_cancelled());
	un_in_hand_begin(&f->me, 14, PID);
	assert_false(un_cancelled());
	un_in_hand_end(&f->me);
}

static void before(void **state)
{
	struct fixture *f = *state;

	un_interrupts_note(f->t, 10);
	un_in_hand_begin(&f->me, 8, PID);
	assert_false(un_cancelled());
	un_in_hand_end(&f->me);
	un_in_hand_begin(&f->me, 10, PID);
	assert_true(un_cancelled());
	un_in_hand_end(&f->me);
	/* The word for it was taken: the next of this number is another one. */
	un_in_hand_begin(&f->me, 10, PID);
	assert_false(un_cancelled());
	un_in_hand_end(&f->me);
}

static void after(void **state)
{
	struct fixture *f = *state;

	un_in_hand_begin(&f->me, 10, PID);
	un_in_hand_end(&f->me);
	un_interrupts_note(f->t, 10);
	assert_false(un_cancelled());
	for (uint64_t unique = 12; unique < 5000; unique += 2) {
		un_in_hand_begin(&f->me, unique, PID);
		assert_false(un_cancelled());
		un_in_hand_end(&f->me);
	}
	/* Used twice: it is asked then, which tells. */
	answer = 0;
	un_in_hand_begin(&f->me, 10, PID);
	assert_false(un_cancelled());
	un_in_hand_end(&f->me);
}

/* Word for a request is kept while hundreds of others are interrupted too late. */
static void before_a_storm(void **state)
{
	struct fixture *f = *state;

	un_interrupts_note(f->t, 100);
	for (uint64_t late = 102; late < 1000; late += 2)
		un_interrupts_note(f->t, late);
	un_in_hand_begin(&f->me, 100, PID);
	assert_true(un_cancelled());
	un_in_hand_end(&f->me);
}

/* The kernel says nothing of a fatal signal after another one. */
static void killed_later(void **state)
{
	struct fixture *f = *state;

	answer = 0;
	un_in_hand_begin(&f->me, 10, PID);
	un_interrupts_note(f->t, 10);
	for (int i = 0; i < 1000; i++)
		assert_false(un_cancelled());
	/* Not each time. */
	assert_in_range(asked, 1, 100);
	answer = 1;
	g_usleep(15000);
	assert_true(un_cancelled());
	un_in_hand_end(&f->me);
}

static void unknown_callers(void **state)
{
	struct fixture *f = *state;

	answer = -ESRCH;
	un_in_hand_begin(&f->me, 10, PID);
	/* Not interrupted: no time runs. */
	g_usleep(60000);
	un_interrupts_note(f->t, 10);
	assert_false(un_cancelled());
	g_usleep(20000);
	assert_false(un_cancelled());
	g_usleep(50000);
	assert_true(un_cancelled());
	un_in_hand_end(&f->me);
	/* The next one has its own time; and a known one has no end. */
	un_in_hand_begin(&f->me, 12, PID);
	un_interrupts_note(f->t, 12);
	assert_false(un_cancelled());
	answer = 0;
	g_usleep(80000);
	assert_false(un_cancelled());
	un_in_hand_end(&f->me);
}

static void put(void *data)
{
	g_string_append((GString *)data, "x");
}

static void held_and_later(void **state)
{
	struct fixture *f = *state;
	g_autoptr(GString) done = g_string_new("");

	un_in_hand_begin(&f->me, 10, PID);
	un_cancel_later(put, done);
	assert_string_equal(done->str, "x");
	un_interrupts_note(f->t, 10);
	un_cancel_hold();
	un_cancel_hold();
	assert_false(un_cancelled());
	un_cancel_later(put, done);
	assert_string_equal(done->str, "xx");
	un_cancel_release();
	assert_false(un_cancelled());
	un_cancel_release();
	assert_true(un_cancelled());
	un_cancel_later(put, done);
	un_cancel_later(put, done);
	assert_string_equal(done->str, "xx");
	un_in_hand_end(&f->me);
	assert_string_equal(done->str, "xxxx");
	un_in_hand_begin(&f->me, 12, PID);
	un_in_hand_end(&f->me);
	assert_string_equal(done->str, "xxxx");
}

/* ---- from all sides at once --------------------------------------------------------------------------- */

#define THREADS 4
#define ROUNDS 20000

struct crowd {
	struct un_interrupts *t;
	_Atomic uint64_t next, named;
	atomic_bool stop;
	atomic_uint missed, seen, wrong;
};

static int always(uint32_t pid)
{
	(void)pid;
	return 1;
}

/* Each request names itself, by another thread, and waits until it is told. */
static void *one_of_many(void *data)
{
	struct crowd *c = data;
	struct un_in_hand me;

	un_in_hand_join(c->t, &me);
	for (int i = 0; i < ROUNDS / THREADS; i++) {
		uint64_t unique = atomic_fetch_add(&c->next, 2), nobody = 0;
		bool mine = i % 2 && atomic_compare_exchange_strong(&c->named, &nobody, unique);

		un_in_hand_begin(&me, unique, PID);
		if (!mine && un_cancelled())
			c->wrong++;
		for (int tries = 0; mine && !un_cancelled(); tries++) {
			if (tries == 20000) {
				c->missed++;
				break;
			}
			if (tries > 1000)
				g_usleep(100);
		}
		c->seen += mine;
		un_in_hand_end(&me);
	}
	un_in_hand_leave(&me);
	return NULL;
}

static void *interrupter(void *data)
{
	struct crowd *c = data;

	while (!atomic_load(&c->stop)) {
		uint64_t unique = atomic_load(&c->named);

		if (unique) {
			un_interrupts_note(c->t, unique);
			atomic_store(&c->named, 0);
		} else {
			g_thread_yield();
		}
	}
	return NULL;
}

static void none_is_missed(void **state)
{
	struct crowd c = { .t = un_interrupts_new(always, 0), .next = 2 };
	pthread_t threads[THREADS], other;

	(void)state;
	pthread_create(&other, NULL, interrupter, &c);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, one_of_many, &c);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&c.stop, true);
	pthread_join(other, NULL);
	assert_int_equal(c.missed, 0);
	assert_int_equal(c.wrong, 0);
	assert_true(c.seen > 100);
	un_interrupts_free(c.t);
}

/* ---- killed? ------------------------------------------------------------------------------------------ */

#define STAT(pending)                                                                                  \
	"12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 " pending \
	" 0 0 0 0\n"

static void stat_lines(void **state)
{
	(void)state;
	/* Fields 4 to 30, then the one. */
	assert_int_equal(un_killed_by_stat(STAT("0")), 0);
	assert_int_equal(un_killed_by_stat(STAT("256")), 1);
	assert_int_equal(un_killed_by_stat(STAT("8192")), 0); /* SIGALRM */
	assert_int_equal(un_killed_by_stat(STAT("8448")), 1);
	assert_int_equal(un_killed_by_stat(""), -EBADMSG);
	assert_int_equal(un_killed_by_stat("12 (a) S 1 2"), -EBADMSG);
	assert_int_equal(un_killed_by_stat("12 S 1 2"), -EBADMSG);
	assert_int_equal(un_killed_by_stat(STAT("x")), -EBADMSG);
	assert_int_equal(un_killed_by_stat(STAT("99999999999999999999999")), -EBADMSG);
}

static void nothing(int sig)
{
	(void)sig;
}

/* A fatal signal that waits to be delivered is seen in the integration tests: here no thread waits as a request does. */
static void real_threads(void **state)
{
	int fds[2], status;
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(un_killed(0), -ESRCH);
	assert_int_equal(un_killed(0x3fffffff), -ESRCH);
	assert_int_equal(un_killed((uint32_t)getpid()), 0);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGUSR1, nothing);
		if (write(fds[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(fds[0], &c, 1), 1);
	kill(pid, SIGUSR1);
	assert_int_equal(un_killed((uint32_t)pid), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(un_killed((uint32_t)pid), -ESRCH);
	close(fds[0]);
	close(fds[1]);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(during),
		T(before),
		T(after),
		T(before_a_storm),
		T(killed_later),
		cmocka_unit_test_setup_teardown(unknown_callers, setup_short, teardown),
		T(held_and_later),
		cmocka_unit_test(none_is_missed),
		cmocka_unit_test(stat_lines),
		cmocka_unit_test(real_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
