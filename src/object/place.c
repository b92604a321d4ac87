/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the real object of an inode is. A directory has a stack of real directories; anything else is one
 * name in one of them, or, when its last name is gone, a descriptor that stays open or a link in the work
 * directory (an orphan).
 */
#include "layer/layer.h"
#include "object/fdcache.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/realdir.h"
#include "object/stage.h"
#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int un_at_locked(struct un_fs *fs, struct un_inode *inode, struct un_at *ret)
{
	struct un_realdir *rd;
	struct un_fd *pin = NULL;
	int r;

	*ret = (struct un_at){ .name = "" };
	if (inode->type == DT_DIR) {
		if (inode->d->dead)
			return -ENOENT;
		UN_ASSERT(inode->d->n > 0);
		rd = inode->d->stack[0];
		ret->layer = rd->layer;
		if (!rd->hollow) {
			r = un_realdir_open(fs, rd, &pin);
		} else {
			struct un_realdir *parent;

			/* A sub-mount is asked from outside. Nothing renames it: the name stays. */
			ret->hollow = true;
			un_tree_lock(fs);
			ret->name = rd->name;
			parent = rd->parent;
			un_tree_unlock(fs);
			r = un_realdir_open(fs, parent, &pin);
		}
	} else {
		ret->layer = inode->rdir ? inode->rdir->layer : fs->upper;
		/*
		 * What is open needs no name; a directory on the way may have been closed to a plain
		 * user's daemon since.
		 */
		pin = un_fdcache_get(fs->fds, &inode->io, 0);
		r = pin ? 0 : -ESTALE;
		if (!pin && inode->rdir) {
			ret->name = inode->rname;
			r = un_realdir_open(fs, inode->rdir, &pin);
		}
	}
	if (r == 0)
		ret->dirfd = pin->fd;
	ret->pin = pin;
	return r;
}

void un_at_done(struct un_fs *fs, struct un_at *at)
{
	un_fdcache_put(fs->fds, at->pin);
	at->pin = NULL;
}

/*
 * The only writer of rdir, rname and orphan. @rd NULL: no name leads to it, only a descriptor that stays
 * open. @orphan: the link is one in the work directory, which does not count.
 */
static void set(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd, const char *name,
		bool orphan) UN_INODE_LOCKED(inode)
{
	struct un_realdir *was = inode->rdir;
	char *old_name = inode->rname;

	UN_ASSERT(!rd || inode->type != DT_DIR);
	UN_ASSERT(!rd || name);
	inode->rdir = rd ? un_realdir_ref(rd) : NULL;
	inode->rname = rd ? g_ref_string_new(name) : NULL;
	inode->orphan = orphan;
	if (old_name)
		g_ref_string_release(old_name);
	un_realdir_put(fs, was);
}

void un_place_set_locked(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
			 const char *name)
{
	set(fs, inode, rd, name, false);
}

void un_place_orphan_locked(struct un_fs *fs, struct un_inode *inode, const char *name)
{
	set(fs, inode, fs->workdir, name, true);
}

static void remove_orphan(struct un_fs *fs, const struct un_inode *inode) UN_REQUIRES(un_inode_role)
{
	if (inode->orphan)
		un_ignore(fs->upper->ops->unlink(fs->upper, fs->work, inode->rname, 0));
}

void un_place_named(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
		    const char *name)
{
	un_inode_lock(inode);
	if (inode->ix && inode->ix->published) {
		un_inode_unlock(inode);
		return;
	}
	if (!inode->rdir || inode->orphan) {
		remove_orphan(fs, inode);
		un_fdcache_pin(fs->fds, &inode->io, false);
		un_place_set_locked(fs, inode, rd, name);
	} else if ((fs->live || fs->revalidate) &&
		   (inode->rdir != rd || strcmp(inode->rname, name) != 0)) {
		/* Others may have renamed it: this is where it has been seen. */
		un_place_set_locked(fs, inode, rd, name);
	}
	inode->tmpfile = false;
	un_inode_unlock(inode);
}

void un_place_seen(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
		   const char *name)
{
	un_inode_lock(inode);
	if (!inode->upper && (inode->rdir != rd || strcmp(inode->rname, name) != 0))
		un_place_set_locked(fs, inode, rd, name);
	un_inode_unlock(inode);
}

void un_place_moved_locked(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
			   const char *name)
{
	if (inode->type != DT_DIR && !inode->orphan && !inode->ix)
		un_place_set_locked(fs, inode, rd, name);
}

void un_place_free(struct un_fs *fs, struct un_inode *inode)
{
	remove_orphan(fs, inode);
	set(fs, inode, NULL, NULL, false);
}

int un_pin_locked(struct un_fs *fs, struct un_inode *inode)
{
	struct un_layer *l;
	struct un_at at;
	int fd, r;

	if (un_fdcache_pin(fs->fds, &inode->io, true))
		return 0;
	r = un_at_locked(fs, inode, &at);
	if (r < 0)
		return r;
	l = at.layer;
	fd = un_at_open(UN_AT(l, at.dirfd, at.name), O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
	un_at_done(fs, &at);
	if (fd < 0)
		return fd;
	un_fdcache_put(fs->fds, un_fdcache_add(fs->fds, &inode->io, l, fd, UN_FD_PIN));
	return un_fdcache_pin(fs->fds, &inode->io, true) ? 0 : -ENFILE;
}

void un_unhold_locked(struct un_fs *fs, struct un_inode *inode)
{
	if (inode->rdir)
		un_fdcache_pin(fs->fds, &inode->io, false);
}

int un_orphan_nameless(struct un_fs *fs, struct un_inode *inode)
{
	char name[UN_STAGE_NAME];
	struct un_fd *f;
	int r;

	if (un_fdcache_pin(fs->fds, &inode->io, true))
		return 0;
	f = un_fdcache_get(fs->fds, &inode->io, 0);
	if (!f)
		return -ESTALE;
	un_stage_name(fs, name);
	r = fs->upper->ops->link(fs->upper, f->fd, "", fs->work, name);
	un_fdcache_put(fs->fds, f);
	if (r < 0)
		return r;
	un_place_orphan_locked(fs, inode, name);
	return 0;
}
