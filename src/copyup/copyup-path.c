/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parents come first, from the top down, each published by itself. Staging holds no lock but the inode's
 * `copying` flag: readers go on with the lower object, other writers of the same inode wait.
 */
#include "copyup-fill_i.h"
#include "copyup_i.h"

#include "copyup/copyup-path.h"
#include "copyup/copyup.h"
#include "layer/layer.h"
#include "object/fdcache.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "util/cancel.h"
#include "util/fd.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>

static bool is_done(struct un_inode *inode, off_t size)
{
	return inode->upper && (size == UN_COPY_META || !inode->metacopy);
}

/* How often somebody who waits looks whether it is still wanted, in milliseconds. */
#define LOOK 50

/*
 * While another thread copies @inode. -EINTR: un_cancelled(). Who gives a copy up has left nothing, and one of
 * those who wait begins anew: nobody fails because another caller is gone.
 */
static int wait_for_copy_locked(struct un_fs *fs, struct un_inode *inode)
	UN_REQUIRES(fs->copying, un_copying_role)
{
	while (inode->copying) {
		bool gone;

		un_copying_unlock(fs);
		gone = un_cancelled();
		un_copying_lock(fs);
		if (gone)
			return -EINTR;
		if (inode->copying)
			un_cond_wait_ms(&fs->copied, &fs->copying, LOOK);
	}
	return 0;
}

/* 1: the copy-up is ours to do, until end(); 0: another thread has done it; or -EINTR. */
static int begin(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	int r;

	un_copying_lock(fs);
	r = wait_for_copy_locked(fs, inode);
	if (r == 0 && !is_done(inode, size)) {
		inode->copying = true;
		r = 1;
	}
	un_copying_unlock(fs);
	return r;
}

static void end(struct un_fs *fs, struct un_inode *inode)
{
	un_copying_lock(fs);
	inode->copying = false;
	pthread_cond_broadcast(&fs->copied);
	un_copying_unlock(fs);
}

/*
 * The data was left in a lower that is being removed (union/lowers.c): who looks for such files afterwards sees this one,
 * or has marked the lower before.
 */
static int data_stays(struct un_copyup_ctx *c)
{
	struct un_inode *inode = c->inode;
	struct un_fill fill = { .dst = -1 };
	bool goes;
	int r;

	if (!c->meta)
		return 0;
	un_inode_lock(inode);
	goes = inode->data && inode->data->layer && atomic_load(&inode->data->layer->gone);
	un_inode_unlock(inode);
	if (!goes)
		return 0;
	/* It is in the upper already, and its data is nowhere else soon: whoever asked for it. */
	un_cancel_hold();
	r = un_data_fill(c->fs, inode, UN_COPY_ALL, &fill);
	un_cancel_release();
	if (r == -EINTR)
		un_data_unfill(c->fs, inode, &fill);
	return r;
}

/* A copy that nobody waits for any more. */
struct abandoned {
	struct un_fs *fs;
	struct un_inode *inode; /* a reference */
	int tmp;
	struct un_fill fill;
};

static void end_abandoned(void *data)
{
	struct abandoned *a = data;

	un_close(a->tmp);
	un_data_unfill(a->fs, a->inode, &a->fill);
	end(a->fs, a->inode);
	un_inode_put(a->fs, a->inode);
	g_free(a);
}

/* Whoever copies the object next waits until there is room again; the caller that is gone does not. */
static void abandon(struct un_copyup_ctx *c, const struct un_fill *fill)
{
	struct abandoned *a = g_new0(struct abandoned, 1);

	*a = (struct abandoned){ c->fs, un_inode_ref(c->inode), c->tmp, *fill };
	c->tmp = -1;
	un_cancel_later(end_abandoned, a);
}

static int copyup_one(struct un_copyup_ctx *c)
{
	struct un_fs *fs = c->fs;
	struct un_inode *inode = c->inode;
	struct un_fill fill = { .dst = -1 };
	int r = begin(fs, inode, c->size);

	if (r <= 0)
		return r;
	r = inode->upper ? un_data_fill(fs, inode, c->size, &fill) : un_copyup_run(c);
	if (r == -EINTR) {
		abandon(c, &fill);
		return r;
	}
	if (r == 0)
		r = data_stays(c);
	if (r == 0)
		atomic_fetch_add(&fs->copyups, 1);
	end(fs, inode);
	/*
	 * A directory's link count; number and count of a broken hard link. Of other files only the time
	 * of change has moved, and whoever made the change that led here asks for it again.
	 */
	if (r == 0 && fs->stale && (inode->type == DT_DIR || !c->origin))
		fs->stale(fs->stale_data, inode->id, UN_STALE_ATTRS);
	return r == 0 && c->size >= 0 ? 1 : r;
}

/* Attributes of a file whose data is being copied are set when that is done, which sets them too. */
static int wait_for(struct un_fs *fs, struct un_inode *inode)
{
	int r;

	un_copying_lock(fs);
	r = wait_for_copy_locked(fs, inode);
	un_copying_unlock(fs);
	return r;
}

/* The directory that leads to @at's ancestors: a reference, or NULL. */
static struct un_inode *parent_of(struct un_inode *at)
{
	char name[NAME_MAX + 1];
	struct un_inode *dir = NULL;

	return un_name_any(at, &dir, name) ? dir : NULL;
}

/* Of a metacopy file, before it is copied: it may be elsewhere by now. */
static int find_data(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	struct un_fd *f;
	int r;

	if (!atomic_load(&inode->metacopy) || size == UN_COPY_META || size == 0)
		return 0;
	r = un_file_get_data(fs, inode, &f);
	if (r == 0)
		un_fdcache_put(fs->fds, f);
	return r == -ENOENT ? -EIO : r;
}

int un_copyup_path(struct un_fs *fs, struct un_inode *inode, off_t size, struct un_inode *hint_dir,
		   const char *hint, bool *ret_indexed)
{
	GPtrArray *todo;
	int r = 0;

	if (fs->read_only)
		return -EROFS;
	if (is_done(inode, UN_COPY_ALL))
		return 0;
	if (is_done(inode, size))
		return wait_for(fs, inode);
	/* Nobody knows what a directory made in its place would hide, or show. */
	if (inode->type == DT_DIR && un_dir_is_mountpoint(inode, true))
		return -EXDEV;
	r = find_data(fs, inode, size);
	if (r < 0)
		return r;
	/* The object and its ancestors that are not in the upper, the topmost last. */
	todo = g_ptr_array_new();
	for (struct un_inode *at = un_inode_ref(inode); at;) {
		if (at->upper && at != inode) {
			un_inode_put(fs, at);
			break;
		}
		g_ptr_array_add(todo, at);
		if (at->upper)
			break;
		at = at == inode && hint ? un_inode_ref(hint_dir) : parent_of(at);
	}
	for (unsigned i = todo->len; i-- > 0;) {
		struct un_copyup_ctx c = { .fs = fs, .inode = todo->pdata[i], .tmp = -1 };

		c.size = c.inode == inode ? size : UN_COPY_ALL;
		c.hint_dir = c.inode == inode ? hint_dir : NULL;
		c.hint = c.inode == inode ? hint : NULL;
		if (r == 0)
			r = copyup_one(&c);
		if (c.inode == inode)
			*ret_indexed = c.index;
		un_inode_put(fs, c.inode);
	}
	g_ptr_array_free(todo, TRUE);
	return r;
}

int un_dir_prepare(struct un_fs *fs, struct un_inode *dir, bool remove)
{
	bool indexed;
	int r;

	if (fs->read_only)
		return -EROFS;
	if (dir->type != DT_DIR)
		return -ENOTDIR;
	r = un_prot_dir(fs, dir, remove);
	if (r < 0)
		return r;
	return un_copyup_path(fs, dir, UN_COPY_ALL, NULL, NULL, &indexed);
}
