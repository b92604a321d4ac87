/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures behind the constants are in tests/bench/README.md ("Who listens").
 *
 * Somebody always listens, or will within TICK: of the parked workers one, the sentinel, sleeps with a
 * time limit and looks whether any of those awake has got on since; if none has (all are stuck, or wait
 * without work) it goes and listens, and the next parked one is the sentinel. An idle mount has all
 * workers waiting in the kernel, and no timer.
 */
#include "turns_i.h"

#include "util/err.h"
#include "util/fd.h"
#include "util/lock.h"

#include <glib.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define US 1000ull
#define MS 1000000ull

/* Longer between two tries of a spinning worker: it was not alone on its processor. */
#define PREEMPTED (100 * US)
/* So long it does not spin then. */
#define CALM (20 * MS)
/* So long nobody spins after there was work for two: processors are not idle then. */
#define CROWDED (5 * MS)
/* No client that has to be woken asks again so soon. */
#define SOON (8 * US)
/* How soon a sentinel sees that nobody gets on. */
#define TICK (2 * MS)
/* Scores: from here on spinning pays; the most. A miss costs as much as three hits bring. */
#define WORTH 4u
#define MOST 16u
#define MISS 3u
/* After so many requests that one worker took alone, another that waits is told to stay away. */
#define ALONE 8u

enum {
	BUSY,    /* has a request in hand */
	LISTENS, /* awake, asking */
	WAITS,   /* in the kernel until there is one */
	PARKED,  /* until called */
};

UN_ROLE(turns_role);

struct un_turns {
	uint64_t spin_ns;
	unsigned n;
	struct un_turn **all; /* n; NULL: not joined yet */
	struct un_mutex lock; /* what follows, and who parks */
	pthread_cond_t called;
	unsigned calls UN_GUARDED_BY(turns_role); /* that no parked worker has heard yet */
	struct un_turn *sentinel UN_GUARDED_BY(turns_role);
	atomic_bool stopping;
	atomic_uint parked, waiting;
	_Atomic uint64_t crowded_until; /* ns: there is work for two */
};
UN_LOCKS(struct un_turns, lock, turns, turns_role);

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

struct un_turns *un_turns_new(unsigned n, uint64_t spin_ns)
{
	struct un_turns *t = g_new0(struct un_turns, 1);
	pthread_condattr_t attr;

	t->n = n;
	t->spin_ns = spin_ns;
	t->all = g_new0(struct un_turn *, n);
	un_mutex_init(&t->lock);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->called, &attr);
	pthread_condattr_destroy(&attr);
	return t;
}

void un_turns_free(struct un_turns *t)
{
	if (!t)
		return;
	pthread_cond_destroy(&t->called);
	un_mutex_done(&t->lock);
	g_free(t->all);
	g_free(t);
}

static void set_state(struct un_turn *me, unsigned state)
{
	atomic_store_explicit(&me->state, state, memory_order_release);
}

static unsigned state_of(const struct un_turn *other)
{
	return atomic_load_explicit(&other->state, memory_order_acquire);
}

static int watch_fd(int epoll, int fd, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

int un_turns_join(struct un_turns *t, struct un_turn *me, int device)
{
	un_autofd int epoll = epoll_create1(EPOLL_CLOEXEC);
	un_autofd int kick = -1;
	int r = epoll < 0 ? -errno : 0;

	if (r == 0) {
		kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = kick < 0 ? -errno : watch_fd(epoll, kick, EPOLLIN);
	}
	/* Exclusive: of those who wait the kernel wakes one, the same one as long as it is free. */
	if (r == 0)
		r = watch_fd(epoll, device, EPOLLIN | EPOLLEXCLUSIVE);
	if (r < 0)
		return r;
	*me = (struct un_turn){ .epoll = un_take_fd(&epoll), .kick = un_take_fd(&kick) };
	set_state(me, LISTENS);
	turns_lock(t);
	for (unsigned i = 0; i < t->n; i++)
		if (!t->all[i]) {
			t->all[i] = me;
			break;
		}
	turns_unlock(t);
	return 0;
}

void un_turns_leave(struct un_turns *t, struct un_turn *me)
{
	turns_lock(t);
	for (unsigned i = 0; i < t->n; i++)
		if (t->all[i] == me)
			t->all[i] = NULL;
	/* Who is parked may have relied on this one. */
	t->calls = atomic_load(&t->parked);
	pthread_cond_broadcast(&t->called);
	turns_unlock(t);
	un_close(me->epoll);
	un_close(me->kick);
}

static void kick(const struct un_turn *other)
{
	const uint64_t one = 1;

	un_ignore(write(other->kick, &one, sizeof(one)));
}

void un_turns_stop(struct un_turns *t)
{
	turns_lock(t);
	atomic_store(&t->stopping, true);
	pthread_cond_broadcast(&t->called);
	for (unsigned i = 0; i < t->n; i++)
		if (t->all[i])
			kick(t->all[i]);
	turns_unlock(t);
}

/* One more listener, if one is parked. */
static void call(struct un_turns *t)
{
	if (atomic_load_explicit(&t->parked, memory_order_relaxed) == 0)
		return;
	turns_lock(t);
	if (t->calls < atomic_load(&t->parked)) {
		t->calls++;
		pthread_cond_signal(&t->called);
	}
	turns_unlock(t);
}

/* One who waits is woken for each request, in vain while this one is faster: let it park. */
static void send_away(struct un_turns *t)
{
	turns_lock(t);
	for (unsigned i = 0; i < t->n; i++)
		if (t->all[i] && state_of(t->all[i]) == WAITS) {
			kick(t->all[i]);
			break;
		}
	turns_unlock(t);
}

/* ---- parking ---------------------------------------------------------------------------------------- */

/* Is there a worker that gets on: that listens wide awake, or has taken a request since the last look? */
static bool others_get_on_locked(struct un_turns *t, const struct un_turn *me)
{
	bool on = false;

	for (unsigned i = 0; i < t->n; i++) {
		struct un_turn *o = t->all[i];
		unsigned seq, state;

		if (!o || o == me)
			continue;
		state = state_of(o);
		if (state == PARKED)
			continue;
		seq = atomic_load_explicit(&o->seq, memory_order_relaxed);
		on = on || state == LISTENS || seq != o->seen;
		o->seen = seq;
	}
	return on;
}

/* False: the time is up and nobody has got on. */
static bool watch_locked(struct un_turns *t, struct un_turn *me)
{
	uint64_t until = now_ns() + TICK;
	const struct timespec ts = { (time_t)(until / (1000 * MS)), (long)(until % (1000 * MS)) };

	if (pthread_cond_timedwait(&t->called, &t->lock.m, &ts) == 0)
		return true;
	return others_get_on_locked(t, me);
}

/* Sleep while others are enough; false: they are not. */
static bool park(struct un_turns *t, struct un_turn *me)
{
	bool enough, parked;

	turns_lock(t);
	parked = enough = !t->stopping && others_get_on_locked(t, me);
	if (parked) {
		set_state(me, PARKED);
		atomic_fetch_add(&t->parked, 1);
	}
	while (enough && !t->stopping && t->calls == 0) {
		if (!t->sentinel)
			t->sentinel = me;
		if (t->sentinel == me)
			enough = watch_locked(t, me);
		else
			un_cond_wait(&t->called, &t->lock);
	}
	if (parked) {
		atomic_fetch_sub(&t->parked, 1);
		if (t->calls > 0)
			t->calls--;
		set_state(me, LISTENS);
	}
	if (t->sentinel == me) {
		t->sentinel = NULL;
		if (atomic_load(&t->parked) > 0)
			pthread_cond_broadcast(&t->called);
	}
	turns_unlock(t);
	return parked;
}

/* ---- listening -------------------------------------------------------------------------------------- */

static void wait_for_one(struct un_turns *t, struct un_turn *me)
{
	struct epoll_event e;
	uint64_t n;

	me->waited = true;
	set_state(me, WAITS);
	atomic_fetch_add(&t->waiting, 1);
	/* An error is one that reading the device tells as well. */
	if (!t->stopping && epoll_wait(me->epoll, &e, 1, -1) == 1 && e.data.fd == me->kick)
		un_ignore(read(me->kick, &n, sizeof(n)));
	atomic_fetch_sub(&t->waiting, 1);
	set_state(me, LISTENS);
}

/* Nothing came for as long as it pays to ask; or this one was woken for nothing. */
static void give_up(struct un_turns *t, struct un_turn *me)
{
	if (t->spin_ns == 0 || t->n == 1 || me->last < t->crowded_until || !park(t, me)) {
		wait_for_one(t, me);
		return;
	}
	/* Others did not get on. */
	me->since = me->last = now_ns();
	me->waited = false;
}

void un_turn_ask(struct un_turns *t, struct un_turn *me)
{
	uint64_t before = me->last, now;

	if (t->spin_ns == 0) {
		wait_for_one(t, me);
		return;
	}
	me->last = now = now_ns();
	if (me->tries == 0) {
		set_state(me, LISTENS);
		me->since = now;
		me->waited = false;
		if (me->score < WORTH || now < me->calm_until || now < t->crowded_until)
			wait_for_one(t, me);
		return;
	}
	if (me->waited) {
		give_up(t, me);
		return;
	}
	if (now - before > PREEMPTED)
		me->calm_until = now + CALM;
	else if (now - me->since < t->spin_ns)
		return;
	me->score -= MIN(me->score, MISS);
	give_up(t, me);
}

void un_turn_missed(struct un_turns *t, struct un_turn *me)
{
	me->tries++;
	/* Whoever else can run here shall, at once: the client, most of all. */
	if (!me->waited && t->spin_ns > 0)
		sched_yield();
}

/*
 * Is there work for two? A client that had to be woken does not ask again at once: then it is another
 * one, or the kernel, which reads ahead.
 */
static bool is_backlog(const struct un_turn *me, const struct un_turn_request *q)
{
	if (me->waited || me->before.oneway || q->oneway)
		return false;
	if (q->client != me->before.client)
		return me->last - me->since < SOON;
	return me->tries == 0 && q->stream && q->stream == me->before.stream;
}

void un_turn_taken(struct un_turns *t, struct un_turn *me, const struct un_turn_request *q)
{
	unsigned seq = atomic_load_explicit(&me->seq, memory_order_relaxed) + 1;
	bool help = q->slow;

	atomic_store_explicit(&me->seq, seq, memory_order_relaxed);
	set_state(me, BUSY);
	if (t->spin_ns == 0)
		return;
	if (is_backlog(me, q)) {
		t->crowded_until = me->last + CROWDED;
		help = true;
	}
	if (help) {
		me->run = 0;
		call(t);
	}
	me->tries = 0;
	me->before = *q;
	/* Asleep, it took the time of being woken as well. */
	if (!me->waited || now_ns() - me->since < 2 * t->spin_ns)
		me->score = MIN(me->score + 1, MOST);
	else if (me->score > 0)
		me->score--;
	if (!me->waited && ++me->run >= ALONE) {
		me->run = 0;
		if (atomic_load_explicit(&t->waiting, memory_order_relaxed) > 0)
			send_away(t);
	}
}
