/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One entry of a queue of FUSE over io_uring: the memory in which the kernel leaves a request and finds
 * the answer. Knows no ring.
 *
 *   | headers (288 bytes) ...   40 + op header | payload, page aligned ...      | 40 + op header + payload |
 *   | page 0 of the mapping                    | what the kernel was promised   | scratch, three pages     |
 *
 * libfuse wants a request in one piece. A WRITE stays where it is, its headers are put before it: no copy of
 * data, which starts on a page. All others are small and are put together in the scratch, since the answer's
 * payload takes the place of the request's, which a handler may still look at after it has answered.
 */
#pragma once

#include "transport/wire.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct un_entry {
	unsigned qid;
	char *map;
	size_t payload_size;
	struct un_wire_ring *ring; /* shared with the kernel */
	char *payload;             /* likewise */
	struct iovec iov[2];       /* both, for its registration */
	uint64_t commit_id;
	/* Of the request in hand, 0: none, or it is answered. Who makes it 0 answers. */
	_Atomic uint64_t unique;
	sem_t answered; /* once for each request */
	bool free;      /* the payload is not part of the request in hand */
	unsigned batch; /* the dispatcher's: when it was registered */
	uint32_t opcode;
	uint64_t
		regular; /* node of a regular file that the request or its answer was about; 0: of none so far */
	bool large; /* much of the payload has been used */
};

/* The payload a kernel asks for that sends WRITEs of @max_write at most. */
size_t un_entry_payload_size(unsigned max_write);
/* Memory is only reserved. False: there is none. */
bool un_entry_init(struct un_entry *e, unsigned qid, size_t payload_size);
/* Not before the ring that has it is closed. */
void un_entry_done(struct un_entry *e);

/*
 * The request that the kernel has left, in one piece: its size in *ret_size. It is in hand from now on. NULL:
 * it makes no sense; answer it with un_entry_fail().
 */
char *un_entry_request(struct un_entry *e, size_t *ret_size);
/* How much data the READ or WRITE moves that the kernel has left; 0: another request. */
size_t un_entry_data_size(const struct un_entry *e);
/* The kernel has left a request of our own (NOTIFY_RETRIEVE) in it. */
bool un_entry_is_nudge(const struct un_entry *e);
/*
 * Fill in the answer, if it is the one to the request in hand: any thread. False: it is not, and nothing was
 * done. The entry is the owner's again afterwards, who waits for it with un_entry_wait().
 */
bool un_entry_answer(struct un_entry *e, const struct iovec *iov, int count);
void un_entry_fail(struct un_entry *e, int neg_errno);
void un_entry_wait(struct un_entry *e);
/* Give back memory that only large requests need. By the owner, while it has no request. */
void un_entry_trim(struct un_entry *e);
