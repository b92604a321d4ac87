/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who of several workers listens for the next request, and how; and whether there are enough of them.
 *
 * Waking a sleeping thread is most of what a request costs (on a virtual machine 20 to 40 us, where
 * the answer itself takes 2). So a worker that gets requests in quick succession asks again and again
 * for a moment before it sleeps, and the others stay out of the way: each waiter is one more thread
 * that the kernel wakes, in vain. When one worker cannot keep up (requests wait, it is stuck in a slow
 * one), another comes in; and where none is left, the keeper starts one.
 *
 * A worker's life: un_turn_ask() -> read without waiting -> un_turn_taken() and the request is processed,
 * or un_turn_missed() -> un_turn_ask() ... until un_turn_ask() says that it is not needed any more.
 *
 * The keeper is one thread that does nothing else: un_turns_watch() -> so many workers join and start -> ...
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

/* The state of one worker, written by itself; others use what comes before `tries`. */
struct un_turn {
	_Atomic unsigned state; /* enum in turns.c */
	_Atomic unsigned seq;   /* requests taken */
	int kick;               /* eventfd: come out of waiting */
	int epoll;              /* waits for kick and for the device */
	int device;             /* borrowed */
	/* Under the lock of all: */
	unsigned held; /* so many looks of the keeper in a row had it with the same request */
	unsigned seen,
		parker_saw; /* seq, when the keeper, or one that was about to park, last looked */
	_Atomic bool
		surplus; /* ends if nobody needs it for a while; read by itself without the lock */
	bool leaving;    /* waits no more; looks once more whether there is a request */

	unsigned tries;       /* reads since the last request */
	unsigned score;       /* how often the next request came soon, lately */
	unsigned run;         /* requests taken one after the other, with nobody's help needed */
	uint64_t since, last; /* ns: began to listen; last tried */
	uint64_t calm_until;  /* ns: others need the processor, do not spin */
	bool waited;
	struct un_turn_request before;
};

struct un_turns_config {
	unsigned warm;    /* workers that stay, however long nothing comes */
	unsigned max;     /* workers at most, at least warm */
	uint64_t spin_ns; /* how long one keeps asking; 0: never, and nobody stays out of the way */
	unsigned linger_ms; /* so long one beyond the warm waits for a request before it ends */
	int device;         /* tells whether requests wait (poll) */
};

struct un_turns *un_turns_new(const struct un_turns_config *c);
void un_turns_free(struct un_turns *t);
/*
 * @me reads @device (non-blocking) from now on, until it leaves. 0 or -errno. Before its thread starts: from here
 * on it is counted as one that listens. No more than there may be at a time.
 */
int un_turns_join(struct un_turns *t, struct un_turn *me, int device);
/* @device may be closed afterwards. */
void un_turns_leave(struct un_turns *t, struct un_turn *me);
/* No worker waits any more, now or later. Any thread. */
void un_turns_stop(struct un_turns *t);

/*
 * Returns when it is time to try a read; may sleep. False: nothing has come for long, and others are enough: @me is
 * to leave.
 */
bool un_turn_ask(struct un_turns *t, struct un_turn *me);
/* The read found no request. */
void un_turn_missed(struct un_turns *t, struct un_turn *me);
/* The read got the request @q. */
void un_turn_taken(struct un_turns *t, struct un_turn *me, const struct un_turn_request *q);

/*
 * For the keeper. Sleeps until that many more workers are to join, or un_turns_poke() was called: then 0. While all is
 * quiet it sleeps without a time limit.
 */
unsigned un_turns_watch(struct un_turns *t);
/* Not one more could be started: do not ask again at once. */
void un_turns_refused(struct un_turns *t);
void un_turns_poke(struct un_turns *t);
