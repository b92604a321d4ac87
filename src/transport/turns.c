/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures behind the constants are in tests/bench/README.md ("Who listens"). */
#include "turns-state_i.h"

#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Longer between two tries of a spinning worker: it was not alone on its processor. */
#define PREEMPTED (100 * US)
/* So long it does not spin then. */
#define CALM (20 * MS)
/* So long nobody spins after there was work for two: processors are not idle then. */
#define CROWDED (5 * MS)
/* No client that has to be woken asks again so soon. */
#define SOON (8 * US)
/* Scores: from here on spinning pays; the most. A miss costs as much as three hits bring. */
#define WORTH 4u
#define MOST 16u
#define MISS 3u
/* After so many requests that one worker took alone, another that waits is told to stay away. */
#define ALONE 8u

static void init_cond(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

struct un_turns *un_turns_new(const struct un_turns_config *c)
{
	struct un_turns *t = g_new0(struct un_turns, 1);

	t->config = *c;
	t->all = g_new0(struct un_turn *, c->max);
	un_mutex_init(&t->lock);
	init_cond(&t->warm.called);
	init_cond(&t->spare.called);
	init_cond(&t->watch);
	turns_is_ours(t);
	t->step = 1;
	return t;
}

void un_turns_free(struct un_turns *t)
{
	if (!t)
		return;
	pthread_cond_destroy(&t->watch);
	pthread_cond_destroy(&t->spare.called);
	pthread_cond_destroy(&t->warm.called);
	un_mutex_done(&t->lock);
	g_free(t->all);
	g_free(t);
}

static int watch_fd(int epoll, int fd, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* Exclusive: of those who wait the kernel wakes one, the same one as long as it is free. */
static int watch_device(const struct un_turn *me)
{
	return watch_fd(me->epoll, me->device, EPOLLIN | EPOLLEXCLUSIVE);
}

int un_turns_join(struct un_turns *t, struct un_turn *me, int device)
{
	un_autofd int epoll = epoll_create1(EPOLL_CLOEXEC);
	un_autofd int kick = -1;
	int r = epoll < 0 ? -errno : 0;
	unsigned n = 0;

	if (r == 0) {
		kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = kick < 0 ? -errno : watch_fd(epoll, kick, EPOLLIN);
	}
	*me = (struct un_turn){ .epoll = epoll, .kick = kick, .device = device };
	if (r == 0)
		r = watch_device(me);
	if (r < 0)
		return r;
	un_take_fd(&epoll);
	un_take_fd(&kick);
	set_state(me, LISTENS);
	turns_lock(t);
	for (unsigned i = 0; i < t->config.max; i++)
		n += t->all[i] != NULL;
	me->surplus = n >= t->config.warm;
	for (unsigned i = 0; i < t->config.max; i++)
		if (!t->all[i]) {
			t->all[i] = me;
			break;
		}
	turns_unlock(t);
	return 0;
}

static void kick(const struct un_turn *other)
{
	const uint64_t one = 1;

	un_ignore(write(other->kick, &one, sizeof(one)));
}

void un_turns_leave(struct un_turns *t, struct un_turn *me)
{
	turns_lock(t);
	for (unsigned i = 0; i < t->config.max; i++)
		if (t->all[i] == me)
			t->all[i] = NULL;
	/* Who is parked may have relied on this one, unless it was sure of others. */
	if (!me->leaving)
		un_parked_call_locked(t, UINT_MAX);
	turns_unlock(t);
	un_keeper_check(t);
	un_close(me->epoll);
	un_close(me->kick);
}

void un_turns_stop(struct un_turns *t)
{
	turns_lock(t);
	atomic_store(&t->stopping, true);
	pthread_cond_broadcast(&t->warm.called);
	pthread_cond_broadcast(&t->spare.called);
	pthread_cond_signal(&t->watch);
	for (unsigned i = 0; i < t->config.max; i++)
		if (t->all[i])
			kick(t->all[i]);
	turns_unlock(t);
}

/* One more listener, if one is parked. */
static void call(struct un_turns *t)
{
	if (atomic_load_explicit(&t->warm.n, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(&t->spare.n, memory_order_relaxed) == 0)
		return;
	turns_lock(t);
	un_parked_call_locked(t, 1);
	turns_unlock(t);
}

/* One who waits is woken for each request, in vain while this one is faster: let it park. */
static void send_away(struct un_turns *t)
{
	turns_lock(t);
	for (unsigned i = 0; i < t->config.max; i++)
		if (t->all[i] && state_of(t->all[i]) == WAITS) {
			kick(t->all[i]);
			break;
		}
	turns_unlock(t);
}

/* ---- parking ---------------------------------------------------------------------------------------- */

/* Is there a worker that gets on: that listens wide awake, or has taken a request since the last look? */
static bool others_get_on_locked(struct un_turns *t, const struct un_turn *me)
	UN_REQUIRES(t->lock, turns_role)
{
	bool on = false;

	for (unsigned i = 0; i < t->config.max; i++) {
		struct un_turn *o = t->all[i];
		unsigned seq, state;

		if (!o || o == me)
			continue;
		state = state_of(o);
		if (state == PARKED)
			continue;
		seq = atomic_load_explicit(&o->seq, memory_order_relaxed);
		on = on || state == LISTENS || seq != o->parker_saw;
		o->parker_saw = seq;
	}
	return on;
}

/*
 * @me has waited for long, in vain: may it go? Then it waits no more. The warm are so many who are free to listen, not
 * certain ones: one of them that is stuck gives its place to who would be missing otherwise.
 */
static bool may_leave_locked(struct un_turns *t, struct un_turn *me)
	UN_REQUIRES(t->lock, turns_role)
{
	struct un_turn *stuck = NULL;
	unsigned idle = 0;

	for (unsigned i = 0; i < t->config.max; i++) {
		struct un_turn *o = t->all[i];

		if (!o || o == me || o->leaving)
			continue;
		if (state_of(o) != BUSY)
			idle++;
		else if (!o->surplus)
			stuck = o;
	}
	if (idle >= t->config.warm) {
		/* What the kernel wakes it for from now on, others would miss. */
		me->leaving = epoll_ctl(me->epoll, EPOLL_CTL_DEL, me->device, NULL) == 0;
		return me->leaving;
	}
	me->surplus = false;
	if (stuck)
		stuck->surplus = true;
	return false;
}

/* A request came in the last moment: it stays. */
static void stay(struct un_turns *t, struct un_turn *me)
{
	turns_lock(t);
	me->leaving = watch_device(me) < 0;
	turns_unlock(t);
}

/* Until it is called, or has been parked for so long that it can go, or is one of the warm. */
static void sleep_parked_locked(struct un_turns *t, struct un_turn *me, struct un_parked *p)
	UN_REQUIRES(t->lock, turns_role)
{
	const uint64_t until = now_ns() + t->config.linger_ms * MS;
	const struct timespec ts = at_ns(until);

	while (!t->stopping && p->calls == 0) {
		if (!me->surplus) {
			un_cond_wait(&p->called, &t->lock);
		} else if (pthread_cond_timedwait(&p->called, &t->lock.m, &ts) == ETIMEDOUT &&
			   p->calls == 0) {
			un_ignore(may_leave_locked(t, me));
			return;
		}
	}
	if (p->calls > 0)
		p->calls--;
}

/* Sleep while others are enough; false: they are not. */
static bool park(struct un_turns *t, struct un_turn *me)
{
	struct un_parked *p = me->surplus ? &t->spare : &t->warm;
	bool parked;

	turns_lock(t);
	/* Who waits in the kernel is enough for one that is not needed, whoever gets on. */
	parked = !t->stopping &&
		 (atomic_load(&t->waiting) > 0
			  ? p == &t->spare || others_get_on_locked(t, me)
			  : others_get_on_locked(t, me) && me->last >= t->stuck_until);
	if (parked) {
		set_state(me, PARKED);
		atomic_fetch_add(&p->n, 1);
		/* The warm go back to waiting in the kernel as soon as it pays. */
		if (p == &t->warm || atomic_load(&t->waiting) == 0)
			un_keeper_arm_locked(t);
		sleep_parked_locked(t, me, p);
		atomic_fetch_sub(&p->n, 1);
		p->calls = MIN(p->calls, atomic_load(&p->n));
		set_state(me, LISTENS);
	}
	turns_unlock(t);
	return parked;
}

/* ---- listening -------------------------------------------------------------------------------------- */

static void wait_for_one(struct un_turns *t, struct un_turn *me)
{
	const int limit = me->surplus ? (int)t->config.linger_ms : -1;
	struct epoll_event e;
	uint64_t n;
	int r = 1;

	me->waited = true;
	set_state(me, WAITS);
	atomic_fetch_add(&t->waiting, 1);
	/* An error is one that reading the device tells as well. */
	if (!t->stopping && (r = epoll_wait(me->epoll, &e, 1, limit)) == 1 && e.data.fd == me->kick)
		un_ignore(read(me->kick, &n, sizeof(n)));
	atomic_fetch_sub(&t->waiting, 1);
	set_state(me, LISTENS);
	if (r == 0) {
		turns_lock(t);
		un_ignore(may_leave_locked(t, me));
		turns_unlock(t);
	}
}

/* Nothing came for as long as it pays to ask; or this one was woken for nothing. */
static void give_up(struct un_turns *t, struct un_turn *me)
{
	if (me->last < t->crowded_until || !park(t, me)) {
		wait_for_one(t, me);
		return;
	}
	/* Others did not get on. */
	me->since = me->last = now_ns();
	me->waited = false;
}

/*
 * One beyond the warm: it takes what is there, and then stays out of the way, or it would be woken in turns with them. While
 * requests take long one of them waits in the kernel.
 */
static void listen_spare(struct un_turns *t, struct un_turn *me)
{
	me->last = now_ns();
	if (me->tries == 0) {
		set_state(me, LISTENS);
		me->since = me->last;
		me->waited = false;
		return;
	}
	if (!park(t, me)) {
		wait_for_one(t, me);
		return;
	}
	me->since = me->last = now_ns();
	me->waited = false;
}

static void listen_spinning(struct un_turns *t, struct un_turn *me)
{
	uint64_t before = me->last, now;

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
	else if (now - me->since < t->config.spin_ns)
		return;
	me->score -= MIN(me->score, MISS);
	give_up(t, me);
}

bool un_turn_ask(struct un_turns *t, struct un_turn *me)
{
	if (me->leaving) {
		if (me->tries > 0)
			return false;
		stay(t, me);
	}
	if (me->surplus) {
		listen_spare(t, me);
	} else if (t->config.spin_ns == 0) {
		me->last = now_ns();
		wait_for_one(t, me);
	} else {
		listen_spinning(t, me);
	}
	return true;
}

void un_turn_missed(struct un_turns *t, struct un_turn *me)
{
	me->tries++;
	/* Whoever else can run here shall, at once: the client, most of all. */
	if (!me->waited && t->config.spin_ns > 0)
		sched_yield();
}

/*
 * Is there work for two? A client that had to be woken does not ask again at once: then it is another
 * one, or the kernel, which reads ahead.
 */
static bool is_backlog(const struct un_turn *me, unsigned tries, const struct un_turn_request *q)
{
	if (me->waited || me->before.oneway || q->oneway)
		return false;
	if (q->client != me->before.client)
		return me->last - me->since < SOON;
	return tries == 0 && q->stream && q->stream == me->before.stream;
}

void un_turn_taken(struct un_turns *t, struct un_turn *me, const struct un_turn_request *q)
{
	unsigned seq = atomic_load_explicit(&me->seq, memory_order_relaxed) + 1;
	const unsigned tries = me->tries;
	bool help = atomic_load(&t->waiting) == 0 && (q->slow || me->last < t->stuck_until);

	atomic_store_explicit(&me->seq, seq, memory_order_relaxed);
	set_state(me, BUSY);
	un_keeper_check(t);
	me->tries = 0;
	if (t->config.spin_ns == 0 || me->surplus) {
		if (help)
			call(t);
		return;
	}
	if (is_backlog(me, tries, q)) {
		/* The keeper may have set it to later. */
		if (t->crowded_until < me->last + CROWDED)
			t->crowded_until = me->last + CROWDED;
		help = true;
	}
	if (help) {
		me->run = 0;
		call(t);
	}
	me->before = *q;
	/* Asleep, it took the time of being woken as well. */
	if (!me->waited || now_ns() - me->since < 2 * t->config.spin_ns)
		me->score = MIN(me->score + 1, MOST);
	else if (me->score > 0)
		me->score--;
	if (!me->waited && ++me->run >= ALONE) {
		me->run = 0;
		/* While others are stuck one is to stay. */
		if (atomic_load(&t->waiting) > (me->last < t->stuck_until))
			send_away(t);
	}
}
