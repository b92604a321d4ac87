/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The servers of one queue of FUSE over io_uring, counted. */
#pragma once

#include "entry_i.h"
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
	_Atomic bool dry;           /* requests may wait that have found no entry */
	_Atomic uint64_t
		regular; /* node of a regular file that the kernel had lately; 0: none so far */
	struct un_yield yield;
	/* The dispatcher's: of its entries that have no request, those registered last (as @batch) and those before. */
	unsigned batch, young, old;
};

/* What the answered request in @e tells. */
static inline void un_queue_knows(struct un_queue *q, const struct un_entry *e)
{
	if (e->regular)
		atomic_store_explicit(&q->regular, e->regular, memory_order_relaxed);
}

/*
 * The kernel takes the entry first that came last. So a reserve is registered only while no server of the queue is
 * free: those that become free afterwards come before it. It starts threads until they are enough.
 */
static inline bool un_queue_needs_reserve(const struct un_queue *q, unsigned max_threads)
{
	return q->reserves < UN_QUEUE_RESERVES && q->busy >= q->n_servers &&
	       q->n_servers + q->reserves < max_threads + q->lent;
}
