/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ring_i.h"

#include "util/err.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int un_ring_open(struct un_ring *r, int device, unsigned entries)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP,
	};
	int ret;

	r->device = device;
	ret = io_uring_queue_init_params(entries, &r->ring, &p);
	/* A child that had it mapped would keep the connection alive (un_outside). */
	if (ret == 0)
		un_ignore(io_uring_ring_dontfork(&r->ring));
	return ret;
}

int un_ring_enable(struct un_ring *r)
{
	/* liburing 2.3 does not export its function for this. */
	return syscall(SYS_io_uring_register, r->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
		       0) < 0
		       ? -errno
		       : 0;
}

void un_ring_close(struct un_ring *r)
{
	io_uring_queue_exit(&r->ring);
}

static struct io_uring_sqe *next_sqe(struct un_ring *r)
{
	struct io_uring_sqe *sqe;

	/* Never more than one entry's and the descriptor's are on their way, except at registering. */
	while (!(sqe = io_uring_get_sqe(&r->ring)))
		un_ring_submit(r);
	return sqe;
}

void un_ring_command(struct un_ring *r, unsigned command, struct un_entry *e)
{
	const struct un_wire_ring_command c = {
		.qid = (uint16_t)e->qid,
		.commit_id = command == UN_WIRE_RING_COMMIT_AND_FETCH ? e->commit_id : 0,
	};
	struct io_uring_sqe *sqe = next_sqe(r);
	/* The ring has SQEs of 128 bytes, which end with the command; the compiler knows of 64. */
	void *at = (void *)((uintptr_t)sqe + offsetof(struct io_uring_sqe, cmd));

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = r->device;
	sqe->cmd_op = command;
	sqe->user_data = (uint64_t)(uintptr_t)e;
	if (command == UN_WIRE_RING_REGISTER) {
		sqe->addr = (uint64_t)(uintptr_t)e->iov;
		sqe->len = G_N_ELEMENTS(e->iov);
	}
	memcpy(at, &c, sizeof(c));
}

void un_ring_watch(struct un_ring *r, int fd)
{
	struct io_uring_sqe *sqe = next_sqe(r);

	io_uring_prep_poll_add(sqe, fd, POLLIN);
	sqe->user_data = 0;
}

void un_ring_submit(struct un_ring *r)
{
	while (io_uring_submit(&r->ring) == -EINTR)
		;
}

int un_ring_failed(struct un_ring *r)
{
	struct io_uring_cqe *cqe;
	unsigned head;

	io_uring_for_each_cqe(&r->ring, head, cqe) if (cqe->res < 0) return cqe->res;
	return 0;
}

bool un_ring_has(struct un_ring *r, const struct un_entry *e)
{
	struct io_uring_cqe *cqe;
	bool has = false;
	unsigned head;

	io_uring_for_each_cqe(&r->ring, head, cqe) has =
		has || !e || cqe->user_data == (uint64_t)(uintptr_t)e;
	return has;
}

int un_ring_wait(struct un_ring *r, unsigned seconds, struct un_entry **ret)
{
	struct __kernel_timespec ts = { .tv_sec = seconds };
	struct io_uring_cqe *cqe = NULL;
	int n;

	if (seconds)
		n = io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &ts, NULL);
	else
		n = io_uring_submit_and_wait(&r->ring, 1);
	if (io_uring_peek_cqe(&r->ring, &cqe) < 0 || !cqe)
		return n < 0 ? n : -EAGAIN;
	n = cqe->res;
	*ret = (struct un_entry *)(uintptr_t)cqe->user_data;
	io_uring_cqe_seen(&r->ring, cqe);
	return n < 0 ? n : 0;
}
