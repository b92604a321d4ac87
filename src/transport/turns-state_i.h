/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What turns.c, where workers listen, and keeper.c, where somebody looks after them, have in common. */
#pragma once

#include "turns_i.h"

#include "util/lock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define US 1000ull
#define MS 1000000ull

enum {
	BUSY,    /* has a request in hand */
	LISTENS, /* awake, asking */
	WAITS,   /* in the kernel until there is one */
	PARKED,  /* until called */
};

UN_ROLE(turns_role);

struct un_turns {
	struct un_turns_config config;
	struct un_turn **all; /* config.max; NULL: nobody */
	struct un_mutex lock; /* what follows, and who parks */
	pthread_cond_t watch;
	struct un_parked {
		pthread_cond_t called;
		atomic_uint n;
		unsigned calls; /* under the lock; that none of them has heard yet */
	} warm, spare;          /* those who are parked: of the warm, and beyond them */
	bool poked UN_GUARDED_BY(turns_role);     /* the keeper, to return */
	unsigned quiet UN_GUARDED_BY(turns_role); /* looks of the keeper at which all was well */
	unsigned step UN_GUARDED_BY(turns_role);  /* how many more come in at the next look */
	uint64_t retry UN_GUARDED_BY(turns_role); /* ns: no worker is started before */
	bool prompt;                              /* the keeper's alone */
	atomic_bool stopping;
	atomic_bool armed; /* the keeper looks every TICK; set and cleared with the lock held */
	atomic_uint waiting;
	_Atomic uint64_t crowded_until; /* ns: there is work for two */
	_Atomic uint64_t
		stuck_until; /* ns: requests take long, so that somebody is always to wait for the next */
};
UN_LOCKS(struct un_turns, lock, turns, turns_role);

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

static inline struct timespec at_ns(uint64_t ns)
{
	return (struct timespec){ (time_t)(ns / (1000 * MS)), (long)(ns % (1000 * MS)) };
}

static inline void set_state(struct un_turn *me, unsigned state)
{
	atomic_store_explicit(&me->state, state, memory_order_release);
}

static inline unsigned state_of(const struct un_turn *other)
{
	return atomic_load_explicit(&other->state, memory_order_acquire);
}

/* parked.c: up to @n who are parked are to listen, the warm before the others; returns how many there were. */
unsigned un_parked_call_locked(struct un_turns *t, unsigned n) UN_REQUIRES(t->lock, turns_role);
/* The keeper is to look every TICK. */
void un_keeper_arm_locked(struct un_turns *t) UN_REQUIRES(t->lock, turns_role);
/* The same, if nobody waits any more: after each change of a worker that waited, or may have been thought to. */
void un_keeper_check(struct un_turns *t);
