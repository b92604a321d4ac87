/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A descriptor of a file's data, on the layer that has it; the mode is lifted if it keeps the
 * daemon out.
 */
#include "object/open.h"
#include "layer/layer.h"
#include "object/data.h"
#include "object/fdcache.h"
#include "object/lock.h"
#include "object/lookup.h"
#include "object/object.h"
#include "object/place.h"
#include "object/realdir.h"
#include "object/same.h"
#include "object/stage.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int open_flags(unsigned flags)
{
	int append = flags & UN_FD_APPEND ? O_APPEND : 0;

	if (!(flags & UN_FD_WRITE))
		return O_RDONLY;
	return append | (flags & UN_FD_READ ? O_RDWR : O_WRONLY);
}

static int open_at(const struct un_at *at, unsigned flags)
{
	/* O_NONBLOCK: should it be a fifo by now, nobody waits for it. */
	int how = open_flags(flags) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
	int fd = -EPERM;

	/* A lower's times are left alone where that is allowed: owner or root. */
	if (at->layer->index > 0 && at->layer->clone < 0 && *at->name)
		fd = un_at_open(at, how | O_NOATIME, 0);
	if (fd == -EPERM)
		fd = un_at_open(at, how, 0);
	return fd;
}

struct lifted_open {
	struct un_at *at;
	unsigned flags;
};

static int open_lifted(void *data)
{
	struct lifted_open *o = data;

	return open_at(o->at, o->flags);
}

/*
 * Write access: for both if possible, since reads follow; a file that may only be written, as that;
 * one whose mode keeps its owner out, with the mode lifted (its descriptor was closed for want of
 * room, src/transport/README.md, Opening and closing).
 */
static int open_real(struct un_fs *fs, struct un_inode *inode, struct un_at *at, unsigned *flags)
{
	struct lifted_open o = { at, *flags };
	int fd;

	if (*flags & UN_FD_WRITE)
		o.flags |= UN_FD_READ;
	fd = open_at(at, o.flags);
	if (fd == -EACCES && o.flags != *flags) {
		fd = open_at(at, *flags);
		if (fd >= 0)
			return fd;
	}
	/* `chattr +a` on the real file, which others set. */
	if (fd == -EPERM && (*flags & UN_FD_WRITE) && inode->upper) {
		o.flags |= UN_FD_APPEND;
		fd = open_at(at, o.flags);
	}
	if (fd == -EACCES && inode->upper) {
		fd = un_lifted(fs, at->dirfd, at->name, open_lifted, &o);
		if (fd == -EACCES && *at->name)
			fd = un_lifted(fs, at->dirfd, "", open_lifted, &o);
		if (fd >= 0)
			*flags = o.flags | UN_FD_PIN;
		return fd;
	}
	*flags = o.flags;
	return fd;
}

/* Opened as *flags say, which say then how it could be opened. */
static int open_checked(struct un_fs *fs, struct un_inode *inode, unsigned *flags,
			struct un_layer **ret_layer) UN_INODE_LOCKED(inode)
{
	struct un_layer *l;
	struct un_at at;
	struct statx st;
	int r = un_at_locked(fs, inode, &at);
	un_autofd int fd = -1;

	if (r < 0)
		return r;
	UN_ASSERT(!(*flags & UN_FD_WRITE) || inode->upper);
	*ret_layer = l = at.layer;
	fd = open_real(fs, inode, &at, flags);
	r = fd < 0 ? fd : l->ops->stat(l, fd, "", &st);
	/* Who may not open what is there now: is it the file? */
	if (fd == -EACCES && l->ops->stat(l, at.dirfd, at.name, &st) == 0 &&
	    !un_is_it(l, inode, &st))
		r = -ESTALE;
	un_at_done(fs, &at);
	/* ENXIO: a device or a socket, a whiteout for instance, has come to the name of the file. */
	if (r == -ENOENT || r == -ELOOP || r == -ENXIO)
		return -ESTALE;
	if (r < 0)
		return r;
	if (!un_is_it(l, inode, &st))
		return -ESTALE;
	return un_take_fd(&fd);
}

int un_file_open(struct un_fs *fs, struct un_inode *inode, unsigned flags)
{
	struct un_layer *l;

	return open_checked(fs, inode, &flags, &l);
}

static int open_locked(struct un_fs *fs, struct un_inode *inode, unsigned flags, struct un_fd **ret)
	UN_INODE_LOCKED(inode)
{
	bool write = flags & UN_FD_WRITE;
	struct un_layer *l;
	int fd;

	if (inode->data && write)
		return -EIO; /* before its data is here: no caller does that */
	if (inode->data)
		return un_data_get_locked(fs, inode, ret);
	fd = open_checked(fs, inode, &flags, &l);
	if (fd < 0)
		return fd;
	/* Without a name this is now the way to the file. */
	if (!inode->rdir)
		flags |= UN_FD_PIN;
	*ret = un_fdcache_add(fs->fds, &inode->io, l, fd, flags | (write ? UN_FD_DIRTY : 0));
	return 0;
}

int un_file_get(struct un_fs *fs, struct un_inode *inode, unsigned flags, struct un_fd **ret)
{
	int r = 0;

	if (inode->type != DT_REG)
		return inode->type == DT_DIR ? -EISDIR : -EINVAL;
	*ret = un_fdcache_get(fs->fds, &inode->io, flags);
	if (*ret)
		return 0;
	un_inode_lock(inode);
	*ret = un_fdcache_get(fs->fds, &inode->io, flags);
	if (!*ret)
		r = open_locked(fs, inode, flags, ret);
	un_inode_unlock(inode);
	return r;
}

int un_file_get_anew(struct un_fs *fs, struct un_inode *inode, struct un_fd **f)
{
	int r;

	un_inode_lock(inode);
	r = inode->rdir ? 0 : -EPERM;
	if (r == 0)
		un_fdcache_clear(fs->fds, &inode->io);
	un_inode_unlock(inode);
	un_fdcache_put(fs->fds, *f);
	return r < 0 ? r : un_file_get(fs, inode, UN_FD_WRITE, f);
}

int un_file_get_data(struct un_fs *fs, struct un_inode *inode, struct un_fd **ret)
{
	int r = un_lookup_data(fs, inode);

	if (r == 0)
		r = un_file_get(fs, inode, UN_FD_READ, ret);
	if (r != -ESTALE || !atomic_load(&inode->metacopy))
		return r;
	r = un_lookup_data(fs, inode);
	return r < 0 ? r : un_file_get(fs, inode, UN_FD_READ, ret);
}
