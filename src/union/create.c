/* SPDX-License-Identifier: GPL-2.0-or-later */
/* New names: create, mkdir, mknod, symlink, O_TMPFILE. */
#include "away_i.h"
#include "remove_i.h"

#include "copyup/copyup-path.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "object/attr.h"
#include "object/cred.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/lookup.h"
#include "object/object.h"
#include "object/place.h"
#include "object/published.h"
#include "object/realdir.h"
#include "object/same.h"
#include "object/stage.h"
#include "object/tar.h"
#include "object/writeback.h"
#include "union/union.h"
#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* One creation under way; the directory's ns is held for writing. */
struct creation {
	struct un_fs *fs;
	struct un_inode *dir;
	struct un_realdir *updir;
	int dirfd;
	const char *name;
	const struct un_create *what;
	const struct un_cred *cred;
	struct un_state state;
	unsigned stamp; /* of dir, before it was looked at */
	int fd; /* regular file: open for reading and writing; else -1 */
	bool opaque;
	bool ordinary; /* a file that could be taken for a mark: marked before it is seen */
};

static int keep_fd(struct creation *c, int made)
{
	if (made < 0)
		return made;
	c->fd = S_ISREG(c->what->mode) ? made : -1;
	return 0;
}

static int publish_over_whiteout(struct creation *c, const char *staged)
{
	struct un_layer *u = c->fs->upper;
	struct statx st, parent;
	int r = u->ops->stat(u, c->fs->work, staged, &st);

	if (r < 0)
		return r;
	if (!S_ISDIR(c->what->mode))
		return un_publish_rename(c->fs, staged, st.stx_mode, c->dirfd, c->name, 0);
	if (u->caps.rename_exchange) {
		r = un_publish_rename(c->fs, staged, st.stx_mode, c->dirfd, c->name,
				      RENAME_EXCHANGE);
		if (r == 0)
			un_ignore(u->ops->unlink(u, c->fs->work, staged, 0)); /* the whiteout */
		if (!un_cap_refused(u, &u->caps.rename_exchange, "RENAME_EXCHANGE", r))
			return r;
	}
	/* Out of order by an instant: nothing is there, which is what the whiteout says. */
	r = u->ops->stat(u, c->dirfd, "", &parent);
	if (r == 0)
		r = u->ops->unlink(u, c->dirfd, c->name, 0);
	if (r < 0)
		return r;
	r = un_publish_rename(c->fs, staged, st.stx_mode, c->dirfd, c->name, 0);
	if (r < 0) {
		un_ignore(un_whiteout_link(c->fs->whiteouts, c->dirfd, c->name));
		un_ignore(un_stage_times(c->fs, c->dirfd, "", &parent));
	}
	return r;
}

/*
 * Complete in the work directory, then over the whiteout (or nothing) in one step. A directory that
 * takes the place of a whiteout must not show what the whiteout hid.
 */
static int create_staged(struct creation *c)
{
	struct un_layer *u = c->fs->upper;
	bool dir = S_ISDIR(c->what->mode);
	char staged[UN_STAGE_NAME];
	int r;

	un_stage_name(c->fs, staged);
	r = keep_fd(c, un_make_staged(c->fs, c->dirfd, staged, c->what, c->cred));
	if (r < 0)
		return r;
	if (c->ordinary)
		r = un_mark_ordinary(c->fs, c->fs->work, staged);
	if (r == 0 && dir && c->state.whiteout) {
		if (u->tar_names)
			r = un_whiteout_beside(u, c->dirfd, c->name);
		else
			r = un_mark_dir(c->fs, c->fs->work, staged, UN_MARK_OPAQUE, "y");
		c->opaque = r == 0;
		if (r < 0)
			r = r == -ENOSPC || r == -EDQUOT ? r : -EIO;
	}
	if (r == 0 && c->state.whiteout && !un_whiteout_is_beside(c->fs->whiteouts))
		r = publish_over_whiteout(c, staged);
	else if (r == 0)
		r = un_layer_rename_new(u, c->fs->work, staged, c->dirfd, c->name);
	if (r < 0) {
		un_close(c->fd);
		c->fd = -1;
		if (dir)
			un_stage_discard(c->fs, staged);
		else
			un_ignore(u->ops->unlink(u, c->fs->work, staged, 0));
	}
	return r;
}

static int create_object(struct creation *c)
{
	int r;

	if (!c->ordinary && !c->state.whiteout && !un_make_needs_stage(c->fs, c->what, c->cred)) {
		r = keep_fd(c, un_make_direct(c->fs, c->dirfd, c->name, c->what, c->cred));
		/* Supplementary groups, or ids this daemon cannot take on. */
		if (r != -EACCES && r != -EPERM)
			return r;
		if (!c->fs->privileged && c->cred->uid == c->fs->uid && c->cred->gid == c->fs->gid)
			return r;
	}
	return create_staged(c);
}

static void fill_new_dir(struct creation *c, struct un_inode *inode, const struct statx *st)
{
	struct un_realdir *rd = un_realdir_new(c->fs->upper, c->updir, c->name, st);

	rd->opaque = c->opaque;
	inode->d->stack = g_new(struct un_realdir *, 2);
	inode->d->stack[0] = rd;
	inode->d->n = 1;
	/* Nothing is in it: known completely from the start. */
	un_ns_is_ours(inode);
	if (un_live_made(c->fs, inode, &inode->d->listing_stamp))
		inode->d->listing = un_listing_new();
}

static int adopt_new(struct creation *c, struct un_inode **ret, struct statx *st) UN_NS_WRITE
{
	struct un_fs *fs = c->fs;
	struct un_state now = { .exists = true, .in_upper = true, .lower = c->state.lower };
	struct un_inode *inode;
	int r = fs->upper->ops->stat(fs->upper, c->fd >= 0 ? c->fd : c->dirfd,
				     c->fd >= 0 ? "" : c->name, st);

	/* It exists and is seen: whatever was wrong, ask once more before taking it away again. */
	if (r < 0)
		r = fs->upper->ops->stat(fs->upper, c->dirfd, c->name, st);
	if (r < 0)
		return r;
	inode = un_inode_new(fs, IFTODT(st->stx_mode));
	un_inode_is_ours(inode);
	inode->upper = true;
	inode->prot_known = true;
	inode->dev = un_stx_dev(st);
	inode->rino = st->stx_ino;
	inode->born = un_born(st);
	un_ino_own(fs, inode, c->updir, c->name);
	/* A number that was used before may still be known with another's. */
	un_ino_unkeep(fs, inode->dev, inode->rino);
	if (inode->type == DT_DIR) {
		fill_new_dir(c, inode, st);
		un_ino_own_dir(fs, inode);
	} else {
		un_place_set_locked(fs, inode, c->updir, c->name);
		un_writeback_forget(fs, inode->dev, inode->rino);
		un_key_add(fs, inode);
	}
	if (c->fd >= 0) {
		/* A mode that forbids the daemon to open it again: the descriptor is all there is. */
		bool pin = !fs->privileged && !fs->override && (st->stx_mode & 0600) != 0600;

		un_fdcache_put(fs->fds,
			       un_fdcache_add(fs->fds, &inode->io, fs->upper, c->fd,
					      UN_FD_READ | UN_FD_WRITE | (pin ? UN_FD_PIN : 0)));
		c->fd = -1;
	}
	un_published_in(inode, c->dir);
	un_attr_adjust(fs, inode, st);
	un_name_add(fs, inode, c->dir, c->name, true, c->stamp);
	now.type = inode->type;
	un_dir_note(fs, c->dir, c->name, &now, inode->rino);
	*ret = inode;
	return 0;
}

/* A failed call leaves nothing behind: the name is free, or a whiteout, as it was before. */
static void undo(struct creation *c)
{
	struct un_layer *u = c->fs->upper;
	bool dir = S_ISDIR(c->what->mode);
	bool whiteout = c->state.whiteout && !un_whiteout_is_beside(c->fs->whiteouts);

	if (!whiteout)
		un_ignore(u->ops->unlink(u, c->dirfd, c->name, dir ? AT_REMOVEDIR : 0));
	else if (dir)
		un_ignore(un_clear_dir(c->fs, c->dirfd, c->name, true));
	else
		un_ignore(un_whiteout_place(c->fs->whiteouts, c->dirfd, c->name));
}

static int create_locked(struct creation *c, bool exclusive, struct un_inode **ret,
			 struct statx *st) UN_NS_WRITE
{
	struct un_fd *fd;
	int r;

	if (c->dir->d->dead)
		return -ENOENT;
	c->updir = un_dir_upper(c->fs, c->dir);
	c->stamp = un_live_look(c->fs, c->dir);
	r = un_name_settle(c->fs, c->dir, c->name);
	if (r == 0)
		r = un_name_state(c->fs, c->dir, c->name, true, &c->state);
	if (r < 0)
		return r;
	if (c->state.exists) {
		r = exclusive ? -EEXIST : un_lookup_locked(c->fs, c->dir, c->name, ret, st);
		return r == -ERESTART ? -EISDIR : r;
	}
	r = un_realdir_open(c->fs, c->updir, &fd);
	if (r < 0)
		return r;
	c->dirfd = fd->fd;
	r = create_object(c);
	if (r == 0) {
		r = adopt_new(c, ret, st);
		if (r < 0)
			undo(c);
	}
	un_close(c->fd);
	un_fdcache_put(c->fs->fds, fd);
	return r;
}

static int create(struct un_fs *fs, struct un_inode *dir, const char *name,
		  const struct un_create *what, bool exclusive, const struct un_cred *cred,
		  struct un_inode **ret, struct statx *st)
{
	struct creation c = {
		.fs = fs, .dir = dir, .name = name, .what = what, .cred = cred, .fd = -1
	};
	int r;

	if (un_is_nobody(cred))
		return -EOVERFLOW;
	if (un_name_too_long(name))
		return -ENAMETOOLONG;
	if (un_name_reserved(fs, name))
		return -EINVAL;
	/* The format's own whiteout cannot be made by hand (fuse-unionfs-format(5), WHITEOUTS). */
	if (S_ISCHR(what->mode) && what->rdev == 0)
		return -EPERM;
	r = un_dir_prepare(fs, dir, false);
	if (r < 0)
		return r;
	c.ordinary = un_name_ordinary(fs, name) && un_kind_ordinary(fs, IFTODT(what->mode));
	un_ns_write(dir);
	r = create_locked(&c, exclusive, ret, st);
	un_ns_unlock(dir);
	return r;
}

int un_make(struct un_fs *fs, struct un_inode *dir, const char *name, const struct un_create *what,
	    const struct un_cred *cred, struct un_inode **ret, struct statx *st)
{
	return create(fs, dir, name, what, true, cred, ret, st);
}

int un_create(struct un_fs *fs, struct un_inode *dir, const char *name,
	      const struct un_create *what, bool exclusive, const struct un_cred *cred,
	      struct un_inode **ret, struct statx *st)
{
	return create(fs, dir, name, what, exclusive, cred, ret, st);
}

/* ---- O_TMPFILE -------------------------------------------------------------------------------------- */

static int adopt_tmpfile(struct un_fs *fs, int fd, struct un_inode **ret, struct statx *st)
{
	struct un_inode *inode;
	int r = fs->upper->ops->stat(fs->upper, fd, "", st);

	if (r < 0) {
		un_close(fd);
		return r;
	}
	inode = un_inode_new(fs, DT_REG);
	un_inode_lock(inode);
	inode->upper = true;
	inode->unlinked = true;
	inode->tmpfile = true;
	inode->prot_known = true;
	inode->dev = un_stx_dev(st);
	inode->rino = st->stx_ino;
	un_ino_own(fs, inode, NULL, "");
	un_ino_unkeep(fs, inode->dev, inode->rino);
	un_writeback_forget(fs, inode->dev, inode->rino);
	un_key_add(fs, inode);
	un_fdcache_put(fs->fds, un_fdcache_add(fs->fds, &inode->io, fs->upper, fd,
					       UN_FD_READ | UN_FD_WRITE | UN_FD_PIN));
	r = un_orphan_nameless(fs, inode);
	un_attr_adjust(fs, inode, st);
	un_inode_unlock(inode);
	if (r < 0)
		un_inode_put(fs, inode);
	else
		*ret = inode;
	return r;
}

int un_tmpfile(struct un_fs *fs, struct un_inode *dir, const struct un_create *what,
	       const struct un_cred *cred, struct un_inode **ret, struct statx *st)
{
	struct un_fd *fd;
	int r = un_is_nobody(cred) ? -EOVERFLOW : un_dir_prepare(fs, dir, false);

	if (r < 0)
		return r;
	un_ns_read(dir);
	r = dir->d->dead ? -ENOENT : un_realdir_open(fs, un_dir_upper(fs, dir), &fd);
	if (r == 0) {
		r = un_make_tmpfile(fs, fd->fd, what, cred);
		un_fdcache_put(fs->fds, fd);
	}
	un_ns_unlock(dir);
	return r < 0 ? r : adopt_tmpfile(fs, r, ret, st);
}
