/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What uring.c (entries that nobody serves, and the way in) and server.c (threads that serve) have in common. */
#pragma once

#include "entry_i.h"
#include "queue_i.h"
#include "ring_i.h"
#include "uring_i.h"

#include "util/err.h"
#include "util/lock.h"

#include <glib.h>
#include <semaphore.h>
#include <unistd.h>

/* Devices that are entries: this one and those below it. */
#define UN_URING_FIRST_DEVICE (-2)

UN_ROLE(uring_role);

struct un_uring {
	struct un_uring_config config;
	unsigned n_queues, max_entries;
	struct un_queue *queues;
	struct un_entry *entries;
	_Atomic unsigned n_entries;
	int stop; /* eventfd, readable when all are to end */
	int ask;  /* eventfd: there is something to do for the dispatcher */
	bool started;
	struct un_ring ring; /* the dispatcher's */
	pthread_t dispatcher;
	sem_t registered;
	bool told_refused; /* the dispatcher's: said once */
	int result;
	uint64_t nudges; /* so far; the dispatcher's */
	/* When the thread that serves the rest began with what it is at, us; 0: it waits. */
	_Atomic int64_t rest_since;
	un_transport_counts_t counts;
	struct un_mutex lock;
	GPtrArray *servers UN_GUARDED_BY(uring_role); /* that have not been joined */
	GQueue parked UN_GUARDED_BY(uring_role);      /* of these; who came last comes first */
	GQueue ended UN_GUARDED_BY(uring_role);       /* of these; to be joined */
	GQueue given UN_GUARDED_BY(uring_role);       /* entries with answers */
	bool serving UN_GUARDED_BY(uring_role); /* the dispatcher has a request in hand itself */
	bool over UN_GUARDED_BY(uring_role);    /* nobody is to park any more */
	uint64_t
		gone[UN_TRANSPORT_OPCODES] UN_GUARDED_BY(uring_role); /* requests of those joined */
};
UN_LOCKS(struct un_uring, lock, uring, uring_role);

/* Have the dispatcher look after queues, servers and entries. Any thread. */
static inline void un_uring_ask(const struct un_uring *u)
{
	const uint64_t one = 1;

	un_ignore(write(u->ask, &one, sizeof(one)));
}

/* A thread whose first request is the one in @e. -errno: there is none, and @e is as it was. By the dispatcher. */
int un_server_start(struct un_uring *u, struct un_entry *e);
/* Join those that have ended. By the dispatcher. */
void un_servers_reap(struct un_uring *u);
/* Wait until all have ended, which they are about to. After the dispatcher. */
void un_servers_join(struct un_uring *u);
/* Add the requests of all to @sums. */
void un_servers_counts(struct un_uring *u, uint64_t sums[UN_TRANSPORT_OPCODES]);
/* Process what the kernel has left in @e; the answer may not be there yet. By who has the entry. */
void un_server_process(struct un_uring *u, struct un_entry *e, un_transport_counts_t counts);
