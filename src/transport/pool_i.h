/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads on demand, for work that may block: each job has a thread of its own, at once. For one that must not
 * hold up the thread that has received it, be it a worker or a queue of FUSE over io_uring:
 *
 *	if (!un_pool_run(pool, fn, data))
 *		fn(data);            or: wait until one is free
 *
 * A thread without a job waits a few seconds for the next one and ends. An idle pool has no threads and no
 * timers. A job may run others, but must not wait for them: where the pool is full, nobody would run them.
 */
#pragma once

#include <stdbool.h>

struct un_pool;

struct un_pool_config {
	unsigned max; /* threads at a time */
	/* On each thread, before its first job; NULL: nothing. */
	void (*start)(void *data);
	void *data;
};

struct un_pool *un_pool_new(const struct un_pool_config *c);
/*
 * Run @fn(@data) soon, on a thread that has nothing else to do. False: all are busy and no other can be started
 * (there are as many as may be, the system refuses, or the pool has been stopped); nothing was done. Any thread.
 * The device of the thread (un_transport_use_device()) is none, before and after.
 */
bool un_pool_run(struct un_pool *p, void (*fn)(void *data), void *data);
/* The same; where un_pool_run() says false, @fn waits for the next thread that is free. False: stopped. */
bool un_pool_queue(struct un_pool *p, void (*fn)(void *data), void *data);
/* Takes no more jobs, waits for those that run and wait, and joins the threads. Not on one of them. Twice is fine. */
void un_pool_stop(struct un_pool *p);
void un_pool_free(struct un_pool *p);
