/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data of a metacopy file is copied up; until the mark is off, the file in the lower is read.
 */
#include "copyup-data_i.h"
#include "copyup-fill_i.h"

#include "copyup/copyup.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "object/data.h"
#include "object/fdcache.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/published.h"
#include "object/stage.h"
#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* As many as for a whole file (copyup-publish.c). */
#define COPY_TRIES 5

/* @dst has no data any more; its size must stay. */
static int punch(struct un_layer *u, int dst, off_t size)
{
	return u->ops->fallocate(u, dst, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				 MAX(size, 1));
}

/* 1: @src was written to meanwhile. */
static int copy_once(struct un_fs *fs, const struct un_fd *src, int dst, off_t want)
{
	struct un_layer *l = src->layer;
	struct statx before, now;
	struct timespec began;
	int r = l->ops->stat(l, src->fd, "", &before);

	clock_gettime(CLOCK_REALTIME, &began);
	if (r == 0) {
		want = MIN(want, (off_t)before.stx_size);
		r = un_copyup_data(fs, src, dst, want, (off_t)before.stx_size);
	}
	if (r < 0 || !fs->live)
		return r;
	r = l->ops->stat(l, src->fd, "", &now);
	if (r == 0)
		r = un_copyup_is_another(&before, &now, &began);
	return r < 0 ? un_copyup_differs(fs, src, dst, want) : r;
}

/* Copy the first @want bytes of the data, of one version of it, to the file @dst, which has @size and no data. */
static int copy(struct un_fs *fs, struct un_inode *inode, int dst, off_t want, off_t size)
{
	struct un_fd *src;
	int r;

	un_inode_lock(inode);
	r = un_data_get_locked(fs, inode, &src);
	un_inode_unlock(inode);
	if (r < 0)
		return r == -ENOENT ? -EIO : r;
	r = copy_once(fs, src, dst, want);
	for (int tries = 1; r > 0 && tries < COPY_TRIES; tries++) {
		r = punch(fs->upper, dst, size);
		if (r == 0)
			r = copy_once(fs, src, dst, want);
	}
	un_fdcache_put(fs->fds, src);
	return r > 0 ? -EIO : r;
}

/*
 * A write takes capabilities away, and set-id bits too if a plain user's daemon does it. What somebody
 * has set meanwhile is in data->before as well (un_setattr). From here on the file tells for itself. @data: it
 * is what it was, which its capabilities and times stand for.
 */
static int restore_locked(struct un_fs *fs, struct un_inode *inode, const struct un_fill *f,
			  bool data) UN_INODE_LOCKED(inode)
{
	const struct statx *before = &inode->data->before;
	struct un_layer *u = fs->upper;
	struct statx now;
	int r = 0;

	inode->data->filling = false;
	if (data && f->caps_len > 0)
		r = u->ops->setxattr(u, f->dst, "", "security.capability", f->caps,
				     (size_t)f->caps_len, 0);
	if (r == 0)
		r = u->ops->stat(u, f->dst, "", &now);
	if (r == 0 && now.stx_mode != before->stx_mode)
		r = u->ops->chmod(u, f->dst, "", before->stx_mode & 07777);
	if (r == 0 && data)
		r = un_stage_times(fs, f->dst, "", before);
	return r;
}

static int fill(struct un_fs *fs, struct un_inode *inode, off_t size, const struct un_fill *f)
{
	struct un_layer *u = fs->upper;
	off_t final = size == UN_COPY_ALL ? f->size : size;
	int r = 0;

	if (MIN(final, f->size) > 0)
		r = copy(fs, inode, f->dst, MIN(final, f->size), f->size);
	/* Also after a clone of a file that is longer than what the mark's file says. */
	if (r == 0)
		r = u->ops->truncate(u, f->dst, final);
	if (r == 0) {
		un_inode_lock(inode);
		r = restore_locked(fs, inode, f, size == UN_COPY_ALL);
		un_inode_unlock(inode);
	}
	if (r == 0 && fs->sync)
		r = u->ops->fsync(u, f->dst, false);
	if (r == 0)
		r = un_mark_lifted(fs, f->dst, "", UN_MARK_METACOPY, NULL, 0);
	return r;
}

void un_data_unfill(struct un_fs *fs, struct un_inode *inode, struct un_fill *f)
{
	struct un_layer *u = fs->upper;

	if (f->dst < 0)
		return;
	/* What was written so far is not seen and gives its room back; its size must stay. */
	un_ignore(punch(u, f->dst, f->size));
	un_ignore(u->ops->truncate(u, f->dst, f->size));
	un_inode_lock(inode);
	un_ignore(restore_locked(fs, inode, f, true));
	un_inode_unlock(inode);
	un_close(f->dst);
	f->dst = -1;
}

/* Open the file and note what it is like. 1: there is something to do; 0, or -errno. */
static int begin_fill(struct un_fs *fs, struct un_inode *inode, struct un_fill *f)
{
	struct un_layer *u = fs->upper;
	struct statx before;
	int r = 0;

	f->dst = -1;
	f->caps_len = -1;
	un_inode_lock(inode);
	/* Others have taken the mark off: what is in the file is its data. */
	if (!inode->data)
		goto out;
	f->dst = un_file_open(fs, inode, UN_FD_READ | UN_FD_WRITE);
	r = f->dst < 0 ? f->dst : u->ops->stat(u, f->dst, "", &before);
	if (r == 0) {
		inode->data->before = before;
		inode->data->filling = true;
		f->size = (off_t)before.stx_size;
		f->caps_len = u->ops->getxattr(u, f->dst, "", "security.capability", f->caps,
					       sizeof(f->caps));
		r = 1;
	} else {
		un_close(f->dst);
		f->dst = -1;
	}
out:
	un_inode_unlock(inode);
	return r;
}

int un_data_fill(struct un_fs *fs, struct un_inode *inode, off_t size, struct un_fill *f)
{
	struct un_data *data;
	int r = begin_fill(fs, inode, f);

	if (r <= 0)
		return r;
	r = fill(fs, inode, size, f);
	if (r < 0) {
		if (r != -EINTR)
			un_data_unfill(fs, inode, f);
		return r;
	}
	un_inode_lock(inode);
	data = inode->data;
	un_published(inode, false);
	inode->metacopy = false;
	inode->data = NULL;
	inode->xattrs = UN_XATTR_UNKNOWN;
	un_inode_unlock(inode);
	un_data_free(fs, data);
	un_close(f->dst);
	f->dst = -1;
	return 0;
}
