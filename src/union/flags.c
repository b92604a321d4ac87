/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chattr(1) flags. Immutable and append-only are kept in a mark: on the real upper file they would
 * keep the daemon itself from what the union allows (fuse-unionfs-format(5), PROTECTED FILES).
 * The others are set on the real file. A lower's flags are shown and respected, and never written to it.
 */
#include "copyup/copyup.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "union/union.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>

#define PROT_FLAGS ((unsigned)(FS_IMMUTABLE_FL | FS_APPEND_FL))
#define PROT_XFLAGS ((unsigned)(FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND))

/* A descriptor on which the ioctls work: a real one, not O_PATH. */
static int open_real(struct un_fs *fs, struct un_inode *inode, struct un_layer **ret_layer)
{
	struct un_at at;
	int r, fd = -1;

	if (inode->type != DT_REG && inode->type != DT_DIR)
		return -ENOTTY;
	un_inode_lock(inode);
	r = un_at_locked(fs, inode, &at);
	if (r == 0) {
		fd = un_at_open(&at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
		*ret_layer = at.layer;
		un_at_done(fs, &at);
	}
	un_inode_unlock(inode);
	return r < 0 ? r : fd;
}

static int real_ioctl(struct un_fs *fs, struct un_inode *inode, unsigned long cmd, void *arg)
{
	struct un_layer *l;
	un_autofd int fd = open_real(fs, inode, &l);

	return fd < 0 ? fd : l->ops->ioctl(l, fd, cmd, arg);
}

static unsigned shown_prot(int p)
{
	return (p & UN_PROT_IMMUTABLE ? FS_IMMUTABLE_FL : 0u) |
	       (p & UN_PROT_APPEND ? FS_APPEND_FL : 0u);
}

int un_getflags(struct un_fs *fs, struct un_inode *inode, unsigned *ret)
{
	int flags = 0, p = un_prot(fs, inode);
	int r = p < 0 ? p : real_ioctl(fs, inode, FS_IOC_GETFLAGS, &flags);

	if (r < 0)
		return r;
	*ret = (unsigned)flags | shown_prot(p);
	return 0;
}

/* The protection that is wanted, and then the rest of the flags by @cmd. */
static int set(struct un_fs *fs, struct un_inode *inode, bool immutable, bool append,
	       unsigned long cmd, void *arg, bool real_change)
{
	unsigned prot = (immutable ? UN_PROT_IMMUTABLE : 0) | (append ? UN_PROT_APPEND : 0);
	int now = un_prot(fs, inode);
	int r;

	if (now < 0)
		return now;
	if (fs->read_only)
		return -EROFS;
	if ((unsigned)now == prot && !real_change)
		return 0;
	r = un_copyup(fs, inode, UN_COPY_META);
	if (r == 0 && real_change)
		r = real_ioctl(fs, inode, cmd, arg);
	if (r == 0 && (unsigned)now != prot)
		r = un_prot_set(fs, inode, prot);
	/* The kernel does not know that the time of change moves with flags. */
	if (fs->stale)
		fs->stale(fs->stale_data, inode->id, UN_STALE_ATTRS);
	return r;
}

int un_setflags(struct un_fs *fs, struct un_inode *inode, unsigned flags)
{
	int real = 0, want = (int)(flags & ~PROT_FLAGS), p = un_prot(fs, inode);
	int r = p < 0 ? p : real_ioctl(fs, inode, FS_IOC_GETFLAGS, &real);
	bool change, same = shown_prot(p) == (flags & PROT_FLAGS);

	if (r < 0)
		return r;
	change = ((unsigned)real & ~PROT_FLAGS) != (unsigned)want;
	/* Those that others gave the real file stay with it, or give way to the mark. */
	if (inode->upper && same)
		want |= (int)((unsigned)real & PROT_FLAGS);
	else if (inode->upper && ((unsigned)real & PROT_FLAGS))
		change = true;
	return set(fs, inode, flags & FS_IMMUTABLE_FL, flags & FS_APPEND_FL, FS_IOC_SETFLAGS, &want,
		   change);
}

int un_getfsx(struct un_fs *fs, struct un_inode *inode, struct fsxattr *ret)
{
	int p = un_prot(fs, inode);
	int r = p < 0 ? p : real_ioctl(fs, inode, FS_IOC_FSGETXATTR, ret);

	if (r < 0)
		return r;
	if (p & UN_PROT_IMMUTABLE)
		ret->fsx_xflags |= FS_XFLAG_IMMUTABLE;
	if (p & UN_PROT_APPEND)
		ret->fsx_xflags |= FS_XFLAG_APPEND;
	return 0;
}

int un_setfsx(struct un_fs *fs, struct un_inode *inode, const struct fsxattr *fsx)
{
	struct fsxattr real, want = *fsx;
	int p = un_prot(fs, inode);
	int r = p < 0 ? p : real_ioctl(fs, inode, FS_IOC_FSGETXATTR, &real);
	unsigned asked = (fsx->fsx_xflags & FS_XFLAG_IMMUTABLE ? FS_IMMUTABLE_FL : 0u) |
			 (fsx->fsx_xflags & FS_XFLAG_APPEND ? FS_APPEND_FL : 0u);

	if (r < 0)
		return r;
	want.fsx_xflags &= ~PROT_XFLAGS;
	/* As above: what stays on the real file is no change, what goes from it is one. */
	if (inode->upper && shown_prot(p) == asked)
		want.fsx_xflags |= real.fsx_xflags & PROT_XFLAGS;
	else if (!inode->upper)
		real.fsx_xflags &= ~PROT_XFLAGS;
	return set(fs, inode, fsx->fsx_xflags & FS_XFLAG_IMMUTABLE,
		   fsx->fsx_xflags & FS_XFLAG_APPEND, FS_IOC_FSSETXATTR, &want,
		   real.fsx_xflags != want.fsx_xflags || real.fsx_projid != want.fsx_projid ||
			   real.fsx_extsize != want.fsx_extsize);
}
