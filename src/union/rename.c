/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rename(2) and its flags. Everything that can be done beforehand without being seen is (copy-up,
 * marks, an empty target made really empty); the change itself is one system call on the upper, which
 * one depending on what lies below the old name and what is at the new one
 * (fuse-unionfs-format(5), ORDER OF CHANGES):
 *
 *   below the old name   at the new name         call
 *   something            no whiteout             RENAME_WHITEOUT: one is left behind
 *   something            a whiteout              RENAME_EXCHANGE: it moves to the old name
 *   nothing              whiteout, a directory   RENAME_EXCHANGE, then the whiteout goes
 *   nothing              anything else           plain
 *
 * Where the upper has no such calls it is several, see rename-change.c.
 *
 * Where a whiteout is a name of its own beside the one it hides (an upper without xattrs or devices),
 * it is made before; while there is an object as well it does not hide that.
 */
#include "away_i.h"
#include "remove_i.h"
#include "rename_i.h"

#include "copyup/copyup-stage.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/impure.h"
#include "object/index.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/lookup.h"
#include "object/object.h"
#include "object/owner.h"
#include "object/place.h"
#include "object/realdir.h"
#include "object/stage.h"
#include "object/tar.h"
#include "union/union.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* The name must be in the upper to go from there, whatever other name its file has there. */
static int alias(struct renaming *v, struct side *s) UN_NS_WRITE
{
	int r;

	if (!s->child || s->state.in_upper || !un_index_has(s->child))
		return 0;
	r = un_index_alias(v->fs, s->child, s->dir, s->fd->fd, s->name, false);
	s->state.in_upper = r == 0;
	return r;
}

static int open_side(struct un_fs *fs, struct side *s) UN_NS_READ
{
	int r;

	if (s->dir->d->dead)
		return -ENOENT;
	s->updir = un_dir_upper(fs, s->dir);
	s->stamp = un_live_look(fs, s->dir);
	r = un_name_state(fs, s->dir, s->name, true, &s->state);
	return r < 0 ? r : un_realdir_open(fs, s->updir, &s->fd);
}

/* Are the names still what was looked up before the directories were locked? */
static int check_again(struct renaming *v)
{
	struct un_inode *from = un_name_find(v->fs, v->from.dir, v->from.name);
	struct un_inode *to = un_name_find(v->fs, v->to.dir, v->to.name);
	bool same = from == v->from.child && (to == v->to.child || (!v->to.child && to == NULL));

	un_inode_put(v->fs, from);
	un_inode_put(v->fs, to);
	return same && v->from.state.in_upper ? 0 : -ESTALE;
}

/* Origin moves with the object, so its new directory must say that it holds such. */
static int mark_impure(struct renaming *v)
{
	int r = 0;

	if (v->from.dir == v->to.dir)
		return 0;
	if (v->from.child->origin)
		r = un_dir_mark_impure(v->fs, v->to.updir, v->to.fd->fd);
	if (r == 0 && v->exchange && v->to.child->origin)
		r = un_dir_mark_impure(v->fs, v->from.updir, v->from.fd->fd);
	return r;
}

/* A directory that comes to a place where something may lie below must not show that. */
static int mark_opaque(struct un_fs *fs, struct side *s, struct side *new)
{
	struct un_inode *new_parent = new->dir;
	struct un_realdir *rd;
	int r;

	/* With a redirect it shows what it has always shown. */
	if (s->child->type != DT_DIR || new_parent->d->n < 2 || s->child->d->n > 1)
		return 0;
	rd = s->child->d->stack[0];
	if (fs->upper->tar_names)
		return un_whiteout_beside(fs->upper, new->fd->fd, new->name);
	if (rd->opaque)
		return 0;
	r = un_mark_dir(fs, s->fd->fd, s->name, UN_MARK_OPAQUE, "y");
	if (r < 0)
		return -EXDEV;
	rd->opaque = true;
	return 0;
}

/* A file that gets a name like a mark's is marked as ordinary before. */
static int mark_ordinary(struct renaming *v, struct un_inode *child, const char *name)
{
	int r;

	if (!un_name_ordinary(v->fs, name))
		return 0;
	un_inode_lock(child);
	r = un_mark_ordinary_locked(v->fs, child);
	un_inode_unlock(child);
	return r;
}

/* The directory behind @to is another one now: opaque, empty, with nothing below. */
static void repoint(struct renaming *v, struct un_inode *to, const struct statx *st) UN_NS_WRITE
{
	struct un_realdir *rd = to->d->stack[0];

	un_inode_lock(to);
	while (to->d->n > 1) {
		un_live_left(v->fs, to, to->d->stack[to->d->n - 1]);
		un_realdir_put(v->fs, to->d->stack[--to->d->n]);
	}
	un_ino_unkeep(v->fs, to->dev, to->rino);
	rd->dev = un_stx_dev(st);
	rd->ino = st->stx_ino;
	rd->opaque = true;
	rd->impure = false;
	un_fdcache_clear(v->fs->fds, &rd->fd);
	to->dev = rd->dev;
	to->rino = rd->ino;
	to->xattrs = UN_XATTR_UNKNOWN;
	un_inode_unlock(to);
	un_listing_free(to->d->listing);
	to->d->listing = un_listing_new();
	un_live_moved(v->fs, to);
}

static int discard_hidden(void *data)
{
	struct renaming *v = data;

	return un_stage_empty(v->fs, v->to.fd->fd, v->to.name);
}

/*
 * Without an exchange the target itself is made really empty: once it is opaque, what hides names in it
 * hides nothing.
 */
static int empty_target(struct renaming *v) UN_NS_WRITE
{
	struct un_layer *u = v->fs->upper;
	struct statx st, now;
	int r = un_getattr(v->fs, v->to.child, &st);

	if (r == 0)
		r = un_mark_dir(v->fs, v->to.fd->fd, v->to.name, UN_MARK_OPAQUE, "y");
	if (r == 0)
		r = un_lifted(v->fs, v->to.fd->fd, v->to.name, discard_hidden, v);
	if (r < 0)
		return r;
	un_ignore(un_stage_times(v->fs, v->to.fd->fd, v->to.name, &st));
	r = u->ops->stat(u, v->to.fd->fd, v->to.name, &now);
	if (r == 0)
		repoint(v, v->to.child, &now);
	return r;
}

/* The target is in the work directory, and an empty one, with the attributes @now, in its place. */
static int discard_replaced(struct renaming *v, const char *staged, mode_t mode,
			    const struct statx *now) UN_NS_WRITE
{
	int r = un_stage_discard_hidden(v->fs, staged);

	if (r == 0) {
		repoint(v, v->to.child, now);
		return 0;
	}
	/* Others have put something into it meanwhile. */
	atomic_fetch_add(&v->to.child->d->changed, 1);
	if (un_publish_rename(v->fs, staged, mode | S_IFDIR, v->to.fd->fd, v->to.name,
			      RENAME_EXCHANGE) == 0)
		un_stage_discard(v->fs, staged);
	else
		un_log(LOG_ERR,
		       "what others put into a directory that was being replaced is in WORK/work/%s",
		       staged);
	return r;
}

/*
 * The target is a directory that shows no names: put a really empty one in its place first, unless it
 * is one already. The view does not change.
 */
static int clear_target(struct renaming *v) UN_NS_WRITE
{
	struct un_layer *u = v->fs->upper;
	struct un_inode *to = v->to.child;
	char staged[UN_STAGE_NAME];
	struct statx st, parent, now;
	int r;

	if (!un_rename_replaces_dir(v))
		return 0;
	r = un_dir_empty_locked(v->fs, to);
	if (r <= 0)
		return r < 0 ? r : -ENOTEMPTY;
	if (!v->to.state.in_upper)
		return 0;
	if (to->d->n == 1 && !un_listing_has_whiteouts(to->d->listing) &&
	    !to->d->stack[0]->opaque && !u->tar_names)
		return 0;
	r = un_dir_empty_now_locked(v->fs, to);
	if (r <= 0)
		return r < 0 ? r : -ENOTEMPTY;
	if (u->tar_names)
		return un_clear_dir(v->fs, v->to.fd->fd, v->to.name, v->to.state.lower);
	if (!u->caps.rename_exchange)
		return empty_target(v);
	un_stage_name(v->fs, staged);
	un_stage_umask();
	r = u->ops->mkdir(u, v->fs->work, staged, 0700);
	if (r < 0)
		return r;
	r = un_mark_dir(v->fs, v->fs->work, staged, UN_MARK_OPAQUE, "y");
	if (r == 0)
		r = un_getattr(v->fs, to, &st);
	if (r == 0)
		r = un_own_as(v->fs, UN_AT(u, v->to.fd->fd, v->to.name), &st, v->fs->work, staged);
	if (r == 0)
		r = un_stage_copy_xattrs(v->fs, UN_AT(u, v->to.fd->fd, v->to.name), v->fs->work,
					 staged, true);
	if (r == 0)
		r = u->ops->chmod(u, v->fs->work, staged, st.stx_mode & 07777);
	if (r == 0)
		r = un_stage_times(v->fs, v->fs->work, staged, &st);
	if (r == 0)
		r = u->ops->stat(u, v->to.fd->fd, "", &parent);
	if (r == 0)
		r = u->ops->stat(u, v->fs->work, staged, &now);
	if (r == 0)
		r = un_publish_rename(v->fs, staged, st.stx_mode | S_IFDIR, v->to.fd->fd,
				      v->to.name, RENAME_EXCHANGE);
	if (r == 0)
		r = discard_replaced(v, staged, st.stx_mode, &now);
	else
		un_stage_discard(v->fs, staged);
	if (r == 0)
		un_ignore(un_stage_times(v->fs, v->to.fd->fd, "", &parent));
	return un_cap_refused(u, &u->caps.rename_exchange, "RENAME_EXCHANGE", r) ? empty_target(v)
										 : r;
}

/* The replaced target keeps a last name in the work directory: no descriptor was left to hold it. */
static int save_orphan(struct renaming *v)
{
	struct un_layer *u = v->fs->upper;

	if (!v->orphan[0])
		return 0;
	return u->ops->link(u, v->to.fd->fd, v->to.name, v->fs->work, v->orphan);
}

static int change_lifted_to(void *data)
{
	struct renaming *v = data;

	return v->from.fd == v->to.fd ? un_rename_change(v)
				      : un_lifted(v->fs, v->to.fd->fd, "", un_rename_change, v);
}

/* A plain user's read-only directory changes its parent: its mode is lifted around the change. */
static int change_moved_dir(struct renaming *v)
{
	struct un_layer *u = v->fs->upper;
	struct statx st;
	int r = un_lifted(v->fs, v->from.fd->fd, "", change_lifted_to, v);

	if (r != -EACCES || v->fs->privileged || v->from.child->type != DT_DIR)
		return r;
	r = u->ops->stat(u, v->from.fd->fd, v->from.name, &st);
	if (r == 0)
		r = u->ops->chmod(u, v->from.fd->fd, v->from.name, (st.stx_mode & 07777) | S_IRWXU);
	if (r < 0)
		return r == -EPERM ? -EACCES : r;
	r = un_lifted(v->fs, v->from.fd->fd, "", change_lifted_to, v);
	un_stage_mode(v->fs, r == 0 ? v->to.fd->fd : v->from.fd->fd,
		      r == 0 ? v->to.name : v->from.name, st.stx_mode);
	return r;
}

static int change_tree(struct renaming *v);

/* Two inodes' locks in the order of their ids. */
static void lock_children(struct renaming *v)
	UN_ACQUIRES(v->from.child->lock, v->to.child->lock, un_inode_role) UN_NO_TSA
{
	struct un_inode *a = v->from.child, *b = v->to.child;

	if (b && b->id < a->id) {
		a = v->to.child;
		b = v->from.child;
	}
	un_inode_lock(a);
	if (b)
		un_inode_lock(b);
}

static void unlock_children(struct renaming *v)
	UN_RELEASES(v->from.child->lock, v->to.child->lock, un_inode_role) UN_NO_TSA
{
	if (v->to.child)
		un_inode_unlock(v->to.child);
	un_inode_unlock(v->from.child);
}

/*
 * The change and where the objects are after it, as one: whoever asks for either inode meanwhile
 * waits. @last: attributes of a directory that is replaced.
 */
static int change_and_locate(struct renaming *v, const struct statx *last)
{
	struct un_inode *to = v->to.child;
	bool replaces = to && !v->exchange && to->type != DT_DIR;
	int r = 0;

	lock_children(v);
	if (replaces && v->to.state.in_upper)
		r = un_hold_locked(v->fs, v->to.child, v->orphan);
	if (r == 0)
		r = save_orphan(v);
	if (r == 0)
		r = change_tree(v);
	if (r == 0 && v->exchange)
		un_place_moved_locked(v->fs, v->to.child, v->from.updir, v->from.name);
	else if (r == 0 && replaces)
		un_relocate_locked(v->fs, v->to.child, v->to.dir, v->to.name, v->orphan);
	else if (r == 0 && to)
		un_dead_locked(v->to.child, last);
	else if (r < 0 && replaces)
		un_unhold_locked(v->fs, v->to.child);
	if (r == 0)
		un_place_moved_locked(v->fs, v->from.child, v->to.updir, v->to.name);
	unlock_children(v);
	if (r < 0 && v->orphan[0])
		un_ignore(v->fs->upper->ops->unlink(v->fs->upper, v->fs->work, v->orphan, 0));
	return r;
}

/* The real directory that moves with @inode, or NULL. */
static struct un_realdir *real_dir(const struct un_inode *inode)
{
	return inode && inode->type == DT_DIR ? inode->d->stack[0] : NULL;
}

/* Real directories move on the layer and in our tree; who looks for one between the two waits. */
static int change_tree(struct renaming *v)
{
	struct un_realdir *a = real_dir(v->from.child), *old_a = NULL;
	struct un_realdir *b = v->exchange ? real_dir(v->to.child) : NULL, *old_b = NULL;
	int r;

	if (!a && !b)
		return change_moved_dir(v);
	un_tree_changes(v->fs, a);
	un_tree_changes(v->fs, b);
	r = change_moved_dir(v);
	un_tree_lock(v->fs);
	if (r == 0 && a)
		old_a = un_realdir_moved_locked(v->fs, a, v->to.updir, v->to.name);
	if (r == 0 && b)
		old_b = un_realdir_moved_locked(v->fs, b, v->from.updir, v->from.name);
	un_tree_settled_locked(v->fs, a);
	un_tree_settled_locked(v->fs, b);
	un_tree_unlock(v->fs);
	un_realdir_put(v->fs, old_a);
	un_realdir_put(v->fs, old_b);
	return r;
}

/* ---- bookkeeping ------------------------------------------------------------------------------------ */

/* @child is now (dir, name), where it was (old, old_name). */
static void moved(struct un_fs *fs, struct un_inode *child, struct side *old, struct side *to)
{
	/* It shows lower directories at another place from now on, and keeps its number there. */
	if (child->type == DT_DIR && child->d->n > 1)
		un_ino_keep_dir(fs, child);
	un_name_add(fs, child, to->dir, to->name, true, to->stamp);
	un_name_drop(fs, child, old->dir, old->name);
	un_live_arrived(fs, to->dir, to->name);
	if (child->type == DT_DIR ? child->d->n > 1 : atomic_load(&child->metacopy))
		un_live_redirected(fs, child);
}

static void note_replaced(struct renaming *v) UN_NS_WRITE
{
	struct un_inode *to = v->to.child;

	if (!to)
		return;
	if (to->type != DT_DIR) {
		un_note_unlinked(v->fs, to, v->to.dir, v->to.name);
		return;
	}
	to->d->listing = un_listing_free(to->d->listing);
	if (to->upper)
		un_ino_unkeep(v->fs, to->dev, to->rino);
	un_name_drop(v->fs, to, v->to.dir, v->to.name);
}

static void note_exchanged(struct renaming *v) UN_NS_WRITE
{
	struct un_inode *a = v->from.child, *b = v->to.child;
	struct un_state na = v->to.state, nb = v->from.state;

	na.type = a->type;
	nb.type = b->type;
	na.in_upper = nb.in_upper = true;
	moved(v->fs, a, &v->from, &v->to);
	moved(v->fs, b, &v->to, &v->from);
	un_dir_note(v->fs, v->to.dir, v->to.name, &na, a->type == DT_DIR ? 0 : a->rino);
	un_dir_note(v->fs, v->from.dir, v->from.name, &nb, b->type == DT_DIR ? 0 : b->rino);
}

static void note_moved(struct renaming *v) UN_NS_WRITE
{
	struct un_inode *a = v->from.child;
	struct un_state now = { .exists = true, .in_upper = true, .type = a->type };
	struct un_state gone = { .whiteout = v->from.state.lower, .lower = v->from.state.lower };

	now.lower = v->to.state.lower;
	moved(v->fs, a, &v->from, &v->to);
	un_dir_note(v->fs, v->to.dir, v->to.name, &now, a->type == DT_DIR ? 0 : a->rino);
	un_dir_note(v->fs, v->from.dir, v->from.name, &gone, 0);
}

static int rename_locked(struct renaming *v) UN_NS_WRITE
{
	struct un_inode *to = v->to.child;
	struct statx last;
	/* Before either is asked for: what the mark at the one name hid may be the other. */
	int r = un_name_settle(v->fs, v->from.dir, v->from.name);

	if (r == 0)
		r = un_name_settle(v->fs, v->to.dir, v->to.name);
	if (r == 0)
		r = open_side(v->fs, &v->from);
	if (r == 0)
		r = open_side(v->fs, &v->to);
	if (r == 0)
		r = alias(v, &v->from);
	if (r == 0)
		r = alias(v, &v->to);
	if (r == 0)
		r = check_again(v);
	if (r == 0)
		r = mark_impure(v);
	if (r == 0)
		r = mark_ordinary(v, v->from.child, v->to.name);
	if (r == 0 && v->exchange)
		r = mark_ordinary(v, to, v->from.name);
	if (r == 0)
		r = mark_opaque(v->fs, &v->from, &v->to);
	if (r == 0 && v->exchange)
		r = mark_opaque(v->fs, &v->to, &v->from);
	if (r == 0 && un_rename_replaces_dir(v))
		r = un_getattr(v->fs, to, &last);
	if (r == 0)
		r = clear_target(v);
	if (r == 0)
		r = change_and_locate(v, &last);
	if (r == 0 && v->exchange) {
		note_exchanged(v);
	} else if (r == 0) {
		note_replaced(v);
		note_moved(v);
	}
	un_fdcache_put(v->fs->fds, v->from.fd);
	un_fdcache_put(v->fs->fds, v->to.fd);
	v->from.fd = v->to.fd = NULL;
	return r;
}

static int find_children(struct renaming *v, unsigned flags)
{
	int r = un_lookup(v->fs, v->from.dir, v->from.name, &v->from.child, NULL);

	if (r < 0)
		return r;
	r = un_lookup(v->fs, v->to.dir, v->to.name, &v->to.child, NULL);
	if (r == -ENOENT)
		return v->exchange ? r : 0;
	if (r == 0 && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	return r;
}

/* The number of ".." is in a directory's own listing, which nothing else tells the kernel to drop. */
static void tell_new_parent(struct renaming *v)
{
	struct un_inode *both[] = { v->from.child, v->exchange ? v->to.child : NULL };

	for (int i = 0; v->fs->stale && i < 2; i++)
		if (both[i] && both[i]->type == DT_DIR)
			v->fs->stale(v->fs->stale_data, both[i]->id, UN_STALE_LISTING);
}

int un_rename(struct un_fs *fs, struct un_inode *from, const char *name, struct un_inode *to,
	      const char *new_name, unsigned flags)
{
	struct renaming v = {
		.fs = fs,
		.from = { .dir = from, .name = name },
		.to = { .dir = to, .name = new_name },
		.exchange = flags & RENAME_EXCHANGE,
	};
	struct un_ns_set locked;
	int r;

	if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (un_name_too_long(name) || un_name_too_long(new_name))
		return -ENAMETOOLONG;
	if (fs->read_only)
		return -EROFS;
	if (un_name_reserved(fs, name) || un_name_reserved(fs, new_name))
		return un_name_reserved(fs, name) ? -ENOENT : -EINVAL;
	if (v.exchange && !fs->upper->caps.rename_exchange)
		return -EINVAL;
	r = find_children(&v, flags);
	/* Two names of one inode: nothing happens (rename(2)). */
	if (r == 0 && v.from.child != v.to.child) {
		r = un_rename_prepare(&v);
		if (r == 0) {
			un_ns_write_set(&locked, from, to, un_rename_replaces_dir(&v) ? v.to.child : NULL);
			r = rename_locked(&v);
			un_ns_unlock_set(&locked);
		}
		if (r == 0 && from != to)
			tell_new_parent(&v);
	}
	un_inode_put(fs, v.from.child);
	un_inode_put(fs, v.to.child);
	return r;
}
