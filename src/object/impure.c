/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The impure mark of an upper directory: objects in it may carry an origin, so a listing looks for it.
 */
#include "layer/layer.h"
#include "layer/marks.h"
#include "object/attr.h"
#include "object/fdcache.h"
#include "object/impure.h"
#include "object/object.h"
#include "object/realdir.h"
#include "object/stage.h"

#include <errno.h>

int un_dir_mark_impure(struct un_fs *fs, struct un_realdir *rd, int dirfd)
{
	int r;

	atomic_fetch_add(&rd->impure_seq, 1);
	if (rd->impure)
		return 0;
	r = un_mark_dir(fs, dirfd, "", UN_MARK_IMPURE, "y");
	/* Without xattrs nothing in it can carry an origin either. */
	if (r < 0 && r != -EOPNOTSUPP && r != -EPERM && r != -EACCES)
		return r;
	rd->impure = true;
	return 0;
}

void un_dir_mark_pure(struct un_fs *fs, struct un_inode *dir)
{
	struct un_realdir *rd = un_dir_upper(fs, dir);
	struct statx before, after;
	struct un_fd *fd;
	int r;

	if (!rd || !rd->impure || un_realdir_open(fs, rd, &fd) < 0)
		return;
	r = fs->upper->ops->stat(fs->upper, fd->fd, "", &before);
	if (r == 0) {
		/* Nobody changed anything. */
		un_attr_hide_begin(dir, &before);
		r = un_mark_clear(UN_AT(fs->upper, fd->fd, ""), UN_MARK_IMPURE);
		if (r == 0) {
			rd->impure = false;
			r = fs->upper->ops->stat(fs->upper, fd->fd, "", &after);
		}
		un_attr_hide_end(dir, r == 0 ? &after : NULL);
	}
	un_fdcache_put(fs->fds, fd);
}
