/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data from a layer to the upper, in the best way the two can do it. */
#include "copyup-data_i.h"

#include "layer/layer.h"
#include "object/fdcache.h"
#include "object/object.h"
#include "util/cancel.h"
#include "util/copy.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

struct ends {
	struct un_layer *from, *to;
	int src, dst;
};

static int data_clone(void *ctx)
{
	struct ends *e = ctx;

	return e->to->ops->clone(e->to, e->dst, e->src);
}

static ssize_t data_range(void *ctx, off_t off, size_t size)
{
	struct ends *e = ctx;

	return e->to->ops->copy_range(e->to, e->src, off, e->dst, off, size);
}

static ssize_t data_pread(void *ctx, void *buf, size_t size, off_t off)
{
	struct ends *e = ctx;

	return e->from->ops->pread(e->from, e->src, buf, size, off);
}

static ssize_t data_pwrite(void *ctx, const void *buf, size_t size, off_t off)
{
	struct ends *e = ctx;

	return e->to->ops->pwrite(e->to, e->dst, buf, size, off);
}

static off_t data_seek(void *ctx, off_t off, int whence)
{
	struct ends *e = ctx;

	return e->from->ops->seek(e->from, e->src, off, whence);
}

static int data_flush(void *ctx, off_t off, off_t size, bool wait)
{
	struct ends *e = ctx;

	return e->to->ops->flush_range(e->to, e->dst, off, size, wait);
}

static const struct un_copy_ops ops = {
	.clone = data_clone,
	.copy_range = data_range,
	.pread = data_pread,
	.pwrite = data_pwrite,
	.seek = data_seek,
};

int un_copyup_data(struct un_fs *fs, const struct un_fd *src, int dst, off_t want, off_t have)
{
	struct un_copy_ops how = ops;
	struct ends e = { .from = src->layer, .to = fs->upper, .src = src->fd, .dst = dst };
	int r;

	/* An fsync follows. */
	if (fs->sync)
		how.flush = data_flush;
	r = un_copy_data(&how, &e, want, have);
	if (r == 0)
		atomic_fetch_add(&fs->copied_bytes, (uint64_t)want);
	return r;
}

/* ---- was it one version ------------------------------------------------------------------------------- */

/* Nanoseconds: two ticks of a slow clock; and of times in whole seconds, or in two. */
#define TICK ((int64_t)20 * 1000 * 1000)
#define TICK_OF_SECONDS ((int64_t)2 * 1000 * 1000 * 1000)
#define BLOCK ((size_t)1 << 17)

static bool same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int un_copyup_is_another(const struct statx *before, const struct statx *now,
			 const struct timespec *began)
{
	const struct statx_timestamp *c = &before->stx_ctime;
	int64_t age = (began->tv_sec - c->tv_sec) * 1000000000 + began->tv_nsec - c->tv_nsec;

	if (now->stx_size != before->stx_size || !same_time(&now->stx_mtime, &before->stx_mtime) ||
	    !same_time(&now->stx_ctime, c))
		return 1;
	return age < (c->tv_nsec ? TICK : TICK_OF_SECONDS) ? -1 : 0;
}

static ssize_t read_block(struct un_layer *l, int fd, char *buf, size_t size, off_t off)
{
	ssize_t n;
	size_t have = 0;

	do {
		n = l->ops->pread(l, fd, buf + have, size - have, off + (off_t)have);
		if (n > 0)
			have += (size_t)n;
	} while (n == -EINTR || (n > 0 && have < size));
	return n < 0 ? n : (ssize_t)have;
}

/* Where there is data in one of them, from @off on; @size: nowhere. */
static off_t next_data(struct ends *e, off_t off, off_t size)
{
	off_t a = e->from->ops->seek(e->from, e->src, off, SEEK_DATA);
	off_t b = e->to->ops->seek(e->to, e->dst, off, SEEK_DATA);

	a = a == -ENXIO ? size : a < 0 ? off : a;
	b = b == -ENXIO ? size : b < 0 ? off : b;
	return MIN(MIN(a, b), size);
}

int un_copyup_differs(struct un_fs *fs, const struct un_fd *src, int dst, off_t size)
{
	struct ends e = { .from = src->layer, .to = fs->upper, .src = src->fd, .dst = dst };
	g_autofree char *a = g_malloc(BLOCK), *b = g_malloc(BLOCK);

	for (off_t off = next_data(&e, 0, size); off < size;
	     off = next_data(&e, off + (off_t)BLOCK, size)) {
		size_t want = MIN(BLOCK, (size_t)(size - off));
		ssize_t n = read_block(e.from, e.src, a, want, off);
		ssize_t m = n < 0 ? 0 : read_block(e.to, e.dst, b, want, off);

		if (n < 0 || m < 0)
			return (int)(n < 0 ? n : m);
		if (n != m || memcmp(a, b, (size_t)n) != 0)
			return 1;
		if (un_cancelled())
			return -EINTR;
		if (off + (off_t)BLOCK >= size)
			break;
	}
	return 0;
}
