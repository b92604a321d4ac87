/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chmod, chown, truncate and utimensat; and the set-id bits that a change of data or owner clears.
 */
#include "mtime_i.h"
#include "setattr_i.h"

#include "copyup/copyup.h"
#include "layer/layer.h"
#include "object/attr.h"
#include "object/cred.h"
#include "object/fdcache.h"
#include "object/ino.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/owner.h"
#include "object/place.h"
#include "object/prot.h"
#include "object/tar.h"
#include "union/union.h"

#include <errno.h>

/* As the kernel's setattr_should_drop_suidgid() for a caller without CAP_FSETID. */
static mode_t without_setid(const struct statx *st, const struct un_cred *cred)
{
	mode_t mode = st->stx_mode & 07777;

	mode &= ~(mode_t)S_ISUID;
	if ((mode & S_ISGID) && ((mode & S_IXGRP) || !un_in_group(cred, st->stx_gid)))
		mode &= ~(mode_t)S_ISGID;
	return mode;
}

int un_kill_setid(struct un_fs *fs, struct un_inode *inode, const struct un_cred *cred)
{
	struct statx st;
	struct un_at at;
	mode_t mode;
	int r = 0;

	if (inode->type != DT_REG)
		return 0;
	un_inode_lock(inode);
	if (!inode->maybe_setid || !inode->upper)
		goto out;
	r = un_getattr_locked(fs, inode, &st);
	if (r < 0)
		goto out;
	mode = without_setid(&st, cred);
	if (mode == (st.stx_mode & 07777))
		goto out;
	r = un_at_locked(fs, inode, &at);
	if (r < 0)
		goto out;
	r = at.layer->ops->chmod(at.layer, at.dirfd, at.name, mode);
	un_at_done(fs, &at);
	if (r == 0)
		r = 1;
out:
	un_inode_unlock(inode);
	return r;
}

static int check_prot(struct un_fs *fs, struct un_inode *inode, unsigned valid)
{
	int p = un_prot(fs, inode);

	if (p <= 0)
		return p;
	/* This mtime is that of a write, which was allowed. */
	if (valid == (UN_SET_MTIME | UN_SET_WRITTEN))
		return 0;
	if (valid & (UN_SET_MODE | UN_SET_UID | UN_SET_GID | UN_SET_SIZE))
		return -EPERM;
	if ((valid & UN_SET_ATIME && !(valid & UN_SET_ATIME_NOW)) ||
	    (valid & UN_SET_MTIME && !(valid & UN_SET_MTIME_NOW)))
		return -EPERM;
	return p & UN_PROT_IMMUTABLE ? -EPERM : 0;
}

static int set_times(struct un_at *at, const struct un_setattr *a)
{
	struct timespec ts[2] = { a->atime, a->mtime };

	if (!(a->valid & UN_SET_ATIME))
		ts[0].tv_nsec = UTIME_OMIT;
	else if (a->valid & UN_SET_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	if (!(a->valid & UN_SET_MTIME))
		ts[1].tv_nsec = UTIME_OMIT;
	else if (a->valid & UN_SET_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	return at->layer->ops->utimens(at->layer, at->dirfd, at->name, ts);
}

/*
 * Its data is being copied up, and in the end attributes are restored: to those that are set now.
 */
static int remember_set(struct un_inode *inode, const struct un_at *at, const struct un_setattr *a)
	UN_INODE_LOCKED(inode)
{
	struct statx *before = &inode->data->before, now;
	int r = at->layer->ops->stat(at->layer, at->dirfd, at->name, &now);

	if (r < 0)
		return r;
	if (a->valid & (UN_SET_MODE | UN_SET_UID | UN_SET_GID))
		before->stx_mode = now.stx_mode;
	if (a->valid & UN_SET_ATIME)
		before->stx_atime = now.stx_atime;
	if (a->valid & UN_SET_MTIME)
		before->stx_mtime = now.stx_mtime;
	return 0;
}

/* Everything but the size; the object is in the upper and its lock is held. */
static int apply_locked(struct un_fs *fs, struct un_inode *inode, const struct un_setattr *a)
	UN_INODE_LOCKED(inode)
{
	struct un_at at;
	int r = un_at_locked(fs, inode, &at);

	if (r < 0)
		return r;
	if (at.hollow) {
		un_at_done(fs, &at);
		return -EXDEV;
	}
	if (a->valid & (UN_SET_UID | UN_SET_GID))
		r = at.layer->ops->chown(at.layer, at.dirfd, at.name,
					 a->valid & UN_SET_UID ? a->uid : (uid_t)-1,
					 a->valid & UN_SET_GID ? a->gid : (gid_t)-1);
	if (r == 0 && (a->valid & UN_SET_MODE))
		r = inode->type == DT_LNK
			    ? -EOPNOTSUPP
			    : at.layer->ops->chmod(at.layer, at.dirfd, at.name, a->mode & 07777);
	if (r == 0 && (a->valid & (UN_SET_ATIME | UN_SET_MTIME)))
		r = set_times(&at, a);
	/* The real file has that time already, about. */
	if (r == -EPERM && (a->valid & UN_SET_WRITTEN))
		r = 0;
	if (r == 0 && inode->data && inode->data->filling)
		r = remember_set(inode, &at, a);
	un_at_done(fs, &at);
	/* A plain user's daemon may not read the origin of what its owner may not read. */
	if (r == 0 && (a->valid & UN_SET_MODE) && !fs->privileged && inode->origin &&
	    inode->type != DT_DIR && !(a->mode & S_IRUSR))
		un_ino_keep(fs, inode->dev, inode->rino, inode->ino);
	if (inode->type != DT_DIR) {
		inode->maybe_setid = true; /* looked at again when it matters */
	} else {
		inode->d->hidden.real.tv_sec = 0;
		atomic_store(&inode->d->accessed, 0);
	}
	if (r == 0 && (a->valid & UN_SET_MTIME)) {
		un_mtime_set_locked(inode, a);
		inode->mtime_set = a->valid & UN_SET_MTIME_NOW ? 0 : un_monotonic_seconds();
	}
	return r;
}

static int truncate_upper(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	struct un_fd *f;
	int r = 0;

	if (size == 0) {
		un_inode_lock(inode);
		r = un_mark_emptied_locked(fs, inode);
		un_inode_unlock(inode);
	}
	if (r == 0)
		r = un_file_get(fs, inode, UN_FD_WRITE, &f);
	if (r < 0)
		return r;
	r = fs->upper->ops->truncate(fs->upper, f->fd, size);
	un_mtime_written(inode);
	un_fdcache_put(fs->fds, f);
	return r;
}

/* A removed directory that somebody still has open: its attributes are all that is left of it. */
static int setattr_dead(struct un_inode *dir, const struct un_setattr *a, struct statx *st)
{
	struct statx *last = dir->d->last;

	if (!last)
		return -ESTALE;
	if (a->valid & UN_SET_MODE)
		last->stx_mode = (uint16_t)((last->stx_mode & S_IFMT) | (a->mode & 07777));
	if (a->valid & UN_SET_UID)
		last->stx_uid = a->uid;
	if (a->valid & UN_SET_GID)
		last->stx_gid = a->gid;
	*st = *last;
	return 0;
}

/* Set attributes of an object that is in the upper. */
static int change(struct un_fs *fs, struct un_inode *inode, const struct un_setattr *a,
		  const struct un_cred *cred, struct statx *st)
{
	int r = a->valid & UN_SET_SIZE ? truncate_upper(fs, inode, a->size) : 0;

	if (r >= 0 && (a->valid & UN_SET_KILL))
		r = un_kill_setid(fs, inode, cred);
	if (r >= 0) {
		un_inode_lock(inode);
		r = apply_locked(fs, inode, a);
		if (r == 0)
			r = un_getattr_locked(fs, inode, st);
		un_inode_unlock(inode);
	}
	/* Some of it may have been done: what the kernel has of it is not true any more. */
	if (r < 0 && fs->stale)
		fs->stale(fs->stale_data, inode->id, UN_STALE_ATTRS);
	return r;
}

int un_setattr(struct un_fs *fs, struct un_inode *inode, const struct un_setattr *a,
	       const struct un_cred *cred, struct statx *st)
{
	bool size = a->valid & UN_SET_SIZE, keep = false;
	int r;

	if (fs->read_only)
		return -EROFS;
	if (size && inode->type != DT_REG)
		return inode->type == DT_DIR ? -EISDIR : -EINVAL;
	r = check_prot(fs, inode, a->valid);
	if (r < 0)
		return r;
	if (a->valid & (UN_SET_UID | UN_SET_GID)) {
		/* Before anything is copied up. */
		r = un_may_chown(fs, a);
		if (r < 0)
			return r;
	}
	if (inode->type == DT_DIR && inode->d->dead) {
		un_inode_lock(inode);
		r = setattr_dead(inode, a, st);
		un_inode_unlock(inode);
		return r;
	}
	/* Bits that are not set need no copy to be cleared. */
	if (a->valid == UN_SET_KILL && !inode->maybe_setid)
		return un_getattr(fs, inode, st);
	/* A file that keeps its size is not cut off; the file system says whether it has changed. */
	if (size && (!inode->upper || inode->metacopy)) {
		r = un_getattr(fs, inode, st);
		if (r < 0)
			return r;
		keep = (off_t)st->stx_size == a->size;
	}
	r = un_copyup(fs, inode, !size ? UN_COPY_META : keep ? UN_COPY_ALL : a->size);
	return r < 0 ? r : change(fs, inode, a, cred, st);
}
