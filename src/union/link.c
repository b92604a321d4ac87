/* SPDX-License-Identifier: GPL-2.0-or-later */
/* link(2): a copy-up of the file, if need be, and one more name in the upper. */
#include "copyup/copyup-path.h"
#include "copyup/copyup.h"
#include "layer/layer.h"
#include "layer/whiteout.h"
#include "object/attr.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/impure.h"
#include "object/index.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "object/redirect.h"
#include "object/stage.h"
#include "object/tar.h"
#include "union/union.h"
#include "util/err.h"

#include <errno.h>
#include <limits.h>

/* A new name for @inode (in the upper); its lock is held. @name in @dirfd is free or a whiteout. */
static int link_locked(struct un_fs *fs, struct un_inode *inode, int dirfd, const char *name,
		       bool whiteout) UN_INODE_LOCKED(inode)
{
	struct un_layer *u = fs->upper;
	char staged[UN_STAGE_NAME];
	struct un_at at;
	int r = un_at_locked(fs, inode, &at);

	if (r < 0)
		return r;
	if (!whiteout) {
		r = u->ops->link(u, at.dirfd, at.name, dirfd, name);
	} else {
		un_stage_name(fs, staged);
		r = u->ops->link(u, at.dirfd, at.name, fs->work, staged);
		if (r == 0) {
			r = u->ops->rename(u, fs->work, staged, dirfd, name, 0);
			if (r < 0)
				un_ignore(u->ops->unlink(u, fs->work, staged, 0));
		}
	}
	un_at_done(fs, &at);
	return r;
}

static int link_into(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		     const char *name) UN_NS_WRITE
{
	struct un_realdir *updir = un_dir_upper(fs, dir);
	struct un_state state, now;
	struct un_fd *fd;
	unsigned stamp;
	int r;

	if (dir->d->dead)
		return -ENOENT;
	stamp = un_live_look(fs, dir);
	r = un_name_settle(fs, dir, name);
	if (r == 0)
		r = un_name_state(fs, dir, name, true, &state);
	if (r < 0)
		return r;
	if (state.exists)
		return -EEXIST;
	r = un_realdir_open(fs, updir, &fd);
	if (r < 0)
		return r;
	if (inode->origin)
		r = un_dir_mark_impure(fs, updir, fd->fd);
	if (r == 0) {
		un_inode_lock(inode);
		r = un_index_relative_locked(fs, inode);
		/* Only a file made nameless may get its first name late (linkat(2), O_TMPFILE). */
		if (inode->unlinked && !inode->tmpfile)
			r = -ENOENT;
		if (r == 0 && un_name_ordinary(fs, name))
			r = un_mark_ordinary_locked(fs, inode);
		if (r == 0)
			r = link_locked(fs, inode, fd->fd, name,
					state.whiteout && !un_whiteout_is_beside(fs->whiteouts));
		un_inode_unlock(inode);
	}
	un_fdcache_put(fs->fds, fd);
	if (r < 0)
		return r;
	if (!inode->ix)
		un_place_named(fs, inode, updir, name);
	un_name_add(fs, inode, dir, name, true, stamp);
	now = (struct un_state){
		.exists = true, .in_upper = true, .lower = state.lower, .type = inode->type
	};
	un_dir_note(fs, dir, name, &now, inode->rino);
	if (atomic_load(&inode->metacopy))
		un_live_redirected(fs, inode);
	return 0;
}

/* From a new name its data is not found by that name. */
static int keep_data(struct un_fs *fs, struct un_inode *inode)
{
	char name[NAME_MAX + 1];
	struct un_inode *dir;
	int r;

	if (!inode->metacopy || !un_name_any(inode, &dir, name))
		return 0;
	r = un_redirect_set(fs, inode, dir, name, false);
	un_inode_put(fs, dir);
	return r == -EXDEV ? un_copyup(fs, inode, UN_COPY_ALL) : r;
}

int un_link(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name,
	    struct statx *st)
{
	struct statx after;
	int r;

	if (un_name_too_long(name))
		return -ENAMETOOLONG;
	if (fs->read_only)
		return -EROFS;
	if (un_name_reserved(fs, name))
		return -EINVAL;
	if (inode->type == DT_DIR)
		return -EPERM;
	r = un_prot_victim(fs, inode);
	if (r == 0)
		r = un_dir_prepare(fs, dir, false);
	if (r == 0)
		r = un_copyup(fs, inode, UN_COPY_META);
	if (r == 0)
		r = keep_data(fs, inode);
	/* Asked before as well: once the name is made the call must not fail any more. */
	if (r == 0)
		r = un_getattr(fs, inode, st);
	if (r < 0)
		return r;
	un_ns_write(dir);
	r = link_into(fs, inode, dir, name);
	un_ns_unlock(dir);
	if (r == 0 && un_getattr(fs, inode, &after) == 0)
		*st = after;
	else if (r == 0)
		st->stx_nlink++;
	return r;
}
