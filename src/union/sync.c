/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsync and fdatasync. A user who writes to an existing file does not know that it is copied up. So
 * what makes the copy visible (its name, those of its parents, the mark that is taken off) has to
 * be on disk with the data, though fdatasync would leave it to the next commit.
 */
#include "layer/layer.h"
#include "object/fdcache.h"
#include "object/index.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/published.h"
#include "object/realdir.h"
#include "object/writeback.h"
#include "union/union.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int fsync_realdir(struct un_fs *fs, struct un_fd *f, bool data_only)
{
	int fd = un_at_open(UN_AT(fs->upper, f->fd, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), r;

	if (fd < 0)
		return fd;
	r = fs->upper->ops->fsync(fs->upper, fd, data_only);
	un_close(fd);
	return r;
}

static int fsync_dir(struct un_fs *fs, struct un_inode *dir, bool data_only)
{
	struct un_realdir *rd;
	struct un_fd *f;
	int r;

	un_ns_read(dir);
	rd = un_dir_upper(fs, dir);
	r = !rd || dir->d->dead ? 1 : un_realdir_open(fs, rd, &f);
	un_ns_unlock(dir);
	if (r != 0)
		return r < 0 ? r : 0;
	r = fsync_realdir(fs, f, data_only);
	un_fdcache_put(fs->fds, f);
	return r;
}

/* A metacopy file: only its attributes are in the upper. */
static int fsync_metacopy(struct un_fs *fs, struct un_inode *inode, bool data_only)
{
	int fd, r;

	un_inode_lock(inode);
	fd = un_file_open(fs, inode, UN_FD_READ);
	un_inode_unlock(inode);
	if (fd < 0)
		return fd;
	r = fs->upper->ops->fsync(fs->upper, fd, data_only);
	un_close(fd);
	return r;
}

static int fsync_file(struct un_fs *fs, struct un_inode *inode, bool data_only)
{
	struct un_fd *f;
	unsigned before;
	int r;

	if (inode->metacopy)
		return fsync_metacopy(fs, inode, data_only);
	r = un_file_get(fs, inode, UN_FD_READ, &f);
	if (r == -EACCES)
		r = un_file_get(fs, inode, UN_FD_WRITE, &f);
	if (r < 0)
		return r;
	before = un_fdcache_sync_begin(fs->fds, f);
	r = fs->upper->ops->fsync(fs->upper, f->fd, data_only);
	if (r < 0)
		un_writeback_failed(fs, f->fd, r);
	else
		un_fdcache_synced(fs->fds, f, before);
	if (r == 0)
		r = un_writeback_ok(fs, inode, f->fd);
	un_fdcache_put(fs->fds, f);
	return r;
}

/* The directories that have a name of @inode, each with a reference. */
static void add_dirs(struct un_inode *inode, GPtrArray *to)
{
	un_inode_lock(inode);
	for (struct un_name *n = inode->names; n; n = n->next)
		if (!g_ptr_array_find(to, n->dir, NULL))
			g_ptr_array_add(to, un_inode_ref(n->dir));
	un_inode_unlock(inode);
}

/*
 * What leads to it, up to where that was in the upper before. Most file systems have committed it with the
 * file, and this is but a question then. A directory that a plain user's daemon cannot open has to do
 * without.
 */
static int commit_names(struct un_fs *fs, struct un_inode *inode)
{
	GPtrArray *dirs = g_ptr_array_new();
	struct un_fd *f;
	int r = 0;

	if (un_index_has(inode) && un_realdir_open(fs, fs->indexdir, &f) == 0) {
		r = fsync_realdir(fs, f, false);
		un_fdcache_put(fs->fds, f);
	}
	add_dirs(inode, dirs);
	for (unsigned i = 0; i < dirs->len; i++) {
		struct un_inode *dir = dirs->pdata[i];

		if (r == 0 || r == -EACCES)
			r = fsync_dir(fs, dir, false);
		if (un_names_are_new(dir))
			add_dirs(dir, dirs);
	}
	for (unsigned i = 0; i < dirs->len; i++)
		un_inode_put(fs, dirs->pdata[i]);
	g_ptr_array_free(dirs, TRUE);
	return r == -EACCES ? 0 : r;
}

int un_fsync(struct un_fs *fs, struct un_inode *inode, bool data_only)
{
	unsigned published = inode->published;
	int r;

	/* A lower file has nothing of ours to be written. */
	if (inode->type != DT_DIR && !inode->upper)
		return 0;
	if (published != inode->committed)
		data_only = false;
	r = inode->type == DT_DIR ? fsync_dir(fs, inode, data_only)
				  : fsync_file(fs, inode, data_only);
	if (r == 0 && un_names_are_new(inode))
		r = commit_names(fs, inode);
	if (r == 0)
		inode->committed = published;
	return r;
}
