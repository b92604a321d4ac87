/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ring_i.h"

#include "util/err.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- rings ------------------------------------------------------------------------------------------ */

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

/* ---- processors ------------------------------------------------------------------------------------- */

/* More than any kernel has. */
#define MAX_CPUS 16384

/* Those that this process was started with; others are not for us. */
static cpu_set_t *allowed;
#define SET_SIZE CPU_ALLOC_SIZE(MAX_CPUS)

static bool note_allowed(void)
{
	if (!allowed)
		allowed = CPU_ALLOC(MAX_CPUS);
	if (!allowed)
		return false;
	CPU_ZERO_S(SET_SIZE, allowed);
	return sched_getaffinity(0, SET_SIZE, allowed) == 0;
}

unsigned un_place_count(void)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) ranges = NULL;
	unsigned n = 0;

	if (!note_allowed() ||
	    !g_file_get_contents("/sys/devices/system/cpu/possible", &text, NULL, NULL))
		return 0;
	ranges = g_strsplit(g_strstrip(text), ",", -1);
	for (char **r = ranges; *r; r++) {
		unsigned first, last;

		switch (sscanf(*r, "%u-%u", &first, &last)) {
		case 1:
			n++;
			break;
		case 2:
			n += last >= first ? last - first + 1 : 0;
			break;
		default:
			return 0;
		}
	}
	return n <= MAX_CPUS ? n : 0;
}

bool un_place_on(unsigned cpu)
{
	cpu_set_t *set;
	bool ok;

	if (!CPU_ISSET_S(cpu, SET_SIZE, allowed))
		return false;
	set = CPU_ALLOC(MAX_CPUS);
	if (!set)
		return false;
	CPU_ZERO_S(SET_SIZE, set);
	CPU_SET_S(cpu, SET_SIZE, set);
	ok = sched_setaffinity(0, SET_SIZE, set) == 0;
	CPU_FREE(set);
	return ok;
}

void un_place_anywhere(void)
{
	un_ignore(sched_setaffinity(0, SET_SIZE, allowed));
}

#define LARGE (64 * 1024u)
/* Requests until a thread is bound again: after a large one; after it could not be. */
#define AFTER_LARGE 8u
#define AFTER_FAILURE 4096u

void un_place_for(struct un_place *p, unsigned cpu, size_t data)
{
	if (data >= LARGE) {
		p->wait = AFTER_LARGE;
		if (p->bound)
			un_place_anywhere();
		p->bound = false;
	} else if (!p->bound && p->wait > 0) {
		p->wait--;
	} else if (!p->bound) {
		p->bound = un_place_on(cpu);
		p->wait = AFTER_FAILURE;
	}
}
