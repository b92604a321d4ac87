/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processors, for requests that are to be served where their callers wait. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * How many queues the kernel wants: processors that are possible, not those that are there; 0: not known. First
 * of what follows, by a thread that may run wherever the process may.
 */
unsigned un_place_count(void);
/* The calling thread runs on that one only. False: it may not, or it is not there. */
bool un_place_on(unsigned cpu);
/* ... on those it was started with. */
void un_place_anywhere(void);

/* Where a thread is. Zeroed at first. */
struct un_place {
	bool bound;
	unsigned wait; /* requests until it is bound again */
};
/*
 * For a request of processor @cpu that moves @data bytes: there, where its caller waits. A large one anywhere:
 * caller and daemon copy at the same time, on two processors.
 */
void un_place_for(struct un_place *p, unsigned cpu, size_t data);

/*
 * Who is woken goes to another processor if that one is idle and the waker's is not; there the next request begins, and
 * each has to be woken. A processor on which only SCHED_IDLE runs counts as idle: so that is what a thread is for the
 * moment in which its answer leaves, and the caller stays. It takes CAP_SYS_NICE to become normal again.
 *
 * Where others want the processor such a moment is long (some ms): so there is none while no processor is idle (then
 * nobody is moved anyway), and none for a while after one that was.
 */
struct un_yield {
	_Atomic bool on;
	_Atomic int64_t look; /* when that may change, us */
};
/* May threads of this process? Once, before the others. */
bool un_yield_find_out(void);
/* Before an answer leaves, of a thread in its own processor's queue with its *@y. The time, for un_yield_end(); 0: no attempt. */
int64_t un_yield_begin(struct un_yield *y);
void un_yield_end(struct un_yield *y, int64_t since);
