/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/copy.h"

#include "util/err.h"

#include <glib.h>
#include <stdbool.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
/* copy_file_range(2) may be slow or uninterruptible in one go; this much at a time. */
#define RANGE_CHUNK ((size_t)64 << 20)

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

static int copy_by_hand(const struct un_copy_ops *ops, void *ctx, off_t off, off_t end)
{
	g_autofree char *buf = g_try_malloc(CHUNK);

	if (!buf)
		return -ENOMEM;
	while (off < end) {
		size_t want = (size_t)MIN((off_t)CHUNK, end - off);
		ssize_t n = ops->pread(ctx, buf, want, off);
		int r;

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return 0; /* shrunk */
		r = write_all(ops, ctx, buf, (size_t)n, off);
		if (r < 0)
			return r;
		off += n;
	}
	return 0;
}

static int copy_extent(const struct un_copy_ops *ops, void *ctx, off_t off, off_t end, bool *range)
{
	while (*range && off < end) {
		ssize_t n = ops->copy_range(ctx, off, (size_t)MIN((off_t)RANGE_CHUNK, end - off));

		if (n == -EINTR)
			continue;
		if (range_refused(n) || n == 0) {
			/*
			 * 0 where data was expected: shrunk, or a file system that copies nothing
			 * (old kernels on procfs-like files). Reading tells which.
			 */
			*range = n == 0;
			return copy_by_hand(ops, ctx, off, end);
		}
		if (n < 0)
			return (int)n;
		off += n;
	}
	return off < end ? copy_by_hand(ops, ctx, off, end) : 0;
}

int un_copy_data(const struct un_copy_ops *ops, void *ctx, off_t size, off_t src_size)
{
	bool range = true;
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
		r = copy_extent(ops, ctx, data, hole, &range);
		if (r < 0)
			return r;
		off = hole;
	}
	return 0;
}
