/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "entry_i.h"

#include "util/err.h"

#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096u
#define SCRATCH (3 * PAGE)
/* A SETXATTR needs this much whatever max_write is, and a kernel that was not asked takes 32 pages. */
#define MIN_PAYLOAD (128 * 1024u)
/* So much of the payload is kept. */
#define KEPT (4 * PAGE)

size_t un_entry_payload_size(unsigned max_write)
{
	return MAX((max_write + PAGE - 1) / PAGE * PAGE, MIN_PAYLOAD);
}

bool un_entry_init(struct un_entry *e, unsigned qid, size_t payload_size)
{
	const size_t size = PAGE + payload_size + SCRATCH;
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return false;
	/* Most of it is never used: no huge page for the few that are. */
	un_ignore(madvise(map, size, MADV_NOHUGEPAGE));
	*e = (struct un_entry){
		.qid = qid,
		.map = map,
		.payload_size = payload_size,
		.ring = map,
		.payload = (char *)map + PAGE,
	};
	e->iov[0] = (struct iovec){ e->ring, sizeof(*e->ring) };
	e->iov[1] = (struct iovec){ e->payload, payload_size };
	sem_init(&e->answered, 0, 0);
	return true;
}

void un_entry_done(struct un_entry *e)
{
	if (!e->map)
		return;
	munmap(e->map, PAGE + e->payload_size + SCRATCH);
	sem_destroy(&e->answered);
	e->map = NULL;
}

char *un_entry_request(struct un_entry *e, size_t *ret_size)
{
	const struct un_wire_in *in = &e->ring->head.in;
	const size_t payload = e->ring->payload_size, all = in->len;
	const size_t heads = all - payload;
	const bool in_place = in->opcode == UN_WIRE_WRITE || all > SCRATCH;
	char *buf;

	e->commit_id = e->ring->commit_id;
	atomic_store_explicit(&e->unique, in->unique, memory_order_release);
	if (all < sizeof(*in) + payload || payload > e->payload_size ||
	    heads > sizeof(*in) + sizeof(e->ring->op))
		return NULL;
	buf = in_place ? e->payload - heads : e->payload + e->payload_size;
	memcpy(buf, in, sizeof(*in));
	memcpy(buf + sizeof(*in), e->ring->op, heads - sizeof(*in));
	if (!in_place)
		memcpy(buf + heads, e->payload, payload);
	e->free = !in_place;
	e->large = e->large || payload > KEPT;
	e->opcode = in->opcode;
	if (un_entry_data_size(e) > 0 || in->opcode == UN_WIRE_FALLOCATE)
		e->regular = in->nodeid;
	*ret_size = all;
	return buf;
}

bool un_entry_is_nudge(const struct un_entry *e)
{
	return e->ring->head.in.opcode == UN_WIRE_NOTIFY_REPLY;
}

size_t un_entry_data_size(const struct un_entry *e)
{
	struct un_wire_read_in read;

	switch (e->ring->head.in.opcode) {
	case UN_WIRE_WRITE:
		return e->ring->payload_size;
	case UN_WIRE_READ:
		memcpy(&read, e->ring->op, sizeof(read));
		return read.size;
	default:
		return 0;
	}
}

/* The kernel has that file once it has the answer. */
static void note_regular(struct un_entry *e, const struct iovec *iov, int count)
{
	struct un_wire_entry_out out;

	if (e->opcode != UN_WIRE_LOOKUP && e->opcode != UN_WIRE_CREATE)
		return;
	if (count == 0 || iov[0].iov_len < sizeof(out))
		return;
	memcpy(&out, iov[0].iov_base, sizeof(out));
	if (S_ISREG(out.attr.mode) && out.nodeid)
		e->regular = out.nodeid;
}

static void fill(struct un_entry *e, const struct un_wire_out *head, const struct iovec *iov,
		 int count)
{
	size_t at = 0;

	for (int i = 0; i < count; at += iov[i++].iov_len)
		if (iov[i].iov_len > 0 && iov[i].iov_base != e->payload + at)
			memmove(e->payload + at, iov[i].iov_base, iov[i].iov_len);
	e->large = e->large || at > KEPT;
	e->ring->head.out = *head;
	e->ring->payload_size = (uint32_t)at;
	sem_post(&e->answered);
}

bool un_entry_answer(struct un_entry *e, const struct iovec *iov, int count)
{
	struct un_wire_out head = *(const struct un_wire_out *)iov[0].iov_base;
	uint64_t unique = head.unique;
	size_t size = 0;

	if (unique == 0 || !atomic_compare_exchange_strong(&e->unique, &unique, 0))
		return false;
	for (int i = 1; i < count; i++)
		size += iov[i].iov_len;
	if (size > e->payload_size) {
		head.error = -EIO;
		count = 1;
	}
	note_regular(e, iov + 1, count - 1);
	fill(e, &head, iov + 1, count - 1);
	return true;
}

void un_entry_fail(struct un_entry *e, int neg_errno)
{
	struct un_wire_out head = { .len = sizeof(head),
				    .error = neg_errno,
				    .unique = e->commit_id };
	struct iovec iov = { &head, sizeof(head) };

	head.unique = atomic_load(&e->unique);
	un_ignore(un_entry_answer(e, &iov, 1));
}

void un_entry_wait(struct un_entry *e)
{
	while (sem_wait(&e->answered) < 0)
		;
}

void un_entry_trim(struct un_entry *e)
{
	if (e->large)
		un_ignore(madvise(e->payload + KEPT, e->payload_size - KEPT, MADV_DONTNEED));
	e->large = false;
}
