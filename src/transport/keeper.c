/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Somebody always listens, or will within TICK: while nobody waits in the kernel for the next request, or one of the
 * warm is parked, the keeper is armed and looks every TICK whether any of those awake has got on since. If none has (all are
 * stuck, or wait without work) and requests wait, or one has been stuck for LONG looks, it calls those who are parked, and
 * where there are none it starts another worker. On an idle mount the warm wait in the kernel, those beyond them are
 * parked until they end, and there is no timer.
 *
 * Not armed means that some worker waits. Whoever ends that (takes a request, parks, leaves) and finds that nobody
 * else does arms the keeper; and the keeper, after it has put its arms down, looks once more. Both in this
 * order: first the own change, then the look at the other's (sequentially consistent).
 */
#include "turns-state_i.h"

#include "util/err.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How soon the keeper sees that nobody gets on. */
#define TICK (2 * MS)
/* So long after a request took a TICK or more, another one may: somebody is to wait for the next all the time. */
#define STUCK (200 * MS)
/* So many looks with one request are no chance: who has answered and waits for a processor has not that long to wait. */
#define LONG 3u
/* So often somebody has to be waiting when the keeper looks, before it sleeps. */
#define QUIET 5u
/* So many requests within a TICK are not of the kind that takes long. */
#define SEVERAL 3u
/* After a worker could not be started. */
#define RETRY (100 * MS)
/* So many more come in where requests wait; it doubles while all of them got stuck as well. */
#define FIRST 4u
#define MOST_AT_ONCE 16u
/* While others are stuck so many are to be ready for the next requests. */
#define READY 2u

void un_keeper_arm_locked(struct un_turns *t) UN_REQUIRES(t->lock, turns_role)
{
	if (t->armed)
		return;
	t->armed = true;
	t->quiet = 0;
	pthread_cond_signal(&t->watch);
}

void un_keeper_check(struct un_turns *t)
{
	if (atomic_load(&t->waiting) > 0 || atomic_load(&t->armed))
		return;
	turns_lock(t);
	un_keeper_arm_locked(t);
	turns_unlock(t);
}

struct sight {
	bool on; /* somebody listens wide awake, or has taken several requests since the last look */
	bool stuck; /* somebody has had the same request in hand since the last look */
	bool for_long; /* and since LONG looks */
	unsigned n, busy, listen;
};

static void look_locked(struct un_turns *t, struct sight *ret) UN_REQUIRES(t->lock, turns_role)
{
	*ret = (struct sight){ 0 };
	for (unsigned i = 0; i < t->config.max; i++) {
		struct un_turn *o = t->all[i];
		unsigned seq, state;

		if (!o)
			continue;
		ret->n++;
		state = state_of(o);
		ret->busy += state == BUSY;
		ret->listen += state == LISTENS;
		seq = atomic_load_explicit(&o->seq, memory_order_relaxed);
		o->held = state == BUSY && seq == o->seen ? o->held + 1 : 0;
		ret->stuck = ret->stuck || o->held > 0;
		ret->for_long = ret->for_long || o->held >= LONG;
		ret->on = ret->on || state == LISTENS ||
			  (state != PARKED && seq - o->seen >= (state == BUSY ? SEVERAL : 1));
		o->seen = seq;
	}
}

static bool requests_wait(const struct un_turns *t)
{
	struct pollfd p = { .fd = t->config.device, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* Only where somebody waits, or where nothing is to be done, whoever gets stuck. */
static void disarm_locked(struct un_turns *t, bool help) UN_REQUIRES(t->lock, turns_role)
{
	t->armed = false;
	if (help && atomic_load(&t->waiting) == 0)
		t->armed = true;
}

/*
 * Nobody has got on, and nobody waits in the kernel: so many more workers are to be started. None for a request that took
 * a little longer when no other waits: they would be in the way of who is enough.
 */
static unsigned help_locked(struct un_turns *t, const struct sight *s, bool wait)
	UN_REQUIRES(t->lock, turns_role)
{
	unsigned n = 1;

	if (s->busy > 0 && !wait && !s->for_long)
		return 0;
	if (wait) {
		n = t->step;
		t->step = MIN(2 * n, MOST_AT_ONCE);
		t->crowded_until = now_ns() + STUCK;
	}
	if (un_parked_call_locked(t, n) > 0)
		return 0;
	n = MIN(n, t->config.max - s->n);
	if (n == 0 || s->busy == 0)
		disarm_locked(t, false);
	return now_ns() < t->retry || s->busy == 0 ? 0 : n;
}

static unsigned tick_locked(struct un_turns *t) UN_REQUIRES(t->lock, turns_role)
{
	const bool waits = atomic_load(&t->waiting) > 0;
	const unsigned warm = atomic_load(&t->warm.n);
	bool wait, takes_long;
	struct sight s;
	unsigned ready;

	look_locked(t, &s);
	ready = atomic_load(&t->waiting) + warm + atomic_load(&t->spare.n) + s.listen;
	wait = !waits && (s.stuck || !s.on) && requests_wait(t);
	takes_long = s.for_long || (s.stuck && wait);
	if (takes_long)
		t->stuck_until = now_ns() + STUCK;
	t->quiet = waits && warm == 0 ? t->quiet + 1 : 0;
	if (s.on || waits)
		t->step = FIRST;
	if (!s.on && !waits)
		return help_locked(t, &s, wait);
	/* They are to wait in the kernel as well: then nobody has to look. */
	if (!s.on)
		un_parked_call_locked(t, warm);
	/* Whoever gets on may be the next to be stuck. */
	if (takes_long && ready < READY && s.n < t->config.max && now_ns() >= t->retry)
		return MIN(READY - ready, t->config.max - s.n);
	if (t->quiet >= QUIET || (t->quiet > 0 && !s.on))
		disarm_locked(t, true);
	return 0;
}

/*
 * Where all processors are busy (with copying, say) its look must not come late. It never takes long: a slice that is
 * short lets the scheduler give it the processor at once (Linux 6.12; before, it has no effect).
 */
static void be_prompt(void)
{
	const struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = { .size = sizeof(attr), .runtime = 100 * US };

	un_ignore((int)syscall(SYS_sched_setattr, 0, &attr, 0));
}

unsigned un_turns_watch(struct un_turns *t)
{
	unsigned n = 0;

	if (!t->prompt)
		be_prompt();
	t->prompt = true;
	turns_lock(t);
	while (n == 0 && !t->poked && !t->stopping) {
		if (!t->armed) {
			un_cond_wait(&t->watch, &t->lock);
		} else {
			const struct timespec ts = at_ns(now_ns() + TICK);

			if (pthread_cond_timedwait(&t->watch, &t->lock.m, &ts) == ETIMEDOUT)
				n = tick_locked(t);
		}
	}
	/* Nothing stops who waits for the last worker but the end of that. */
	while (t->stopping && !t->poked)
		un_cond_wait(&t->watch, &t->lock);
	t->poked = false;
	if (t->stopping)
		n = 0;
	turns_unlock(t);
	return n;
}

void un_turns_refused(struct un_turns *t)
{
	turns_lock(t);
	t->retry = now_ns() + RETRY;
	turns_unlock(t);
}

void un_turns_poke(struct un_turns *t)
{
	turns_lock(t);
	t->poked = true;
	pthread_cond_signal(&t->watch);
	turns_unlock(t);
}
