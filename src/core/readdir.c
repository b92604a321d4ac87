/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listing without any state for an open directory: a position is a cookie, a function of the name. */
#include "core_i.h"

#define DOT 1
#define DOTDOT 2

static uint64_t parent_ino(struct un_inode *dir)
{
	struct un_inode *parent = NULL;
	uint64_t ino = dir->ino;

	un_mutex_lock(&dir->lock);
	if (dir->names)
		parent = dir->names->dir;
	if (parent)
		ino = parent->ino;
	un_mutex_unlock(&dir->lock);
	return ino;
}

/* Returns false if @fn had enough. */
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
	return rd->layer != fs->upper || !rd->impure;
}

/* 0: to be left out (it turned out not to exist); 1: filled in. */
static int fill(struct un_fs *fs, struct un_inode *dir, const struct un_entry *e, bool attrs,
		struct un_dirent *ret, struct statx *st)
{
	struct un_inode *inode;
	int r;

	*ret = (struct un_dirent){ .name = e->name, .cookie = e->cookie, .type = e->type };
	if (!attrs && plain_ino(fs, dir, e)) {
		ret->ino = un_ino_map(fs, dir->d->stack[e->pos]->dev, e->ino);
		return 1;
	}
	r = un_lookup_locked(fs, dir, e->name, &inode, attrs ? st : NULL);
	if (r == -ENOENT || r == -ESTALE)
		return 0;
	if (r < 0) {
		/* It is there but cannot be had (a mark that is not followed): listed by name. */
		ret->ino = e->ino ? e->ino : 1;
		return 1;
	}
	ret->ino = inode->ino;
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
static bool wants_attrs(const struct un_dirinfo *d, size_t at)
{
	return at < UN_ATTRS_FIRST || atomic_load(&d->looked_up) >= UN_ATTRS_WANTED;
}

static void emit_names(struct un_fs *fs, struct un_inode *dir, uint64_t cookie, bool attrs,
		       un_dirent_fn fn, void *data)
{
	const struct un_listing *l = dir->d->listing;
	const struct un_entry *e;

	for (size_t at = un_listing_after(l, cookie); (e = un_listing_at(l, &at)); at++) {
		struct un_dirent de;
		struct statx st;

		if (fill(fs, dir, e, attrs && wants_attrs(dir->d, at), &de, &st) &&
		    !fn(data, &de)) {
			un_inode_put(fs, de.inode);
			return;
		}
	}
}

/* A complete, ordered listing, with ns held for reading on success. */
static int listing_get(struct un_fs *fs, struct un_inode *dir, bool again)
{
	int r = 0;

	un_ns_read(dir);
	if (dir->d->dead || (dir->d->listing && un_listing_settled(dir->d->listing) && !again))
		return 0;
	un_ns_unlock(dir);

	un_ns_write(dir);
	if (!dir->d->dead && (!dir->d->listing || again))
		r = un_dir_list_locked(fs, dir);
	if (r == 0 && dir->d->listing)
		un_listing_settle(dir->d->listing);
	un_ns_unlock(dir);
	if (r < 0)
		return r;

	un_ns_read(dir);
	return 0;
}

int un_readdir(struct un_fs *fs, struct un_inode *dir, uint64_t cookie, bool attrs, un_dirent_fn fn,
	       void *data)
{
	int r;

	if (dir->type != DT_DIR)
		return -ENOTDIR;
	/* With timeout=0 the layers are read anew whenever a listing starts. */
	r = listing_get(fs, dir, fs->revalidate && cookie == 0);
	if (r < 0)
		return r;
	/* A removed directory that is still open lists nothing. Unsettled again: the next call. */
	if (!dir->d->dead && emit_dots(dir, cookie, fn, data) && dir->d->listing)
		emit_names(fs, dir, MAX(cookie, (uint64_t)DOTDOT), attrs, fn, data);
	un_ns_unlock(dir);
	return 0;
}
