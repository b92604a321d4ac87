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
#include <unistd.h>

/* Copy the first @want bytes of the data to the empty file @dst. */
static int copy(struct un_fs *fs, struct un_inode *inode, int dst, off_t want)
{
	struct un_fd *src;
	struct statx st;
	int r;

	un_inode_lock(inode);
	r = un_data_get_locked(fs, inode, &src);
	un_inode_unlock(inode);
	if (r < 0)
		return r == -ENOENT ? -EIO : r;
	r = src->layer->ops->stat(src->layer, src->fd, "", &st);
	if (r == 0)
		r = un_copyup_data(fs, src, dst, MIN(want, (off_t)st.stx_size), (off_t)st.stx_size);
	un_fdcache_put(fs->fds, src);
	return r;
}

/*
 * A write takes capabilities away, and set-id bits too if a plain user's daemon does it. What somebody
 * has set meanwhile is in data->before as well (un_setattr). From here on the file tells for itself.
 */
static int restore_locked(struct un_fs *fs, struct un_inode *inode, int dst, const void *caps,
			  ssize_t caps_len, bool times) UN_INODE_LOCKED(inode)
{
	const struct statx *before = &inode->data->before;
	struct un_layer *u = fs->upper;
	struct statx now;
	int r = 0;

	inode->data->filling = false;
	if (caps_len > 0)
		r = u->ops->setxattr(u, dst, "", "security.capability", caps, (size_t)caps_len, 0);
	if (r == 0)
		r = u->ops->stat(u, dst, "", &now);
	if (r == 0 && now.stx_mode != before->stx_mode)
		r = u->ops->chmod(u, dst, "", before->stx_mode & 07777);
	if (r == 0 && times)
		r = un_stage_times(fs, dst, "", before);
	return r;
}

static int fill(struct un_fs *fs, struct un_inode *inode, int dst, off_t size, off_t have,
		const void *caps, ssize_t caps_len)
{
	struct un_layer *u = fs->upper;
	off_t final = size == UN_COPY_ALL ? have : size;
	int r = 0;

	if (MIN(final, have) > 0)
		r = copy(fs, inode, dst, MIN(final, have));
	/* Also after a clone of a file that is longer than what the mark's file says. */
	if (r == 0)
		r = u->ops->truncate(u, dst, final);
	if (r == 0) {
		un_inode_lock(inode);
		r = restore_locked(fs, inode, dst, caps, size == UN_COPY_ALL ? caps_len : 0,
				   size == UN_COPY_ALL);
		un_inode_unlock(inode);
	}
	if (r == 0 && fs->sync)
		r = u->ops->fsync(u, dst, false);
	if (r == 0)
		r = un_mark_lifted(fs, dst, "", UN_MARK_METACOPY, NULL, 0);
	return r;
}

int un_data_fill(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	struct un_layer *u = fs->upper;
	struct un_data *data = NULL;
	un_autofd int dst = -1;
	struct statx before;
	char caps[64];
	ssize_t caps_len = -1;
	int r;

	un_inode_lock(inode);
	/* Others have taken the mark off: what is in the file is its data. */
	if (!inode->data) {
		un_inode_unlock(inode);
		return 0;
	}
	dst = un_file_open(fs, inode, UN_FD_READ | UN_FD_WRITE);
	r = dst < 0 ? dst : u->ops->stat(u, dst, "", &before);
	if (r == 0) {
		inode->data->before = before;
		inode->data->filling = true;
		caps_len = u->ops->getxattr(u, dst, "", "security.capability", caps, sizeof(caps));
	}
	un_inode_unlock(inode);
	if (r < 0)
		return r;
	r = fill(fs, inode, dst, size, (off_t)before.stx_size, caps, caps_len);
	un_inode_lock(inode);
	if (r < 0) {
		/* What was written so far is not seen and gives its room back; its size must stay. */
		un_ignore(u->ops->fallocate(u, dst, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					    MAX((off_t)before.stx_size, 1)));
		un_ignore(u->ops->truncate(u, dst, (off_t)before.stx_size));
		un_ignore(restore_locked(fs, inode, dst, caps, caps_len, true));
	}
	if (r == 0) {
		data = inode->data;
		un_published(inode, false);
		inode->metacopy = false;
		inode->data = NULL;
		inode->xattrs = UN_XATTR_UNKNOWN;
	}
	un_inode_unlock(inode);
	un_data_free(fs, data);
	return r;
}
