/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/copy.h"

#include "util/cancel.h"
#include "util/err.h"
#include "util/piece.h"

#include <glib.h>
#include <stdbool.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
/* So much is on its way to the disk at a time. */
#define FLUSH ((off_t)4 << 20)

/* Answers of FICLONE that mean "not here": other file systems, other types, not aligned, seccomp. */
static bool clone_refused(int r)
{
	return r == -EOPNOTSUPP || r == -EXDEV || r == -EINVAL || r == -ENOTTY || r == -EPERM ||
	       r == -ENOSYS || r == -EBADF || r == -ETXTBSY || r == -EACCES;
}

static bool range_refused(ssize_t n)
{
	return n == -EOPNOTSUPP || n == -EXDEV || n == -EINVAL || n == -ENOSYS || n == -EPERM ||
	       n == -EBADF || n == -ETXTBSY || n == -EACCES || n == -EOVERFLOW;
}

static int write_all(const struct un_copy_ops *ops, void *ctx, const char *buf, size_t size,
		     off_t off)
{
	while (size > 0) {
		ssize_t n = ops->pwrite(ctx, buf, size, off);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO;
		buf += n;
		size -= (size_t)n;
		off += n;
	}
	return 0;
}

struct copy {
	const struct un_copy_ops *ops;
	void *ctx;
	bool range; /* copy_range works, as far as is known */
	struct un_piece piece;
	/* Of the destination: what is on the disk, what is on its way, what nobody has asked to be written. */
	bool flush;
	off_t done, asked;
};

static bool flush_refused(int r)
{
	return r == -EINVAL || r == -ENOSYS || r == -ESPIPE || r == -EPERM || r == -EOPNOTSUPP;
}

/*
 * Copied up to @off. To have it written meanwhile costs nothing, since all has to be on the disk in the end,
 * and an fsync of the whole would be one long call.
 */
static int flush_behind(struct copy *c, off_t off)
{
	int r;

	if (!c->flush || off - c->asked < FLUSH)
		return 0;
	r = c->ops->flush(c->ctx, c->asked, off - c->asked, false);
	if (r == 0 && c->asked > c->done)
		r = c->ops->flush(c->ctx, c->done, c->asked - c->done, true);
	if (flush_refused(r)) {
		c->flush = false;
		return 0;
	}
	c->done = c->asked;
	c->asked = off;
	return r;
}

static int copy_by_hand(struct copy *c, off_t off, off_t end)
{
	g_autofree char *buf = g_try_malloc(CHUNK);

	if (!buf)
		return -ENOMEM;
	while (off < end) {
		size_t want;
		ssize_t n;
		int r;

		if (un_cancelled())
			return -EINTR;
		want = MIN(CHUNK, un_piece_begin(&c->piece, (uint64_t)(end - off)));
		n = c->ops->pread(c->ctx, buf, want, off);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return 0; /* shrunk */
		r = write_all(c->ops, c->ctx, buf, (size_t)n, off);
		if (r < 0)
			return r;
		un_piece_end(&c->piece, (size_t)n);
		off += n;
		r = flush_behind(c, off);
		if (r < 0)
			return r;
	}
	return 0;
}

static int copy_extent(struct copy *c, off_t off, off_t end)
{
	while (c->range && off < end) {
		ssize_t n;
		int r;

		if (un_cancelled())
			return -EINTR;
		n = c->ops->copy_range(c->ctx, off,
				       un_piece_begin(&c->piece, (uint64_t)(end - off)));
		if (n == -EINTR)
			continue;
		if (range_refused(n) || n == 0) {
			/*
			 * 0 where data was expected: shrunk, or a file system that copies nothing
			 * (old kernels on procfs-like files). Reading tells which.
			 */
			c->range = n == 0;
			return copy_by_hand(c, off, end);
		}
		if (n < 0)
			return (int)n;
		un_piece_end(&c->piece, (size_t)n);
		off += n;
		r = flush_behind(c, off);
		if (r < 0)
			return r;
	}
	return off < end ? copy_by_hand(c, off, end) : 0;
}

int un_copy_data(const struct un_copy_ops *ops, void *ctx, off_t size, off_t src_size)
{
	struct copy c = { .ops = ops, .ctx = ctx, .range = true, .flush = ops->flush };
	off_t off = 0;

	if (size > src_size)
		size = src_size;
	if (size <= 0)
		return 0;
	/* A clone is of the whole file; worth it unless most of it would be cut off again. */
	if (size >= src_size / 2) {
		int r = ops->clone(ctx);

		if (r == 0)
			return 0;
		if (!clone_refused(r))
			return r;
	}
	while (off < size) {
		off_t data = ops->seek(ctx, off, SEEK_DATA);
		off_t hole;
		int r;

		if (data == -ENXIO)
			return 0; /* nothing but a hole to the end */
		if (data < 0)
			data = off; /* no SEEK_DATA here: all is data */
		if (data >= size)
			return 0;
		hole = ops->seek(ctx, data, SEEK_HOLE);
		if (hole < 0 || hole > size)
			hole = size;
		r = copy_extent(&c, data, hole);
		if (r < 0)
			return r;
		off = hole;
	}
	return 0;
}
