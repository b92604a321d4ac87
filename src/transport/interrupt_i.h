/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which requests in hand are wanted no more; for the files of transport/ only.
 *
 * The kernel says INTERRUPT once for a request, at the first signal of whatever kind, and to whoever reads the
 * device next: that may be before the thread that has read the request gets to it, and after it has answered.
 * From then on the caller waits for a fatal signal, of which nothing is said. So an interrupted request asks by
 * itself, whenever its handler calls un_cancelled(), whether its caller has been killed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_interrupts;

/* What one thread has in hand. Others read @unique and write @named; the rest is its own. */
struct un_in_hand {
	struct un_interrupts *of;
	struct un_in_hand *next;
	_Atomic uint64_t unique; /* 0: nothing */
	_Atomic uint64_t named;  /* by the last INTERRUPT that named what was in hand then */
	uint32_t pid;            /* who waits for the answer */
	bool gone;
	int64_t since,
		asked; /* us: known to be interrupted; last asked whether @pid was killed; 0: not */
};

/* As un_killed(). */
typedef int un_is_killed(uint32_t pid);
/*
 * @grace, in us: when a caller of whom nothing can be known is given up after its INTERRUPT.
 */
struct un_interrupts *un_interrupts_new(un_is_killed *killed, int64_t grace);
/* All threads have left. Accepts NULL. */
void un_interrupts_free(struct un_interrupts *t);

/* The calling thread serves requests from now on, one at a time, and un_cancelled() knows of it; until it leaves. */
void un_in_hand_join(struct un_interrupts *t, struct un_in_hand *me);
void un_in_hand_leave(struct un_in_hand *me);

/* Around the work for a request that the thread @pid has sent. At its end what was put off (un_cancel_later()) is run, unless it was taken. */
void un_in_hand_begin(struct un_in_hand *me, uint64_t unique, uint32_t pid);
void un_in_hand_end(struct un_in_hand *me);

/* INTERRUPT names @unique. Any thread. */
void un_interrupts_note(struct un_interrupts *t, uint64_t unique);
