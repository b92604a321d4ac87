/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Passthrough: the kernel reads, writes and maps a layer's file itself for who has one of ours open. It takes one
 * file for an inode, for as long as that is open so. Hence only what cannot move: a file whose data is in the
 * upper, or any file of a union that is never written. What is here decides that; who has what open so is counted
 * by who answers (ops/pass.c).
 */
#include "layer/layer.h"
#include "object/attr.h"
#include "object/fdcache.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/prot.h"
#include "object/writeback.h"
#include "union/union.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>

static bool is_writer(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* Is its data where it will be to the end? Asked under the lock, under which a copy-up lets it go there. */
static bool stays(struct un_fs *fs, struct un_inode *inode)
{
	bool yes;

	un_inode_lock(inode);
	yes = inode->type == DT_REG && !inode->covered &&
	      (fs->read_only || (inode->upper && !inode->data && !inode->metacopy));
	un_inode_unlock(inode);
	return yes;
}

/* The kernel opens it without O_NOATIME: the layer's mount has to see to that. */
static bool keeps_atime(const struct un_layer *l)
{
	return l->clone >= 0 || (l->index == 0 && !l->noatime_by_open);
}

/* The file with the data of a metacopy file is as long as that says: nobody else cuts it. */
static bool has_length(struct un_fs *fs, struct un_inode *inode, const struct un_fd *f)
{
	struct statx shown, real;

	return !atomic_load(&inode->metacopy) ||
	       (un_getattr(fs, inode, &shown) == 0 &&
		f->layer->ops->stat(f->layer, f->fd, "", &real) == 0 &&
		shown.stx_size == real.stx_size);
}

/* Where that is refused, the kernel would say EIO. */
static int try_direct(const struct un_fd *f)
{
	int fd = f->layer->ops->open(f->layer, f->fd, "",
				     O_RDONLY | O_DIRECT | O_NONBLOCK | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	un_close(fd);
	return 0;
}

static int get_for_write(struct un_fs *fs, struct un_inode *inode, int flags, struct un_fd **ret)
{
	int p, r;

	if (fs->read_only)
		return -EROFS;
	p = un_prot(fs, inode);
	if (p < 0)
		return p;
	if ((p & UN_PROT_IMMUTABLE) || ((p & UN_PROT_APPEND) && !(flags & O_APPEND)))
		return -EPERM;
	r = un_file_get(fs, inode, UN_FD_WRITE, ret);
	if (r == 0 && (*ret)->append && !(flags & O_APPEND))
		r = un_file_get_anew(fs, inode, ret);
	if (r == 0 && (*ret)->append && !(flags & O_APPEND)) {
		un_fdcache_put(fs->fds, *ret);
		r = -EPERM;
	}
	return r;
}

int un_pass(struct un_fs *fs, struct un_inode *inode, int flags, int (*fn)(void *data, int fd),
	    void *data)
{
	struct un_fd *f;
	int r;

	if (!stays(fs, inode))
		return -EOPNOTSUPP;
	/* What was told of failed writes holds until all is written anew, which has to be seen. */
	if (fn && is_writer(flags) && un_writeback_has_failed(fs, inode))
		return -EOPNOTSUPP;
	r = is_writer(flags) ? get_for_write(fs, inode, flags, &f)
			     : un_file_get_data(fs, inode, &f);
	if (r < 0)
		return r;
	if (!keeps_atime(f->layer) || !has_length(fs, inode, f))
		r = -EOPNOTSUPP;
	if (r == 0 && (flags & O_DIRECT))
		r = try_direct(f);
	if (r == 0 && fn)
		r = fn(data, f->fd);
	un_fdcache_put(fs->fds, f);
	return r;
}

bool un_pass_opened(struct un_fs *fs, struct un_inode *inode, int flags)
{
	atomic_store(&inode->passed, true);
	/* The kernel will ask for the time of access. */
	un_inode_told(inode, false);
	if (!is_writer(flags))
		return false;
	atomic_fetch_add(&fs->pass_writers, 1);
	if (atomic_fetch_add(&inode->pass_writers, 1) == 0)
		atomic_store(&inode->pass_missed, false);
	/* The time of a write by way of a mapping is never told: the kernel is to ask, from now on. */
	return (flags & O_ACCMODE) == O_RDWR && !atomic_exchange(&inode->pass_mapped, true);
}

void un_pass_closed(struct un_fs *fs, struct un_inode *inode)
{
	atomic_fetch_sub(&fs->pass_writers, 1);
	atomic_fetch_sub(&inode->pass_writers, 1);
}

bool un_pass_was(const struct un_inode *inode)
{
	return atomic_load(&inode->passed);
}

bool un_pass_is_unheard(const struct un_inode *inode)
{
	return atomic_load(&inode->pass_mapped) ||
	       (atomic_load(&inode->pass_writers) > 0 && atomic_load(&inode->pass_missed));
}
