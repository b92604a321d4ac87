/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For a build without liburing: in place of uring.c, ring.c and entry.c. All requests come over /dev/fuse. */
#include "uring_i.h"

#include <errno.h>
#include <glib.h>

struct un_uring *un_uring_new(const struct un_uring_config *config, char **ret_why)
{
	(void)config;
	*ret_why = g_strdup("this program was built without liburing");
	return NULL;
}

int un_uring_start(struct un_uring *u)
{
	(void)u;
	return -EOPNOTSUPP;
}

int un_uring_serve_rest(struct un_uring *u, un_transport_counts_t counts, char *buf)
{
	(void)u;
	(void)counts;
	(void)buf;
	return -EOPNOTSUPP;
}

void un_uring_stop(struct un_uring *u)
{
	(void)u;
}

void un_uring_join(struct un_uring *u)
{
	(void)u;
}

void un_uring_free(struct un_uring *u)
{
	(void)u;
}

unsigned un_uring_fds(unsigned max_threads)
{
	(void)max_threads;
	return 0;
}

void un_uring_counts(struct un_uring *u, uint64_t sums[UN_TRANSPORT_OPCODES])
{
	(void)u;
	(void)sums;
}

bool un_uring_answer(int device, const struct iovec *iov, int count)
{
	(void)device;
	(void)iov;
	(void)count;
	return false;
}

void *un_uring_room(size_t size)
{
	(void)size;
	return NULL;
}

void un_uring_flush(void)
{
}

bool un_uring_lend(void)
{
	return false;
}

void un_uring_unlend(void)
{
}
