/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ioctls behind chattr(1) and project ids, and that of `fuse-unionfs ctl`; any other is ENOTTY, at once: every terminal test asks. */
#include "ctl_i.h"
#include "ops_i.h"
#include "reply_i.h"

#include <errno.h>
#include <glib.h>
#include <linux/fs.h>
#include <string.h>

static void getflags(fuse_req_t req, struct un_fs *fs, struct un_inode *inode, size_t out_size)
{
	unsigned flags = 0;
	long wide;
	int r = un_getflags(fs, inode, &flags);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	/* "long" in the number of the ioctl, 32 bits in what is really moved. */
	wide = (long)flags;
	fuse_reply_ioctl(req, 0, out_size >= sizeof(wide) ? (const void *)&wide : &flags,
			 MIN(out_size, sizeof(wide)));
}

static void setflags(fuse_req_t req, struct un_fs *fs, struct un_inode *inode, const void *in,
		     size_t in_size)
{
	unsigned flags;
	int r = -EINVAL;

	if (in_size >= sizeof(flags)) {
		memcpy(&flags, in, sizeof(flags));
		r = un_setflags(fs, inode, flags);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}

static void getfsx(fuse_req_t req, struct un_fs *fs, struct un_inode *inode, size_t out_size)
{
	struct fsxattr fsx = { 0 };
	int r = out_size < sizeof(fsx) ? -EINVAL : un_getfsx(fs, inode, &fsx);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_ioctl(req, 0, &fsx, sizeof(fsx));
}

static void setfsx(fuse_req_t req, struct un_fs *fs, struct un_inode *inode, const void *in,
		   size_t in_size)
{
	struct fsxattr fsx;
	int r = -EINVAL;

	if (in_size >= sizeof(fsx)) {
		memcpy(&fsx, in, sizeof(fsx));
		r = un_setfsx(fs, inode, &fsx);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}

void un_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
		 unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *inode;

	(void)arg;
	(void)fi;
	if (cmd == (unsigned)UN_CTL_IOCTL && !(flags & FUSE_IOCTL_UNRESTRICTED)) {
		un_op_ctl(req, ino, in, in_size);
		return;
	}
	if ((flags & FUSE_IOCTL_UNRESTRICTED) ||
	    (cmd != (unsigned)FS_IOC_GETFLAGS && cmd != (unsigned)FS_IOC_SETFLAGS &&
	     cmd != (unsigned)FS_IOC_FSGETXATTR && cmd != (unsigned)FS_IOC_FSSETXATTR)) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	inode = un_node(req, ino);
	if (!inode)
		return;
	switch (cmd) {
	case (unsigned)FS_IOC_GETFLAGS:
		getflags(req, fs, inode, out_size);
		break;
	case (unsigned)FS_IOC_SETFLAGS:
		setflags(req, fs, inode, in, in_size);
		break;
	case (unsigned)FS_IOC_FSGETXATTR:
		getfsx(req, fs, inode, out_size);
		break;
	default:
		setfsx(req, fs, inode, in, in_size);
	}
	un_inode_put(fs, inode);
}
