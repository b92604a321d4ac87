/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The threads that read /dev/fuse, as many as it takes: while all are busy for long and requests wait, another one
 * starts, up to a limit; those beyond the warm ones end when nothing has come for a few seconds, and give back
 * their buffer and their device. Who listens when is decided by turns.c and keeper.c.
 */
#pragma once

#include "transport/transport.h"
#include "turns_i.h"

#include <pthread.h>

/* Requests by opcode, written by one thread only. */
typedef _Atomic uint64_t un_transport_counts_t[UN_TRANSPORT_OPCODES];

/* Written by its own thread only; on cache lines of its own. */
struct un_worker {
	struct un_workers *all;
	int fd;    /* the session's, or a clone of our own */
	char *buf; /* memory that is there as soon as it is used */
	pthread_t thread;
	struct un_turn turn;
	un_transport_counts_t counts;
} __attribute__((aligned(128)));

struct un_workers_config {
	unsigned warm, max; /* as in un_turns_config */
	uint64_t spin_ns;
	bool clone_fd;
	int session_fd;
	size_t buf_size; /* the largest request */
	/* On each thread, before its first request and after its last. May be NULL. */
	void (*start)(void *data);
	void (*end)(void *data);
	/* One request of @size bytes, in @buf, to be answered by the thread's device; counted in @counts. */
	void (*serve)(void *data, un_transport_counts_t counts, char *buf, size_t size);
	void *data;
};

struct un_workers *un_workers_new(const struct un_workers_config *c);
/* After un_workers_wait(), or if none was started. */
void un_workers_free(struct un_workers *ws);

/* A buffer for requests, with the data of a WRITE on a page. NULL: no memory. */
char *un_workers_buffer(const struct un_workers *ws);
void un_workers_buffer_free(const struct un_workers *ws, char *buf);

/* The warm ones. 0, if only some of them, or -errno if none could be started. */
int un_workers_start(struct un_workers *ws);
/* Look after them, on the calling thread, until the last has ended: all do when the connection ends. */
void un_workers_wait(struct un_workers *ws);
/* Make them end although the connection lives on. Any other thread; does not wait. */
void un_workers_stop(struct un_workers *ws);

/* Adds what all have served, also those that have ended. Any thread. */
void un_workers_counts(struct un_workers *ws, uint64_t counts[UN_TRANSPORT_OPCODES]);
