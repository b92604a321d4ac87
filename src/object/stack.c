/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which real directories a merged directory is made of: when it is found, and when others have changed that since.
 * Then it is the same directory still, as long as one of them is: who has it open, or works in it, sees what the
 * path shows.
 */
#include "object/stack.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/origin.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/impure.h"
#include "object/ino.h"
#include "object/live.h"
#include "object/object.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "util/err.h"

#include <string.h>

/*
 * An upper directory over a lower one that was made elsewhere gets its origin, as the kernel gives it
 * one when it is looked up. Failure costs nothing but that.
 */
static void give_origin(struct un_fs *fs, struct un_inode *dir, const char *name,
			const struct un_found *f)
{
	struct un_realdir *up = f->hits[0].dir, *low = f->hits[1].dir;
	const char *low_name = f->hits[1].name ? f->hits[1].name : name;
	uint8_t value[UN_ORIGIN_MAX];
	struct un_fd *ufd, *lfd;
	ssize_t n = -1;

	if (fs->read_only || !fs->upper->caps.xattr || up->hollow || low->hollow)
		return;
	if (un_realdir_open(fs, low, &lfd) == 0) {
		n = un_origin_format(UN_AT(low->layer, lfd->fd, low_name), value);
		un_fdcache_put(fs->fds, lfd);
	}
	if (n <= 0 || un_realdir_open(fs, up, &ufd) < 0)
		return;
	if (un_dir_mark_impure(fs, up, ufd->fd) == 0)
		un_ignore(un_mark_set(UN_AT(fs->upper, ufd->fd, name), UN_MARK_ORIGIN, value,
				      (size_t)n));
	un_fdcache_put(fs->fds, ufd);
	/* The mark has moved its time of change. */
	if (fs->stale)
		fs->stale(fs->stale_data, dir->id, UN_STALE_ATTRS);
}

static bool wants_origin(const struct un_fs *fs, const struct un_found *f)
{
	return f->hits[0].layer == fs->upper && f->n > 1 && !f->hits[0].origin;
}

static bool is_at(struct un_fs *fs, struct un_realdir *rd, const struct un_hit *h, const char *name)
{
	bool is;

	if (rd->layer != h->layer || rd->dev != un_stx_dev(&h->st) || rd->ino != h->st.stx_ino ||
	    rd->hollow != un_stx_is_mountpoint(&h->st))
		return false;
	un_tree_lock(fs);
	is = rd->parent == h->dir && strcmp(rd->name, name) == 0;
	un_tree_unlock(fs);
	return is;
}

/* Its place in the stack, as it was if it was in it. */
static struct un_realdir *real_of(struct un_fs *fs, const struct un_dirinfo *d, const char *name,
				  const struct un_hit *h)
{
	struct un_realdir *rd = NULL;

	if (h->name)
		name = h->name;
	for (unsigned i = 0; i < d->n && !rd; i++)
		if (is_at(fs, d->stack[i], h, name))
			rd = un_realdir_ref(d->stack[i]);
	if (!rd)
		rd = un_realdir_new(h->layer, h->dir, name, &h->st);
	rd->opaque = h->opaque;
	rd->xwhiteouts = h->xwhiteouts;
	rd->impure = h->impure;
	return rd;
}

static struct un_realdir **stack_of(struct un_fs *fs, const struct un_dirinfo *d, const char *name,
				    const struct un_found *f)
{
	/* + 1: an upper may come by copy-up. */
	struct un_realdir **stack = g_new(struct un_realdir *, f->n + 1);

	for (unsigned i = 0; i < f->n; i++)
		stack[i] = real_of(fs, d, name, &f->hits[i]);
	if (stack[0]->layer == fs->upper) {
		un_tree_lock(fs);
		g_free(stack[0]->redirect);
		stack[0]->redirect = g_strdup(f->redirect);
		un_tree_unlock(fs);
	}
	return stack;
}

/* What follows from the stack. The number of a directory is that of the topmost lower, if any. */
static void settle_locked(struct un_fs *fs, const struct un_inode *dir, const char *name,
			  const struct un_found *f, struct un_inode *inode) UN_INODE_LOCKED(inode)
{
	inode->dev = inode->d->stack[0]->dev;
	inode->rino = inode->d->stack[0]->ino;
	inode->origin = inode->upper && (f->n > 1 || f->hits[0].origin);
	un_ino_of_dir(fs, dir, name, f, inode);
	if (inode->upper)
		un_ino_own_dir(fs, inode);
}

void un_stack_fill(struct un_fs *fs, struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode *inode)
{
	un_inode_is_ours(inode);
	inode->d->stack = stack_of(fs, inode->d, name, f);
	inode->d->n = f->n;
	if (wants_origin(fs, f))
		give_origin(fs, dir, name, f);
	settle_locked(fs, dir, name, f, inode);
}

static bool is_in(const struct un_realdir *rd, const struct un_found *f)
{
	for (unsigned i = 0; i < f->n; i++) {
		const struct un_hit *h = &f->hits[i];

		if (rd->layer == h->layer && rd->dev == un_stx_dev(&h->st) &&
		    rd->ino == h->st.stx_ino)
			return true;
	}
	return false;
}

bool un_stack_is_akin(struct un_fs *fs, const struct un_inode *inode, const struct un_found *f)
{
	if (inode->type != DT_DIR || !S_ISDIR(f->hits[0].st.stx_mode) || inode->d->dead)
		return false;
	/* What is in the upper is what is changed: another is another. */
	if (inode->upper)
		return f->hits[0].layer == fs->upper && is_in(inode->d->stack[0], f);
	for (unsigned i = 0; i < inode->d->n; i++)
		if (is_in(inode->d->stack[i], f))
			return true;
	return false;
}

static void found_at(struct un_fs *fs, struct un_realdir *rd, const struct un_hit *h,
		     const char *name)
{
	struct un_realdir *was = NULL;

	if (h->name)
		name = h->name;
	un_tree_lock(fs);
	if (rd->parent && (rd->parent != h->dir || strcmp(rd->name, name) != 0))
		was = un_realdir_moved_locked(fs, rd, h->dir, name);
	un_tree_unlock(fs);
	un_realdir_put(fs, was);
}

void un_stack_found(struct un_fs *fs, const char *name, const struct un_found *f,
		    struct un_inode *inode)
{
	un_inode_lock(inode);
	for (unsigned i = 0; i < MIN(f->n, inode->d->n); i++)
		found_at(fs, inode->d->stack[i], &f->hits[i], name);
	un_inode_unlock(inode);
}

/* What was known of it was of the old stack. */
static void forget_locked(struct un_inode *inode, const struct un_found *f) UN_INODE_LOCKED(inode)
{
	inode->xattrs = UN_XATTR_UNKNOWN;
	inode->prot = (uint8_t)un_prot_of_stat(&f->hits[0].st);
	inode->prot_known = !inode->upper;
	inode->d->pure = (struct un_pure){ 0 };
	inode->d->hidden = (struct un_hidden){ 0 };
	atomic_store(&inode->changed, true);
}

/* The real directories that it was made of, and what was known of the names in it; its ns is held for writing. */
static void let_go(struct un_fs *fs, struct un_inode *inode, struct un_realdir **old,
		   unsigned n) UN_NS_WRITE
{
	struct un_dirinfo *d = inode->d;

	d->listing = un_listing_free(d->listing);
	atomic_fetch_add(&d->changed, 1);
	un_live_moved(fs, inode);
	for (unsigned i = 0; i < n; i++) {
		bool stays = false;

		for (unsigned j = 0; j < d->n; j++)
			stays = stays || d->stack[j] == old[i];
		if (!stays)
			un_live_left(fs, inode, old[i]);
		un_realdir_put(fs, old[i]);
	}
	g_free(old);
}

void un_stack_change(struct un_fs *fs, struct un_inode *dir, const char *name,
		     const struct un_found *f, struct un_inode *inode)
{
	struct un_dirinfo *d = inode->d;
	struct un_realdir **stack = stack_of(fs, d, name, f), **old = d->stack;
	unsigned n_old = d->n;

	if (wants_origin(fs, f))
		give_origin(fs, dir, name, f);
	un_inode_lock(inode);
	d->stack = stack;
	d->n = f->n;
	if (f->hits[0].layer == fs->upper)
		inode->upper = true;
	settle_locked(fs, dir, name, f, inode);
	forget_locked(inode, f);
	un_inode_unlock(inode);
	let_go(fs, inode, old, n_old);
}

void un_stack_set_root(struct un_fs *fs, struct un_realdir **stack, unsigned n)
{
	struct un_inode *root = fs->root;
	struct un_dirinfo *d = root->d;
	struct un_realdir **old = d->stack;
	unsigned n_old = d->n;

	un_inode_lock(root);
	/* For redirects, which begin here (merge_root()). */
	un_tree_lock(fs);
	d->stack = stack;
	d->n = n;
	un_tree_unlock(fs);
	root->dev = stack[0]->dev;
	root->rino = stack[0]->ino;
	root->xattrs = UN_XATTR_UNKNOWN;
	atomic_store(&root->changed, true);
	un_inode_unlock(root);
	let_go(fs, root, old, n_old);
}
