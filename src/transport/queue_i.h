/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The servers of one queue of FUSE over io_uring, counted. */
#pragma once

#include "processor_i.h"

#include <stdatomic.h>
#include <stdbool.h>

/* So many requests may come before the dispatcher gets to the first. Only address space, until used. */
#define UN_QUEUE_RESERVES 16u

struct un_queue {
	_Atomic unsigned n_servers; /* the dispatcher adds */
	_Atomic unsigned busy;      /* of them have a request in hand */
	_Atomic unsigned lent;      /* of these wait for requests that others have to serve */
	_Atomic unsigned reserves;  /* entries that the dispatcher has */
	struct un_yield yield;
};

/*
 * The kernel takes the entry first that came last. So a reserve is registered only while no server of the queue is
 * free: those that become free afterwards come before it. It starts threads until they are enough.
 */
static inline bool un_queue_needs_reserve(const struct un_queue *q, unsigned max_threads)
{
	return q->reserves < UN_QUEUE_RESERVES && q->busy >= q->n_servers &&
	       q->n_servers + q->reserves < max_threads + q->lent;
}
