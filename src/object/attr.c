/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attributes as shown: number and link count are the union's, and a time of change that only a copy-up
 * moved is hidden.
 */
#include "object/attr.h"
#include "layer/layer.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/same.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <unistd.h>

static bool same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/*
 * Is the time of change in @st that of a copy-up? A clock may be too coarse for ctime alone to tell. What others change
 * but the mtime within the same tick is shown, with a time of change from before it: that is all that is wrong then.
 */
static bool is_hidden(const struct un_hidden *h, const struct statx *st)
{
	return h->real.tv_sec && same_time(&h->real, &st->stx_ctime) &&
	       same_time(&h->mtime, &st->stx_mtime);
}

static void hide(struct un_hidden *h, const struct statx_timestamp *shown,
		 const struct statx *after)
{
	h->shown = *shown;
	h->real = after->stx_ctime;
	h->mtime = after->stx_mtime;
}

void un_attr_hide_begin(struct un_inode *dir, const struct statx *before)
{
	struct un_hiding *now = &dir->d->hiding;
	const struct un_hidden *h = &dir->d->hidden;

	un_inode_lock(dir);
	if (now->n++ == 0) {
		now->ctime = is_hidden(h, before) ? h->shown : before->stx_ctime;
		now->mtime = before->stx_mtime;
	}
	un_inode_unlock(dir);
}

void un_attr_hide_end(struct un_inode *dir, const struct statx *after)
{
	struct un_hiding *now = &dir->d->hiding;

	un_inode_lock(dir);
	now->n--;
	if (after)
		hide(&dir->d->hidden, &now->ctime, after);
	un_inode_unlock(dir);
}

void un_attr_hide_alias_locked(struct un_index *ix, const struct statx *before,
			       const struct statx *after)
{
	/* Written meanwhile: that is to be seen. */
	if (same_time(&before->stx_mtime, &after->stx_mtime))
		hide(&ix->hidden,
		     is_hidden(&ix->hidden, before) ? &ix->hidden.shown : &before->stx_ctime,
		     after);
}

static void adjust_indexed(struct un_index *ix, struct statx *st) UN_REQUIRES(un_inode_role)
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
		if (inode->d->hiding.n) {
			st->stx_ctime = inode->d->hiding.ctime;
			st->stx_mtime = inode->d->hiding.mtime;
		}
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

static int getattr_real_locked(struct un_fs *fs, struct un_inode *inode, struct statx *st)
	UN_INODE_LOCKED(inode)
{
	struct un_at at;
	int r = un_at_locked(fs, inode, &at);
	if (r < 0)
		return r;
	r = at.layer->ops->stat(at.layer, at.dirfd, at.name, st);
	un_at_done(fs, &at);
	/* Something else is there now; not ours to show. */
	if (r == -ENOENT || (r == 0 && !un_is_it(at.layer, inode, st)))
		return -ESTALE;
	return r;
}

int un_getattr_real(struct un_fs *fs, struct un_inode *inode, struct statx *st)
{
	int r;

	un_inode_lock(inode);
	r = getattr_real_locked(fs, inode, st);
	un_inode_unlock(inode);
	return r;
}

int un_getattr_locked(struct un_fs *fs, struct un_inode *inode, struct statx *st)
{
	int r;

	if (inode->type == DT_DIR && inode->d->dead)
		return getattr_dead(inode, st);
	r = getattr_real_locked(fs, inode, st);
	if (r == 0)
		un_attr_adjust(fs, inode, st);
	return r;
}

int un_getattr(struct un_fs *fs, struct un_inode *inode, struct statx *st)
{
	int r;

	un_inode_lock(inode);
	r = un_getattr_locked(fs, inode, st);
	un_inode_unlock(inode);
	return r;
}

ssize_t un_readlink(struct un_fs *fs, struct un_inode *inode, char *buf, size_t size)
{
	struct un_at at;
	ssize_t n;

	un_inode_lock(inode);
	n = un_at_locked(fs, inode, &at);
	if (n == 0) {
		n = at.layer->ops->readlink(at.layer, at.dirfd, at.name, buf, size);
		un_at_done(fs, &at);
	}
	un_inode_unlock(inode);
	return n;
}
