/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that begin with `.wh.`, which are marks in the tar form of layers and ordinary names to whoever
 * uses the mount: an engine that runs inside it, for instance. A regular file made, linked or moved to
 * such a name is told from a mark by a mark of its own, before it can be seen.
 */
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/realdir.h"
#include "object/stage.h"
#include "object/tar.h"
#include "util/err.h"

#include <errno.h>
#include <string.h>

bool un_name_ordinary(struct un_fs *fs, const char *name)
{
	return !fs->upper->tar_names && un_merge_tar_name(name);
}

bool un_kind_ordinary(struct un_fs *fs, uint8_t type)
{
	return type == DT_REG || (fs->override && type != DT_DIR && type != DT_LNK);
}

int un_mark_ordinary(struct un_fs *fs, int dirfd, const char *name)
{
	return un_mark_lifted(fs, dirfd, name, UN_MARK_ORDINARY, "y", 1);
}

int un_mark_ordinary_locked(struct un_fs *fs, struct un_inode *inode)
{
	struct un_at at;
	int r;

	if (!un_kind_ordinary(fs, inode->type))
		return 0;
	r = un_at_locked(fs, inode, &at);
	if (r < 0)
		return r;
	r = un_mark_ordinary(fs, at.dirfd, at.name);
	un_at_done(fs, &at);
	return r;
}

int un_mark_emptied_locked(struct un_fs *fs, struct un_inode *inode)
{
	for (const struct un_name *n = inode->names; n; n = n->next)
		if (!n->gone && un_name_ordinary(fs, n->name))
			return un_mark_ordinary_locked(fs, inode);
	return 0;
}

/* Hide by a mark that needs no name of its own what `.wh.NAME` hides. */
static int hide_below(struct un_fs *fs, struct un_inode *dir, int dirfd, const char *wh) UN_NS_READ
{
	const char *name = wh + strlen(".wh.");
	struct un_realdir *updir = un_dir_upper(fs, dir);
	struct un_merge_dir md;
	struct un_view v;
	unsigned marks;
	struct statx st;
	int r;

	if (strcmp(wh, ".wh..wh..opq") == 0) {
		r = updir->is_root ? 0 : un_mark_dir(fs, dirfd, "", UN_MARK_OPAQUE, "y");
		if (r == 0)
			updir->opaque = true;
		return r;
	}
	if (g_str_has_prefix(wh, ".wh..wh.") || !*name)
		return 0;
	r = fs->upper->ops->stat(fs->upper, dirfd, name, &st);
	if (r == 0 && S_ISDIR(st.stx_mode)) {
		r = un_marks_scan(UN_AT(fs->upper, dirfd, name), &marks);
		/* One that was moved here does not show what is below this name. */
		return r < 0 || (marks & UN_HAS(UN_MARK_REDIRECT))
			       ? r
			       : un_mark_dir(fs, dirfd, name, UN_MARK_OPAQUE, "y");
	}
	if (r != -ENOENT)
		return r;
	un_dir_merge(fs, dir, &v, &md);
	r = un_merge_lower_positive(&md, name, true);
	return r <= 0 ? r : un_whiteout_link(fs->whiteouts, dirfd, name);
}

static int settle(struct un_fs *fs, struct un_inode *dir, int dirfd, const char *name) UN_NS_WRITE
{
	const struct un_where w = { .layer = fs->upper, .fd = dirfd };
	struct statx st, parent;
	int r = fs->upper->ops->stat(fs->upper, dirfd, name, &st);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = un_merge_tar_mark(&w, name, &st);
	if (r <= 0)
		return r;
	r = fs->upper->ops->stat(fs->upper, dirfd, "", &parent);
	if (r < 0)
		return r;
	r = hide_below(fs, dir, dirfd, name);
	if (r == 0)
		r = un_whiteout_place(fs->whiteouts, dirfd, name);
	/* Nothing is seen of it. */
	un_ignore(un_stage_times(fs, dirfd, "", &parent));
	/* It is known differently now which names have something below. */
	dir->d->listing = un_listing_free(dir->d->listing);
	return r;
}

int un_name_settle(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	struct un_fd *fd;
	int r;

	if (fs->upper->fresh || !un_name_ordinary(fs, name) || dir->d->dead)
		return 0;
	r = un_realdir_open(fs, un_dir_upper(fs, dir), &fd);
	if (r < 0)
		return r;
	r = settle(fs, dir, fd->fd, name);
	un_fdcache_put(fs->fds, fd);
	return r;
}
