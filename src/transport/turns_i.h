/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who of several workers listens for the next request, and how.
 *
 * Waking a sleeping thread is most of what a request costs (on a virtual machine 20 to 40 us, where
 * the answer itself takes 2). So a worker that gets requests in quick succession asks again and again
 * for a moment before it sleeps, and the others stay out of the way: each waiter is one more thread
 * that the kernel wakes, in vain. When one worker cannot keep up (requests wait, it is stuck in a slow
 * one), another comes in.
 *
 * A worker's life: un_turn_ask() -> read without waiting -> un_turn_taken() and the request is processed,
 * or un_turn_missed() -> un_turn_ask() ...
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_turns;

/* The parts of a request that matter here. */
struct un_turn_request {
	unsigned client; /* the thread that sent it */
	uint64_t stream; /* the file of a READ, which the kernel asks for in pieces; 0: none */
	bool slow;       /* it may take long, or need others to be served meanwhile */
	bool oneway;     /* nobody waits for its answer, so that the next may come at once */
};

/* The state of one worker, written by itself; others read the first three fields. */
struct un_turn {
	_Atomic unsigned state; /* enum in turns.c */
	_Atomic unsigned seq;   /* requests taken */
	int kick;               /* eventfd: come out of waiting */
	int epoll;              /* waits for kick and for the device */
	unsigned seen;          /* seq, when a parked worker last looked; under the lock of all */
	unsigned tries;         /* reads since the last request */
	unsigned score;         /* how often the next request came soon, lately */
	unsigned run;           /* requests taken one after the other, with nobody's help needed */
	uint64_t since, last;   /* ns: began to listen; last tried */
	uint64_t calm_until;    /* ns: others need the processor, do not spin */
	bool waited;
	struct un_turn_request before;
};

/* @n workers at most. @spin_ns: how long one keeps asking; 0: never, and nobody stays out of the way. */
struct un_turns *un_turns_new(unsigned n, uint64_t spin_ns);
void un_turns_free(struct un_turns *t);
/* @me reads @device (non-blocking) from now on, until it leaves. 0 or -errno. */
int un_turns_join(struct un_turns *t, struct un_turn *me, int device);
void un_turns_leave(struct un_turns *t, struct un_turn *me);
/* No worker waits any more, now or later. Any thread. */
void un_turns_stop(struct un_turns *t);

/* Returns when it is time to try a read. May sleep. */
void un_turn_ask(struct un_turns *t, struct un_turn *me);
/* The read found no request. */
void un_turn_missed(struct un_turns *t, struct un_turn *me);
/* The read got the request @q. */
void un_turn_taken(struct un_turns *t, struct un_turn *me, const struct un_turn_request *q);
