/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unlink and rmdir. Nothing is copied for it: what lies below is hidden by a whiteout, which takes
 * the place of an upper object in the same step in which that disappears.
 */
#include "away_i.h"
#include "remove_i.h"

#include "copyup/copyup-path.h"
#include "copyup/copyup.h"
#include "layer/layer.h"
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "object/attr.h"
#include "object/changes.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/index.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/lookup.h"
#include "object/object.h"
#include "object/place.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "object/stage.h"
#include "union/union.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* ---- what stays of a file that may be open ------------------------------------------------------------ */

int un_hold_locked(struct un_fs *fs, struct un_inode *inode, char ret_orphan[UN_STAGE_NAME])
{
	int r;

	ret_orphan[0] = '\0';
	/* The index leads to it until it lets go. */
	if (inode->ix && inode->ix->published)
		return un_index_relative_locked(fs, inode);
	/* A link in work leads to it already; otherwise a descriptor, or with none to spare, a link. */
	r = inode->orphan ? 0 : un_pin_locked(fs, inode);
	if (r == -ENFILE || r == -EMFILE) {
		un_stage_name(fs, ret_orphan);
		r = 0;
	}
	return r;
}

/* The name goes; returns another one of it that we know of. */
static struct un_name *strike(struct un_inode *inode, struct un_inode *dir, const char *name)
	UN_REQUIRES(un_inode_role)
{
	struct un_name *n, *other = NULL;

	for (n = inode->names; n; n = n->next) {
		if (n->dir == dir && strcmp(n->name, name) == 0)
			n->gone = true;
		else if (!n->gone)
			other = n;
	}
	return other;
}

void un_relocate_locked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			const char *name, const char *orphan)
{
	struct un_name *other = strike(inode, dir, name);

	if (inode->ix && !inode->orphan) {
		un_index_unlinked_locked(fs, inode);
		return;
	}
	inode->unlinked = other == NULL;
	if (!inode->upper || inode->orphan)
		return;
	if (orphan[0])
		un_place_orphan_locked(fs, inode, orphan);
	else if (other)
		un_place_set_locked(fs, inode, un_dir_upper(fs, other->dir), other->name);
	else
		un_place_set_locked(fs, inode, NULL, NULL);
	if (inode->rdir)
		un_fdcache_pin(fs->fds, &inode->io, false);
}

void un_note_unlinked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		      const char *name)
{
	struct statx st;
	int r;

	un_name_drop(fs, inode, dir, name);
	un_inode_lock(inode);
	/* The number is free for something else as soon as the last link is gone. */
	if (inode->upper && inode->unlinked &&
	    ((r = un_getattr_locked(fs, inode, &st)) < 0 || st.stx_nlink == 0)) {
		inode->gone = r == 0;
		un_key_drop(fs, inode);
		un_ino_unkeep(fs, inode->dev, inode->rino);
	}
	un_inode_unlock(inode);
}

/* ---- unlink ----------------------------------------------------------------------------------------- */

struct removal {
	struct un_fs *fs;
	struct un_inode *dir;
	int dirfd;
	const char *name;
	struct un_state state;
	const char *orphan;
};

/* The upper object goes; a whiteout comes, if an object of a lower would show through. */
static int take_name(void *data)
{
	struct removal *v = data;
	struct un_fs *fs = v->fs;
	struct un_layer *u = fs->upper;
	bool lower = v->state.lower;
	int r;

	if (!v->state.in_upper)
		return un_whiteout_link(fs->whiteouts, v->dirfd, v->name);
	/* A whiteout beside it hides nothing while this one is there. */
	if (lower && un_whiteout_is_beside(fs->whiteouts)) {
		r = un_whiteout_link(fs->whiteouts, v->dirfd, v->name);
		if (r < 0)
			return r;
		lower = false;
	}
	if (v->orphan[0])
		return un_move_away(fs, v->dirfd, v->name, v->orphan, lower);
	if (lower)
		return un_whiteout_place(fs->whiteouts, v->dirfd, v->name);
	return u->ops->unlink(u, v->dirfd, v->name, 0);
}

/*
 * The victim is in the index, its name in a lower only: make the name in the upper, so that its
 * going counts.
 */
static int alias_victim(struct un_fs *fs, struct removal *v, struct un_inode *inode) UN_NS_WRITE
{
	int r;

	if (v->state.in_upper || !un_index_has(inode))
		return 0;
	r = un_index_alias(fs, inode, v->dir, v->dirfd, v->name, false);
	v->state.in_upper = r == 0;
	/* Lost from the index: then there is nothing to count, and what is below is hidden. */
	return r == -ENOENT ? 0 : r;
}

static int unlink_found(struct un_fs *fs, struct un_inode *dir, const char *name,
			struct un_inode *inode) UN_NS_WRITE
{
	char orphan[UN_STAGE_NAME] = "";
	struct removal v = { .fs = fs, .dir = dir, .name = name, .orphan = orphan };
	struct un_state now = { 0 };
	struct un_fd *fd;
	int r;

	if (inode->type == DT_DIR)
		return -EISDIR;
	r = un_prot_victim(fs, inode);
	if (r == 0)
		r = un_name_state(fs, dir, name, true, &v.state);
	if (r == 0 && !v.state.exists)
		r = -ENOENT;
	if (r == 0)
		r = un_realdir_open(fs, un_dir_upper(fs, dir), &fd);
	if (r < 0)
		return r;
	v.dirfd = fd->fd;
	r = alias_victim(fs, &v, inode);
	if (r < 0) {
		un_fdcache_put(fs->fds, fd);
		return r;
	}
	/* Whoever asks for the inode meanwhile waits, and finds it where it is then. */
	un_inode_lock(inode);
	if (v.state.in_upper)
		r = un_hold_locked(fs, inode, orphan);
	if (r == 0)
		r = un_lifted(fs, fd->fd, "", take_name, &v);
	if (r == 0)
		un_relocate_locked(fs, inode, dir, name, orphan);
	else
		un_unhold_locked(fs, inode);
	un_inode_unlock(inode);
	un_fdcache_put(fs->fds, fd);
	if (r < 0)
		return r;
	un_note_unlinked(fs, inode, dir, name);
	now.whiteout = now.lower = v.state.lower;
	un_dir_note(fs, dir, name, &now, 0);
	return 0;
}

/*
 * A removal must fail before the directory is copied up: whoever is refused leaves no trace. Cheap,
 * since the kernel has looked the name up and the table knows it.
 */
static int check_victim_dir(struct un_fs *fs, struct un_inode *child)
{
	int r = child->type == DT_DIR ? un_prot_victim(fs, child) : -ENOTDIR;

	/* Nobody knows what the mount on it has in it. */
	return r == 0 && un_dir_is_mountpoint(child, false) ? -EBUSY : r;
}

static int check_child(struct un_fs *fs, struct un_inode *dir, const char *name, bool rmdir)
{
	struct un_inode *child;
	int r;

	if (fs->read_only)
		return -EROFS;
	r = un_lookup(fs, dir, name, &child, NULL);
	if (r < 0)
		return r;
	r = rmdir ? check_victim_dir(fs, child) : un_prot_victim(fs, child);
	if (r == 0 && !rmdir && child->type == DT_DIR)
		r = -EISDIR;
	if (r == 0 && rmdir) {
		un_ns_write(child);
		r = un_dir_empty_locked(fs, child);
		un_ns_unlock(child);
		r = r < 0 ? r : r ? 0 : -ENOTEMPTY;
	}
	un_inode_put(fs, child);
	return r;
}

static int prepare_victim(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	struct un_inode *child;
	int r;

	if (!fs->indexdir)
		return 0;
	r = un_lookup(fs, dir, name, &child, NULL);
	if (r < 0)
		return r;
	r = un_index_victim(fs, child, dir, name);
	un_inode_put(fs, child);
	return r;
}

int un_unlink(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	struct un_inode *child;
	int r;

	if (un_name_too_long(name))
		return -ENAMETOOLONG;
	r = dir->upper ? 0 : check_child(fs, dir, name, false);
	if (r == 0)
		r = un_dir_prepare(fs, dir, true);
	if (r == 0)
		r = prepare_victim(fs, dir, name);
	if (r < 0)
		return r;
	un_ns_write(dir);
	r = un_lookup_locked(fs, dir, name, &child, NULL);
	if (r == 0) {
		r = unlink_found(fs, dir, name, child);
		un_inode_put(fs, child);
	}
	un_ns_unlock(dir);
	return r == -ERESTART ? -EISDIR : r;
}

/* ---- rmdir ------------------------------------------------------------------------------------------ */

void un_dead_locked(struct un_inode *inode, const struct statx *last)
{
	inode->unlinked = true;
	inode->d->dead = true;
	inode->d->last = g_memdup2(last, sizeof(*last));
	inode->d->last->stx_nlink = 0;
}

struct rmdir_args {
	struct un_fs *fs;
	struct un_inode *child;
	int dirfd;
	const char *name;
	const struct un_state *state;
	const struct statx *last;
};

/* @clear: names that are hidden in it (sentinels, whiteouts) go with it. */
static int take_away(const struct rmdir_args *a, bool clear) UN_NS_READ
{
	struct un_layer *u = a->fs->upper;
	int r;

	un_inode_lock(a->child);
	if (!a->state->in_upper)
		r = un_whiteout_link(a->fs->whiteouts, a->dirfd, a->name);
	else if (clear)
		r = un_clear_dir(a->fs, a->dirfd, a->name, a->state->lower);
	else
		r = u->ops->unlink(u, a->dirfd, a->name, AT_REMOVEDIR);
	if (r == 0)
		un_dead_locked(a->child, a->last);
	else if (r == -ENOTEMPTY)
		atomic_fetch_add(&a->child->d->changed, 1);
	un_inode_unlock(a->child);
	return r;
}

static int remove_dir(const struct rmdir_args *a) UN_NS_WRITE
{
	int r = -ENOTEMPTY;

	/* Pure and without whiteouts: the usual case, one system call. */
	if (!a->state->in_upper ||
	    (!a->state->lower && !un_listing_has_whiteouts(a->child->d->listing)))
		r = take_away(a, false);
	if (!a->state->in_upper || (r != -ENOTEMPTY && r != -EEXIST))
		return r;
	r = un_dir_empty_now_locked(a->fs, a->child);
	return r > 0 ? take_away(a, true) : r < 0 ? r : -ENOTEMPTY;
}

static int rmdir_locked(struct un_fs *fs, struct un_inode *dir, const char *name,
			struct un_inode *child) UN_NS_WRITE
{
	struct un_state state, now = { 0 };
	struct statx last;
	struct un_fd *fd;
	int r = un_dir_empty_locked(fs, child);

	if (r <= 0)
		return r < 0 ? r : -ENOTEMPTY;
	r = un_name_state(fs, dir, name, true, &state);
	if (r == 0 && !state.exists)
		r = -ENOENT;
	if (r == 0)
		r = un_getattr(fs, child, &last);
	if (r == 0)
		r = un_realdir_open(fs, un_dir_upper(fs, dir), &fd);
	if (r < 0)
		return r;
	r = remove_dir(&(struct rmdir_args){ .fs = fs,
					     .child = child,
					     .dirfd = fd->fd,
					     .name = name,
					     .state = &state,
					     .last = &last });
	un_fdcache_put(fs->fds, fd);
	if (r < 0)
		return r;
	child->d->listing = un_listing_free(child->d->listing);
	if (child->upper)
		un_ino_unkeep(fs, child->dev, child->rino);
	un_name_drop(fs, child, dir, name);
	now.whiteout = now.lower = state.lower;
	un_dir_note(fs, dir, name, &now, 0);
	return 0;
}

int un_rmdir(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	struct un_ns_set locked;
	struct un_inode *child, *there;
	int r;

	if (un_name_too_long(name))
		return -ENAMETOOLONG;
	r = dir->upper ? 0 : check_child(fs, dir, name, true);
	if (r == 0)
		r = un_dir_prepare(fs, dir, true);
	if (r == 0)
		r = un_lookup(fs, dir, name, &child, NULL);
	if (r < 0)
		return r;
	r = check_victim_dir(fs, child);
	if (r == 0) {
		un_ns_write_set(&locked, dir, child, NULL);
		there = un_name_find(fs, dir, name);
		r = there == child ? rmdir_locked(fs, dir, name, child) : -ENOENT;
		un_inode_put(fs, there);
		un_ns_unlock_set(&locked);
	}
	un_inode_put(fs, child);
	return r;
}

struct list_args {
	struct un_fs *fs;
	struct un_inode *dir;
};

static int list_dir(void *data) UN_NS_WRITE
{
	struct list_args *a = data;

	return un_dir_list_locked(a->fs, a->dir);
}

/* For a removal, which needs no right to read the directory: its owner's mode may forbid that. */
static int list_for_removal(struct un_fs *fs, struct un_inode *dir) UN_NS_WRITE
{
	struct list_args a = { fs, dir };
	struct un_fd *fd;
	int r = un_dir_list_locked(fs, dir);

	if (r != -EACCES || fs->privileged || !un_dir_upper(fs, dir))
		return r;
	if (un_realdir_open(fs, un_dir_upper(fs, dir), &fd) < 0)
		return r;
	r = un_lifted(fs, fd->fd, "", list_dir, &a);
	un_fdcache_put(fs->fds, fd);
	return r;
}

int un_dir_empty_locked(struct un_fs *fs, struct un_inode *dir)
{
	int r = list_for_removal(fs, dir);
	uint64_t at = 0;

	if (r < 0)
		return r;
	un_listing_settle(dir->d->listing);
	/* An unmarked xattr whiteout is listed but not found; it does not count. */
	for (;;) {
		const struct un_entry *e = un_listing_next(dir->d->listing, at);
		struct un_inode *inode;

		if (!e)
			return 1;
		at = e->cookie;
		if (e->type != DT_REG && e->type != DT_UNKNOWN)
			return 0;
		r = un_lookup_locked(fs, dir, e->name, &inode, NULL);
		if (r == 0)
			un_inode_put(fs, inode);
		/* -EPERM: something is there, a mark of it that is not followed; it is listed, too. */
		if (r == 0 || r == -EPERM || r == -ERESTART)
			return 0;
		if (r != -ENOENT)
			return r;
	}
}

int un_dir_empty_now_locked(struct un_fs *fs, struct un_inode *dir)
{
	/* Where all changes are told, what is known is exact once those told by now are taken into account. */
	if (un_fs_dir_is_watched(fs, dir))
		un_fs_catch_up(fs);
	else
		dir->d->listing = un_listing_free(dir->d->listing);
	return un_dir_empty_locked(fs, dir);
}

int un_index_victim(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		    const char *name)
{
	off_t size = UN_COPY_META;
	struct statx st;
	int r;

	if (!inode->ix || inode->upper)
		return 0;
	r = un_prot_victim(fs, inode);
	if (r < 0)
		return r;
	if (fs->layers->index_asked && un_getattr(fs, inode, &st) == 0 && st.stx_size <= 4096)
		size = UN_COPY_ALL;
	r = un_copyup_name(fs, inode, size, dir, name);
	return r == -EPERM || r == -EACCES || r == -EOVERFLOW ? 0 : r;
}
