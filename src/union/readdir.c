/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listing without any state for an open directory: a position is a cookie, a function of the name. */
#include "layer/layer.h"
#include "merge/merge.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/impure.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/lookup.h"
#include "object/object.h"
#include "object/realdir.h"
#include "object/stand-in.h"
#include "union/union.h"
#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>

#define DAY 86400u

#define DOT 1
#define DOTDOT 2

static uint64_t parent_ino(struct un_inode *dir)
{
	struct un_inode *parent = NULL;
	uint64_t ino = dir->ino;

	un_inode_lock(dir);
	if (dir->names)
		parent = dir->names->dir;
	if (parent)
		ino = parent->ino;
	un_inode_unlock(dir);
	return ino;
}

/* Returns false if @fn wants no more. */
static bool emit_dots(struct un_inode *dir, uint64_t cookie, un_dirent_fn fn, void *data)
{
	struct un_dirent e = { .type = DT_DIR };

	if (cookie < DOT) {
		e.name = ".";
		e.cookie = DOT;
		e.ino = dir->ino;
		if (!fn(data, &e))
			return false;
	}
	if (cookie < DOTDOT) {
		e.name = "..";
		e.cookie = DOTDOT;
		e.ino = parent_ino(dir);
		if (!fn(data, &e))
			return false;
	}
	return true;
}

/* Does the layer's own number decide what is shown, with nothing to be looked up? */
static bool plain_ino(struct un_fs *fs, struct un_inode *dir, const struct un_entry *e)
{
	struct un_realdir *rd = dir->d->stack[e->pos];

	if (e->ino == 0 || e->type == DT_UNKNOWN)
		return false;
	if (e->type == DT_DIR)
		/* The number in the listing is that below, where a file system or subvolume is mounted. */
		return false;
	/* One that was given before the layer was found out stays. */
	if (!un_layer_numbers_last(rd->layer, false) &&
	    (rd->layer == fs->upper || rd->layer->surprised))
		return false;
	return rd->layer == fs->upper ? !rd->impure : !dir->d->salt;
}

/*
 * A listing that is asked for again, after one name was made perhaps, has mostly names that the kernel holds. Told of one
 * again it would forget what ACL that has, and it costs a question to a layer. *ret_ino: the number that it knows of the
 * object that is listed, which may be another than the layer's; 0: none is known of that one.
 */
static bool kernel_holds(struct un_fs *fs, struct un_inode *dir, const struct un_entry *e,
			 uint64_t *ret_ino) UN_NS_READ
{
	struct un_inode *known = un_name_find(fs, dir, e->name);
	bool holds = known && atomic_load(&known->told);

	*ret_ino = holds && known->rino == e->ino ? known->ino : 0;
	un_inode_put(fs, known);
	return holds;
}

/* 1: *ret is filled in; 0: the name turned out not to exist. *pure: set to false for an origin. */
static int fill(struct un_fs *fs, struct un_inode *dir, const struct un_entry *e, bool attrs,
		bool *pure, struct un_dirent *ret, struct statx *st) UN_NS_READ
{
	struct un_inode *inode;
	uint64_t known = 0;
	bool held = attrs && kernel_holds(fs, dir, e, &known);
	int r;

	*ret = (struct un_dirent){ .name = e->name, .cookie = e->cookie, .type = e->type };
	attrs = attrs && !held;
	if (held && known && plain_ino(fs, dir, e)) {
		ret->ino = known;
		return 1;
	}
	if (!held && !attrs && plain_ino(fs, dir, e)) {
		const struct un_realdir *rd = dir->d->stack[e->pos];
		bool real = un_layer_numbers_last(rd->layer, false);

		ret->ino = un_ino_listed(fs, rd, real ? e->ino : un_stand_in(rd, e->name));
		return 1;
	}
	r = un_lookup_locked(fs, dir, e->name, &inode, attrs ? st : NULL);
	if (r == -ENOENT || (r == -ESTALE && !fs->live))
		return 0;
	if (r == -ERESTART)
		return r;
	if (r < 0) {
		/*
		 * It is there but cannot be had (a mark that is not followed), or is being changed by others:
		 * listed by name.
		 */
		ret->ino = e->ino ? un_ino_listed(fs, dir->d->stack[e->pos], e->ino) : 1;
		*pure = false;
		return 1;
	}
	ret->ino = inode->ino;
	if (inode->upper && inode->origin)
		*pure = false;
	ret->type = inode->type;
	if (attrs) {
		ret->inode = inode;
		ret->st = st;
	} else {
		un_inode_put(fs, inode);
	}
	return 1;
}

/*
 * Attributes cost a question to a layer and an inode in the kernel for each name. Of a very large
 * directory the first names have them, and the others once it has shown that somebody wants them.
 */
static bool wants_attrs(struct un_dirinfo *d, size_t at)
{
	if (at < UN_ATTRS_FIRST || atomic_load(&d->looked_up) >= UN_ATTRS_WANTED)
		return true;
	atomic_store_explicit(&d->bare, true, memory_order_relaxed);
	return false;
}

/*
 * Returns the position of the last one that @fn took, or of the end (-1). *pure: false if an object with
 * an origin is among them.
 */
static uint64_t emit_names(struct un_fs *fs, struct un_inode *dir, uint64_t cookie, bool attrs,
			   bool *pure, char *ret_changed, un_dirent_fn fn, void *data) UN_NS_READ
{
	const struct un_listing *l = dir->d->listing;
	const struct un_entry *e;

	for (size_t at = un_listing_after(l, cookie); (e = un_listing_at(l, &at)); at++) {
		struct un_dirent de;
		struct statx st;
		int r = fill(fs, dir, e, attrs && wants_attrs(dir->d, at), pure, &de, &st);

		if (r == -ERESTART) {
			g_strlcpy(ret_changed, e->name, NAME_MAX + 1);
			return cookie;
		}
		if (r == 0)
			continue;
		if (!fn(data, &de)) {
			un_inode_put(fs, de.inode);
			return cookie;
		}
		cookie = e->cookie;
	}
	return UINT64_MAX;
}

/* ---- what a listing does to a directory of the upper -------------------------------------------------- */

/* So often in a row others may have changed what a directory in it is made of. */
#define RESTARTS 8

/*
 * Somebody lists it from memory: the file system is asked to move the time of access by its own rules.
 * Once, like relatime: again when it has been changed, or a day later.
 */
static void note_access(struct un_fs *fs, struct un_inode *dir)
{
	struct un_realdir *rd = un_dir_upper(fs, dir);
	uint32_t now = un_monotonic_seconds(), last = atomic_load(&dir->d->accessed);
	char buf[64] __attribute__((aligned(8)));
	struct un_fd *fd;

	if (!rd || rd->hollow || fs->read_only || fs->upper->noatime || (last && now - last < DAY))
		return;
	atomic_store(&dir->d->accessed, now);
	if (un_realdir_open(fs, rd, &fd) < 0)
		return;
	un_autofd int own =
		fs->upper->ops->open(fs->upper, fd->fd, "", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (own >= 0)
		un_ignore(fs->upper->ops->getdents(fs->upper, own, buf, sizeof(buf)));
	un_fdcache_put(fs->fds, fd);
}

/*
 * A directory of the upper alone that is marked impure has every name in it looked up whenever it is listed. One that
 * was listed from the beginning to the end without anything that has an origin is pure again. ns is held;
 * true if so.
 */
static bool seen_pure(struct un_inode *dir, unsigned seq, uint64_t from, uint64_t to, bool pure)
{
	struct un_pure *p = &dir->d->pure;

	un_inode_lock(dir);
	if (from <= DOTDOT)
		*p = (struct un_pure){ .next = from, .seq = seq };
	pure = pure && p->next == from && p->seq == seq;
	p->next = pure ? to : 0;
	un_inode_unlock(dir);
	return pure && to == UINT64_MAX;
}

static void make_pure(struct un_fs *fs, struct un_inode *dir)
{
	struct un_pure pure;

	un_ns_write(dir);
	un_inode_lock(dir);
	pure = dir->d->pure;
	un_inode_unlock(dir);
	/* An object with an origin that came meanwhile has counted impure_seq up before. */
	if (!dir->d->dead && pure.next == UINT64_MAX &&
	    pure.seq == atomic_load(&un_dir_upper(fs, dir)->impure_seq))
		un_dir_mark_pure(fs, dir);
	un_ns_unlock(dir);
}

/* A complete, ordered listing, or -errno; ns is held for reading in any case. */
static int listing_get(struct un_fs *fs, struct un_inode *dir, bool again)
	UN_ACQUIRES_SHARED(un_ns_role)
{
	int r;

	un_ns_read(dir);
	if (dir->d->dead ||
	    (un_dir_listing(fs, dir) && un_listing_settled(dir->d->listing) && !again))
		return 0;
	do {
		un_ns_unlock(dir);
		r = un_dir_list(fs, dir, true, again);

		un_ns_write(dir);
		if (r == 0 && dir->d->listing)
			un_listing_settle(dir->d->listing);
		un_ns_unlock(dir);

		un_ns_read(dir);
		again = false;
		/* Without one it would look like the end of the directory. */
	} while (r == 0 && !dir->d->dead && !dir->d->listing);
	return r;
}

/* *ret_changed: not "" where it ended before a directory that has to be looked up first; true: at the beginning. */
static int read_once(struct un_fs *fs, struct un_inode *dir, uint64_t cookie, bool attrs,
		     char *ret_changed, un_dirent_fn fn, void *data)
{
	struct un_realdir *up;
	bool pure = true;
	uint64_t to = 0, from = cookie;
	unsigned seq;
	int r;

	/* With timeout=0 the layers are read anew whenever a listing starts. */
	r = listing_get(fs, dir, fs->revalidate && cookie == 0);
	if (r < 0) {
		un_ns_unlock(dir);
		return r;
	}
	if (cookie == 0 && !dir->d->dead)
		note_access(fs, dir);
	up = un_dir_upper(fs, dir);
	seq = up ? atomic_load(&up->impure_seq) : 0;
	/* A removed directory that is still open lists nothing. Unsettled again: the next call. */
	if (!dir->d->dead && emit_dots(dir, cookie, fn, data) && dir->d->listing) {
		cookie = MAX(cookie, (uint64_t)DOTDOT);
		to = emit_names(fs, dir, cookie, attrs, &pure, ret_changed, fn, data);
	}
	/* As the kernel: of merged directories the mark says nothing that would be asked. */
	pure = to && up && up->impure && dir->d->n == 1 && !fs->read_only &&
	       seen_pure(dir, seq, cookie, to, pure);
	un_ns_unlock(dir);
	if (pure)
		make_pure(fs, dir);
	return to == from;
}

int un_readdir(struct un_fs *fs, struct un_inode *dir, uint64_t cookie, bool attrs, un_dirent_fn fn,
	       void *data)
{
	int r;

	if (dir->type != DT_DIR)
		return -ENOTDIR;
	for (int tries = 0;; tries++) {
		char changed[NAME_MAX + 1] = "";
		struct un_inode *inode;

		r = read_once(fs, dir, cookie, attrs, changed, fn, data);
		if (r < 0 || !changed[0])
			return MIN(r, 0);
		/* Others have changed what it is made of (object/stack.c). */
		if (un_lookup(fs, dir, changed, &inode, NULL) == 0)
			un_inode_put(fs, inode);
		/* What was told before it is an answer. */
		if (r == 0)
			return 0;
		if (tries == RESTARTS)
			return -ESTALE;
	}
}
