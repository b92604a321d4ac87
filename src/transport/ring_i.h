/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ring of one thread, for entries of FUSE. */
#pragma once

#include "entry_i.h"

#include <errno.h>
#include <liburing.h>
#include <stdbool.h>

struct un_ring {
	struct io_uring ring;
	int device;
};

/* For commands on @device. The thread that calls un_ring_enable() is its only user. 0 or -errno. */
int un_ring_open(struct un_ring *r, int device, unsigned entries);
int un_ring_enable(struct un_ring *r);
void un_ring_close(struct un_ring *r);

/* The next submission has a command, UN_WIRE_RING_*, for @e. */
void un_ring_command(struct un_ring *r, unsigned command, struct un_entry *e);
/* ... asks whether @fd is readable, once. */
void un_ring_watch(struct un_ring *r, int fd);
/* Submit what there is, without waiting. */
void un_ring_submit(struct un_ring *r);
/* Has a command failed at once? -errno, or 0. Nothing is taken away. */
int un_ring_failed(struct un_ring *r);
/* Is the request for @e (NULL: any) there already, so that un_ring_wait() would not have to wait? */
bool un_ring_has(struct un_ring *r, const struct un_entry *e);
/*
 * Submit what there is and wait for a command to end. 0: the request is in *ret, NULL if the descriptor of
 * un_ring_watch() is readable; -errno: of the command, which is over; -EINTR; -ETIME: @seconds (if not 0)
 * are over.
 */
int un_ring_wait(struct un_ring *r, unsigned seconds, struct un_entry **ret);
/* Is @r, of a command, how it ends when the connection does? */
static inline bool un_ring_is_end(int r)
{
	return r == -ENOTCONN || r == -ECONNABORTED || r == -ECANCELED || r == -ENODEV;
}
