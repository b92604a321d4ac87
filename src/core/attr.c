/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core_i.h"
#include "cred_i.h"
#include "tar_i.h"

#include <grp.h>
#include <stdlib.h>
#include <unistd.h>

int un_at_locked(struct un_fs *fs, struct un_inode *inode, struct un_at *ret)
{
	struct un_realdir *rd;
	int r;

	*ret = (struct un_at){ .name = "" };
	if (inode->type == DT_DIR) {
		if (inode->d->dead)
			return -ENOENT;
		rd = inode->d->stack[0];
		ret->layer = rd->layer;
		if (!rd->hollow) {
			r = un_realdir_open(fs, rd, &ret->pin);
		} else {
			/* A sub-mount is asked from outside. Nothing renames it: the name stays. */
			ret->hollow = true;
			ret->name = rd->name;
			r = un_realdir_open(fs, rd->parent, &ret->pin);
		}
	} else {
		ret->layer = inode->rdir ? inode->rdir->layer : fs->upper;
		/*
		 * What is open needs no name; a directory on the way may have been closed to a plain
		 * user's daemon since.
		 */
		ret->pin = un_fdcache_get(fs->fds, &inode->io, 0);
		r = ret->pin ? 0 : -ESTALE;
		if (!ret->pin && inode->rdir) {
			ret->name = inode->rname;
			r = un_realdir_open(fs, inode->rdir, &ret->pin);
		}
	}
	if (r == 0)
		ret->dirfd = ret->pin->fd;
	return r;
}

void un_at_done(struct un_fs *fs, struct un_at *at)
{
	un_fdcache_put(fs->fds, at->pin);
	at->pin = NULL;
}

static bool same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Is the time of change in @st that of a copy-up? A clock may be too coarse for ctime alone to tell. */
static bool is_hidden(const struct un_hidden *h, const struct statx *st)
{
	return h->real.tv_sec && same_time(&h->real, &st->stx_ctime) &&
	       same_time(&h->mtime, &st->stx_mtime);
}

static void hide(struct un_hidden *h, const struct statx *before, const struct statx *after)
{
	if (!is_hidden(h, before))
		h->shown = before->stx_ctime;
	h->real = after->stx_ctime;
	h->mtime = after->stx_mtime;
}

void un_attr_hide_change(struct un_inode *dir, const struct statx *before,
			 const struct statx *after)
{
	un_mutex_lock(&dir->lock);
	hide(&dir->d->hidden, before, after);
	un_mutex_unlock(&dir->lock);
}

void un_attr_hide_alias_locked(struct un_index *ix, const struct statx *before,
			       const struct statx *after)
{
	/* Written meanwhile: that is to be seen. */
	if (same_time(&before->stx_mtime, &after->stx_mtime))
		hide(&ix->hidden, before, after);
}

static void adjust_indexed(struct un_index *ix, struct statx *st)
{
	int count = (int)st->stx_nlink + ix->delta;

	/* Behind our back anything can become of a count; what has a name has a link. */
	st->stx_nlink = (uint32_t)MAX(count, ix->known > 0 ? 1 : 0);
	ix->shown = st->stx_nlink;
	if (is_hidden(&ix->hidden, st))
		st->stx_ctime = ix->hidden.shown;
}

void un_attr_adjust(struct un_fs *fs, struct un_inode *inode, struct statx *st)
{
	st->stx_ino = inode->ino;
	if (inode->type == DT_DIR) {
		if (inode->d->n > 1)
			st->stx_nlink = 1;
		if (is_hidden(&inode->d->hidden, st))
			st->stx_ctime = inode->d->hidden.shown;
	} else {
		inode->maybe_setid = st->stx_mode & (S_ISUID | S_ISGID);
		if (inode->orphan && st->stx_nlink > 0)
			st->stx_nlink--;
		if (inode->ix)
			adjust_indexed(inode->ix, st);
		if (inode->unlinked && (!inode->upper || inode->ix))
			st->stx_nlink = 0;
		if (inode->data)
			st->stx_blocks = inode->data->blocks;
		if (inode->data && inode->data->filling) {
			st->stx_mtime = inode->data->before.stx_mtime;
			st->stx_atime = inode->data->before.stx_atime;
			st->stx_mode = inode->data->before.stx_mode;
			st->stx_size = inode->data->before.stx_size;
		}
	}
	if (un_stx_is_mountpoint(st)) {
		st->stx_size = 0;
		st->stx_blocks = 0;
	}
}

static int getattr_dead(struct un_inode *dir, struct statx *st)
{
	if (!dir->d->last)
		return -ESTALE;
	*st = *dir->d->last;
	return 0;
}

int un_getattr_locked(struct un_fs *fs, struct un_inode *inode, struct statx *st)
{
	struct un_at at;
	int r;

	if (inode->type == DT_DIR && inode->d->dead)
		return getattr_dead(inode, st);
	r = un_at_locked(fs, inode, &at);
	if (r < 0)
		return r;
	r = at.layer->ops->stat(at.layer, at.dirfd, at.name, st);
	un_at_done(fs, &at);
	if (r == -ENOENT || (r == 0 && IFTODT(st->stx_mode) != inode->type))
		return -ESTALE;
	/* Something else is there now; not ours to show. */
	if (r == 0 && inode->type != DT_DIR && !un_is_same(at.layer, st, inode->dev, inode->rino))
		return -ESTALE;
	if (r == 0)
		un_attr_adjust(fs, inode, st);
	return r;
}

int un_getattr(struct un_fs *fs, struct un_inode *inode, struct statx *st)
{
	int r;

	un_mutex_lock(&inode->lock);
	r = un_getattr_locked(fs, inode, st);
	un_mutex_unlock(&inode->lock);
	return r;
}

ssize_t un_readlink(struct un_fs *fs, struct un_inode *inode, char *buf, size_t size)
{
	struct un_at at;
	ssize_t n;

	un_mutex_lock(&inode->lock);
	n = un_at_locked(fs, inode, &at);
	if (n == 0) {
		n = at.layer->ops->readlink(at.layer, at.dirfd, at.name, buf, size);
		un_at_done(fs, &at);
	}
	un_mutex_unlock(&inode->lock);
	return n;
}

/* ---- immutable and append-only -------------------------------------------------------------------- */

static int read_prot_locked(struct un_fs *fs, struct un_inode *inode)
{
	struct un_at at;
	char v[8];
	ssize_t n;
	int r = un_at_locked(fs, inode, &at);

	if (r < 0)
		return r;
	if (at.hollow) {
		un_at_done(fs, &at);
		inode->prot_known = true;
		return 0;
	}
	n = un_mark_get(at.layer, fs->layers->dialect, at.dirfd, at.name, UN_MARK_PROTATTR, v,
			sizeof(v));
	un_at_done(fs, &at);
	if (n < 0 && n != -ENODATA && n != -ERANGE && n != -EACCES && n != -EPERM)
		return (int)n;
	for (ssize_t i = 0; i < n; i++)
		inode->prot |= v[i] == 'i' ? UN_PROT_IMMUTABLE : v[i] == 'a' ? UN_PROT_APPEND : 0;
	inode->prot_known = true;
	return 0;
}

int un_prot(struct un_fs *fs, struct un_inode *inode)
{
	int r = 0;

	if (inode->type != DT_DIR && inode->type != DT_REG)
		return 0;
	un_mutex_lock(&inode->lock);
	if (!inode->prot_known && !(inode->type == DT_DIR && inode->d->dead))
		r = read_prot_locked(fs, inode);
	if (r == 0)
		r = inode->prot;
	un_mutex_unlock(&inode->lock);
	return r;
}

int un_prot_dir(struct un_fs *fs, struct un_inode *dir, bool remove)
{
	int p = un_prot(fs, dir);

	if (p < 0)
		return p;
	/* Nothing can be made where something unknown is mounted, but for an upper directory over it. */
	if (un_dir_is_mountpoint(dir, true))
		return -EXDEV;
	if ((p & UN_PROT_IMMUTABLE) || (remove && (p & UN_PROT_APPEND)))
		return -EPERM;
	return 0;
}

int un_prot_victim(struct un_fs *fs, struct un_inode *inode)
{
	int p = un_prot(fs, inode);

	return p < 0 ? p : p ? -EPERM : 0;
}

/* ---- set-id bits --------------------------------------------------------------------------------- */

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
	un_mutex_lock(&inode->lock);
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
	un_mutex_unlock(&inode->lock);
	return r;
}

/* ---- setattr --------------------------------------------------------------------------------------- */

static int check_prot(struct un_fs *fs, struct un_inode *inode, unsigned valid)
{
	int p = un_prot(fs, inode);

	if (p <= 0)
		return p;
	/* What was written was written by right. */
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

/* Its data is being copied up, which gives it back the attributes it had: those are these now. */
static int remember_set(struct un_inode *inode, const struct un_at *at, const struct un_setattr *a)
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
	if (r == 0 && (a->valid & UN_SET_MTIME))
		inode->mtime_set = a->valid & UN_SET_MTIME_NOW ? 0 : un_monotonic_seconds();
	return r;
}

static int truncate_upper(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	struct un_fd *f;
	int r = 0;

	if (size == 0) {
		un_mutex_lock(&inode->lock);
		r = un_mark_emptied_locked(fs, inode);
		un_mutex_unlock(&inode->lock);
	}
	if (r == 0)
		r = un_file_get(fs, inode, UN_FD_WRITE, &f);
	if (r < 0)
		return r;
	r = fs->upper->ops->truncate(fs->upper, f->fd, size);
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

/* Of what is in the upper. */
static int change(struct un_fs *fs, struct un_inode *inode, const struct un_setattr *a,
		  const struct un_cred *cred, struct statx *st)
{
	int r = a->valid & UN_SET_SIZE ? truncate_upper(fs, inode, a->size) : 0;

	if (r >= 0 && (a->valid & UN_SET_KILL))
		r = un_kill_setid(fs, inode, cred);
	if (r >= 0) {
		un_mutex_lock(&inode->lock);
		r = apply_locked(fs, inode, a);
		if (r == 0)
			r = un_getattr_locked(fs, inode, st);
		un_mutex_unlock(&inode->lock);
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
		un_mutex_lock(&inode->lock);
		r = setattr_dead(inode, a, st);
		un_mutex_unlock(&inode->lock);
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
