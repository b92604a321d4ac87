/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Directories of the layers. Each knows its parent and its name there, so that its descriptor can be
 * closed when others need the room and opened again, one component at a time, whatever the depth.
 */
#include "object/realdir.h"
#include "layer/layer.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/follow.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/stand-in.h"
#include "util/fd.h"
#include "watch/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define OPEN_TRIES 1000

struct un_realdir *un_realdir_new(struct un_layer *l, struct un_realdir *parent, const char *name,
				  const struct statx *st)
{
	struct un_realdir *rd = g_new0(struct un_realdir, 1);

	un_realdir_is_ours(rd);
	rd->layer = l;
	rd->refs = 1;
	rd->dev = un_stx_dev(st);
	rd->ino =
		parent && !un_layer_numbers_last(l, true) ? un_stand_in(parent, name) : st->stx_ino;
	rd->parent = parent ? un_realdir_ref(parent) : NULL;
	rd->is_root = parent == NULL;
	rd->holds = !parent && un_layer_hold(l);
	rd->name = g_strdup(name);
	rd->hollow = un_stx_is_mountpoint(st);
	return rd;
}

struct un_realdir *un_realdir_ref(struct un_realdir *rd)
{
	atomic_fetch_add(&rd->refs, 1);
	return rd;
}

void un_realdir_put(struct un_fs *fs, struct un_realdir *rd)
{
	/* Not recursive: a tree may be deeper than the stack. */
	while (rd && atomic_fetch_sub(&rd->refs, 1) == 1) {
		struct un_realdir *parent;

		un_realdir_is_ours(rd);
		parent = rd->parent;
		if (rd->is_root && rd->fd)
			g_free(rd->fd); /* a root's: borrowed from the layer */
		else
			un_fdcache_clear(fs->fds, &rd->fd);
		if (rd->holds)
			un_layer_release(rd->layer);
		g_free(rd->name);
		g_free(rd->redirect);
		g_free(rd);
		rd = parent;
	}
}

void un_tree_changes(struct un_fs *fs, struct un_realdir *rd)
{
	if (!rd)
		return;
	un_tree_lock(fs);
	rd->moving++;
	un_tree_unlock(fs);
}

void un_tree_settled_locked(struct un_fs *fs, struct un_realdir *rd)
{
	if (!rd)
		return;
	rd->moving--;
	/* Also if it failed: it may have been away for a moment. */
	atomic_fetch_add(&fs->tree_seq, 1);
	pthread_cond_broadcast(&fs->tree_settled);
}

/*
 * Has any real directory been renamed since @seq? If @rd is being renamed it may have been: wait. What is above it has
 * been reached already, so that where that moves to does not matter.
 */
static bool has_moved_locked(struct un_fs *fs, const struct un_realdir *rd, uint64_t seq)
	UN_TREE_LOCKED(fs)
{
	while (rd->moving && atomic_load(&fs->tree_seq) == seq)
		un_cond_wait(&fs->tree_settled, &fs->tree);
	return atomic_load(&fs->tree_seq) != seq;
}

static bool has_moved(struct un_fs *fs, const struct un_realdir *rd, uint64_t seq)
{
	bool moved;

	un_tree_lock(fs);
	moved = has_moved_locked(fs, rd, seq);
	un_tree_unlock(fs);
	return moved;
}

static int open_checked(struct un_fs *fs, struct un_realdir *rd, int parent, const char *name,
			uint64_t seq)
{
	struct statx st;
	int r;
	un_autofd int fd = un_at_open(UN_AT(rd->layer, parent, name),
				      O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
	r = rd->layer->ops->stat(rd->layer, fd, "", &st);
	if (r < 0)
		return r;
	/* Another number is news about the layer only if this is the place. */
	if (st.stx_ino != rd->ino && has_moved(fs, rd, seq))
		return -ESTALE;
	if (!un_is_same(rd->layer, &st, rd->dev, rd->ino))
		return -ESTALE;
	return un_take_fd(&fd);
}

/*
 * The chain of directories from @rd up to the first that is open (or the root), so that opening again
 * needs no recursion. Each is a reference. @ret_seq: to see whether one was renamed meanwhile.
 */
static GPtrArray *chain_to_open(struct un_fs *fs, struct un_realdir *rd, struct un_fd **ret_fd,
				uint64_t *ret_seq)
{
	GPtrArray *chain = g_ptr_array_new();
	struct un_realdir *at = rd;

	un_tree_lock(fs);
	*ret_seq = atomic_load(&fs->tree_seq);
	for (;;) {
		*ret_fd = at->is_root ? un_fdcache_use(fs->fds, at->fd)
				      : un_fdcache_get(fs->fds, &at->fd, 0);
		if (*ret_fd)
			break;
		g_ptr_array_add(chain, un_realdir_ref(at));
		UN_ASSERT(at->parent);
		at = at->parent;
	}
	un_tree_unlock(fs);
	return chain;
}

/*
 * @fd is @rd from now on. Where its number did not prove it, it is only if nothing was renamed since the
 * chain was read. NULL: something was, and @fd is closed.
 */
static struct un_fd *add_opened(struct un_fs *fs, struct un_realdir *rd, int fd, uint64_t seq)
{
	struct un_fd *ret = NULL, *rest = NULL;

	if (un_layer_numbers_last(rd->layer, true))
		return un_fdcache_add(fs->fds, &rd->fd, rd->layer, fd, 0);
	un_tree_lock(fs);
	if (!has_moved_locked(fs, rd, seq))
		ret = un_fdcache_add_only(fs->fds, &rd->fd, rd->layer, fd, 0, &rest);
	un_tree_unlock(fs);
	un_fdcache_close(fs->fds, rest);
	if (!ret)
		un_close(fd);
	return ret;
}

/* @rd by its name in @parent; *ret_moved: it was not there, and has been renamed since @seq, or another has. */
static int open_next(struct un_fs *fs, struct un_realdir *rd, const struct un_fd *parent,
		     uint64_t seq, struct un_fd **ret, bool *ret_moved)
{
	char name[NAME_MAX + 1];
	int r;

	un_tree_lock(fs);
	g_strlcpy(name, rd->name, sizeof(name));
	un_tree_unlock(fs);
	r = rd->hollow ? -EXDEV : open_checked(fs, rd, parent->fd, name, seq);
	*ret = r < 0 ? NULL : add_opened(fs, rd, r, seq);
	if (*ret)
		return 0;
	if (r >= 0)
		r = -ESTALE;
	*ret_moved = r == -ESTALE && has_moved(fs, rd, seq);
	return r;
}

static int open_chain(struct un_fs *fs, struct un_realdir *rd, struct un_fd **ret, bool *ret_moved)
{
	uint64_t seq;
	struct un_fd *fd, *next;
	GPtrArray *chain = chain_to_open(fs, rd, &fd, &seq);
	int r = 0;

	*ret_moved = false;
	for (unsigned i = chain->len; i-- > 0 && r == 0;) {
		r = open_next(fs, chain->pdata[i], fd, seq, &next, ret_moved);
		un_fdcache_put(fs->fds, fd);
		fd = next;
	}
	for (unsigned i = 0; i < chain->len; i++)
		un_realdir_put(fs, chain->pdata[i]);
	g_ptr_array_free(chain, TRUE);
	*ret = fd;
	return r;
}

struct un_fd *un_realdir_get(struct un_fs *fs, struct un_realdir *rd)
{
	return rd->is_root ? un_fdcache_use(fs->fds, rd->fd) : un_fdcache_get(fs->fds, &rd->fd, 0);
}

int un_realdir_open(struct un_fs *fs, struct un_realdir *rd, struct un_fd **ret)
{
	*ret = un_realdir_get(fs, rd);
	if (*ret)
		return 0;
	for (int i = 0;; i++) {
		bool moved;
		int r = open_chain(fs, rd, ret, &moved);

		/* A rename on the way up or down shows as the wrong directory: look again. */
		if (!moved || i == OPEN_TRIES)
			return r;
	}
}

struct un_realdir *un_realdir_moved_locked(struct un_fs *fs, struct un_realdir *rd,
					   struct un_realdir *parent, const char *name)
{
	struct un_realdir *old = rd->parent;

	g_free(rd->name);
	rd->parent = un_realdir_ref(parent);
	rd->name = g_strdup(name);
	atomic_fetch_add(&fs->tree_seq, 1);
	return old;
}

/* ---- as merge/ asks for them ---------------------------------------------------------------------- */

static int where_open(struct un_fs *fs, struct un_realdir *rd, struct un_where *ret)
{
	struct un_fd *fd;
	int r;

	*ret = (struct un_where){ .layer = rd->layer, .fd = -1, .dir = rd };
	ret->opaque = rd->opaque;
	/* In the upper they may have come since. */
	ret->xwhiteouts = rd->xwhiteouts ||
			  (rd->layer == fs->upper && !fs->read_only && !fs->upper->caps.mknod_whiteout);
	if (rd->hollow)
		return 0;
	r = un_realdir_open(fs, rd, &fd);
	if (r < 0)
		return r;
	ret->fd = fd->fd;
	ret->pin = fd;
	return 0;
}

static struct un_fs *fs_of(const struct un_where *w)
{
	return w->layer->owner;
}

static int merge_open(void *ctx, unsigned pos, struct un_where *ret)
{
	const struct un_view *v = ctx;
	struct un_realdir *rd = v->stack[pos];

	return where_open(rd->layer->owner, rd, ret);
}

static void merge_close(void *ctx, unsigned pos, struct un_where *w)
{
	(void)ctx;
	(void)pos;
	un_fdcache_put(fs_of(w)->fds, w->pin);
}

/*
 * A directory that a redirect from @dir leads by: watched before it is looked into, under a key of its own, since it
 * is none of @dir's (follow.c).
 */
static void watch_followed(struct un_fs *fs, struct un_inode *dir, const struct un_where *w)
{
	if (!fs->live || w->fd < 0)
		return;
	if (!fs->watch || w->layer->remote || un_watch_add(fs->watch, w->fd, UN_FOLLOWED) < 0)
		atomic_store(&dir->d->blind, true);
}

static int merge_root(void *ctx, unsigned above, struct un_where *ret)
{
	const struct un_view *v = ctx;
	struct un_fs *fs = v->stack[0]->layer->owner;
	struct un_realdir *rd = NULL;
	int r;

	/* The root's stack changes under this lock, too (un_stack_set_root()). */
	un_tree_lock(fs);
	for (unsigned i = 0; i < fs->root->d->n && !rd; i++)
		if (fs->root->d->stack[i]->layer->index > above)
			rd = un_realdir_ref(fs->root->d->stack[i]);
	un_tree_unlock(fs);
	if (!rd)
		return -ENOENT;
	r = where_open(fs, rd, ret);
	if (r < 0)
		un_realdir_put(fs, rd);
	else
		watch_followed(fs, v->dir, ret);
	return r;
}

static int merge_enter(void *ctx, const struct un_where *w, const char *name,
		       const struct statx *st, struct un_where *ret)
{
	const struct un_view *v = ctx;
	struct un_realdir *rd = un_realdir_new(w->layer, w->dir, name, st);
	int r = where_open(fs_of(w), rd, ret);

	if (r < 0)
		un_realdir_put(fs_of(w), rd);
	else
		watch_followed(fs_of(w), v->dir, ret);
	return r;
}

static void merge_leave(void *ctx, struct un_where *w)
{
	(void)ctx;
	un_fdcache_put(fs_of(w)->fds, w->pin);
	un_realdir_put(fs_of(w), w->dir);
}

static void *merge_ref(void *dir)
{
	return un_realdir_ref(dir);
}

static void merge_unref(void *ctx, void *dir)
{
	struct un_realdir *rd = dir;

	(void)ctx;
	un_realdir_put(rd->layer->owner, rd);
}

void un_dir_merge(struct un_fs *fs, struct un_inode *dir, struct un_view *v,
		  struct un_merge_dir *ret)
{
	v->dir = dir;
	v->stack = dir->d->stack;
	v->n = dir->d->n;
	v->writes = dir->d->writes;
	*ret = (struct un_merge_dir){
		.n = v->n,
		.lowest = atomic_load(&fs->layers->lowest),
		.follow = fs->redirect_follow,
		.metacopy = fs->metacopy_follow,
		.data_only = fs->layers->n_data > 0,
		.open = merge_open,
		.close = merge_close,
		.root = merge_root,
		.enter = merge_enter,
		.leave = merge_leave,
		.ref = merge_ref,
		.unref = merge_unref,
		.ctx = v,
	};
}

void un_dir_merge_apart(struct un_fs *fs, struct un_inode *dir, struct un_view *v,
			struct un_merge_dir *ret)
{
	struct un_realdir **own;

	un_dir_merge(fs, dir, v, ret);
	own = v->stack;
	v->stack = v->n > G_N_ELEMENTS(v->few) ? g_new(struct un_realdir *, v->n) : v->few;
	for (unsigned i = 0; i < v->n; i++)
		v->stack[i] = un_realdir_ref(own[i]);
}

bool un_view_done(struct un_fs *fs, struct un_view *v, bool taken)
{
	for (unsigned i = 0; i < v->n; i++)
		un_realdir_put(fs, v->stack[i]);
	if (v->stack != v->few)
		g_free(v->stack);
	return v->dir->d->writes == v->writes + (taken ? 1 : 0);
}

bool un_dir_is_mountpoint(struct un_inode *dir, bool top)
{
	bool is = false;

	un_inode_lock(dir);
	for (unsigned i = 0; i < (top ? MIN(dir->d->n, 1) : dir->d->n); i++)
		is = is || dir->d->stack[i]->hollow;
	un_inode_unlock(dir);
	return is;
}

struct un_realdir *un_dir_upper(struct un_fs *fs, const struct un_inode *dir)
{
	if (dir->d->n == 0 || dir->d->stack[0]->layer != fs->upper)
		return NULL;
	return dir->d->stack[0];
}

int un_realdir_is_empty(const struct un_realdir *rd, int fd)
{
	struct un_layer *l = rd->layer;
	char buf[512] __attribute__((aligned(8)));
	un_autofd int own =
		l->ops->open(l, fd, "", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC, 0);
	ssize_t n = own;

	while (own >= 0 && (n = l->ops->getdents(l, own, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *de = (const void *)(buf + at);

			at += de->d_reclen;
			if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
				return -ENOTEMPTY;
		}
	return (int)n;
}
