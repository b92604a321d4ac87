/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests over io_uring (Linux 6.14), which leaves caller and daemon on one processor: a queue for each possible
 * processor, and threads of its own. What stays on /dev/fuse: FORGET and INTERRUPT from the kernel, our
 * notifications, and everything before un_uring_start() and where that fails.
 *
 * An entry of a queue takes one request at a time, and the kernel prefers the one that was free last. So a
 * thread with one entry is one worker, the warm one comes first, and one that blocks holds up nobody as long
 * as the queue has another entry. The dispatcher holds a reserve for each queue: what arrives there is a
 * request for which no thread was free, and becomes the first one of a new thread.
 */
#pragma once

#include "workers_i.h"

#include "transport/transport.h"

#include <sys/uio.h>

struct un_uring;

struct un_uring_config {
	int device;           /* the session's; non-blocking from un_uring_serve_rest() on */
	size_t device_buffer; /* what a read from it takes */
	unsigned max_write;   /* bytes */
	unsigned max_threads; /* for each queue */
	/* Processes the request in @buf, which must be answered; on many threads. */
	void (*process)(void *data, un_transport_counts_t counts, char *buf, size_t size);
	/* On each thread, before its first request and after its last. */
	void (*thread_start)(void *data);
	void (*thread_end)(void *data);
	void *data;
};

/*
 * What can fail without harm, before INIT is answered with UN_WIRE_OVER_IO_URING: from then on the kernel
 * lets requests wait for un_uring_start(). One in a process. NULL and half a sentence in *ret_why: it is not to be had.
 */
struct un_uring *un_uring_new(const struct un_uring_config *config, char **ret_why);
/* After INIT. -errno: all requests come over /dev/fuse. */
int un_uring_start(struct un_uring *u);
/*
 * Process what comes over /dev/fuse meanwhile, by the same function: nobody waits for it, so it is taken in
 * batches. Returns -errno when that ends, -ENODEV after un_uring_stop().
 */
int un_uring_serve_rest(struct un_uring *u, un_transport_counts_t counts, char *buf);
/* All threads end although the connection lives on. Any thread. */
void un_uring_stop(struct un_uring *u);
/* Returns when they have ended: after un_uring_stop(), or the end of the connection. */
void un_uring_join(struct un_uring *u);
void un_uring_free(struct un_uring *u);
/* How many descriptors threads may need, @max_threads for each queue; any time. */
unsigned un_uring_fds(unsigned max_threads);
/* Add the requests received to @sums. */
void un_uring_counts(struct un_uring *u, uint64_t sums[UN_TRANSPORT_OPCODES]);

/*
 * An answer made on a thread with this un_transport_keep_device(). False: it does not belong there (a
 * notification, another thread's), and goes to /dev/fuse.
 */
bool un_uring_answer(int device, const struct iovec *iov, int count);
/* The calling thread's room for the data of its answer, of @size; NULL: it has none. */
void *un_uring_room(size_t size);
/* The answer given on this thread leaves now, not when the handler returns. */
void un_uring_flush(void);
/*
 * The calling thread is going to wait for something that takes other requests: others serve its queue, and this
 * one does not count. False: it is none of ours. Then un_uring_unlend().
 */
bool un_uring_lend(void);
void un_uring_unlend(void);
