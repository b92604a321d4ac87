/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors that close themselves. */
#pragma once

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
