/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors that close themselves, and what is done when there are none left.
 *
 * Want of descriptors is the daemon's own affair, not that of whoever asked it for something: whatever
 * opens a file while requests are served does so in a loop,
 *
 *	unsigned tries = 0;
 *
 *	do
 *		fd = un_errno(open(...));
 *	while (un_fd_again(fd, &tries));
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

static inline void un_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

static inline void un_closep(int *fd)
{
	un_close(*fd);
}

/* `un_autofd int fd = open(...)`: closed when the scope ends, unless taken with un_take_fd(). */
#define un_autofd __attribute__((cleanup(un_closep)))

static inline int un_take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/*
 * Who can do with fewer: @give_back closes some, returns true if it did, is called by any thread and takes
 * no lock that may be held while a file is opened. One per process; NULL: nobody (any more), and a file that
 * cannot be opened is not tried again.
 */
void un_fd_giver(bool (*give_back)(void *data), void *data);
/*
 * It failed for want of descriptors, and is to be tried again: others may be in use for a moment by other
 * threads, so it waits a little if nobody gives any, 1.4 s in all. @tries counts, from 0.
 */
bool un_fd_wait(unsigned *tries);

/* @r: a descriptor or -errno. */
static inline bool un_fd_again(int r, unsigned *tries)
{
	return (r == -EMFILE || r == -ENFILE) && un_fd_wait(tries);
}

/* @r for a caller, whose own limit it is not. */
static inline int un_fd_result(int r)
{
	return r == -EMFILE ? -ENFILE : r;
}
