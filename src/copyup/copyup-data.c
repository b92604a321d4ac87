/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data from a layer to the upper, in the best way the two can do it. */
#include "copyup-data_i.h"

#include "layer/layer.h"
#include "object/fdcache.h"
#include "object/object.h"
#include "util/copy.h"

#include <errno.h>
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
