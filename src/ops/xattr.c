/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops_i.h"

#include <linux/limits.h>

#define SETXATTR_ACL_KILL_SGID (1u << 0)

/* noxattrs: the kernel is told once and never asks. */
static bool refused(fuse_req_t req)
{
	if (!un_ops_of(req)->config.noxattrs)
		return false;
	fuse_reply_err(req, ENOSYS);
	return true;
}

/* Both questions of these two: how long is it, and what is it. */
static void reply(fuse_req_t req, ssize_t n, const void *buf, size_t size)
{
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

void un_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *inode;
	void *buf = NULL;
	ssize_t n;

	if (refused(req))
		return;
	inode = un_node(req, ino);
	if (!inode)
		return;
	size = MIN(size, (size_t)XATTR_SIZE_MAX);
	if (size > 0)
		buf = un_ops_buffer(size);
	n = size > 0 && !buf ? -ENOMEM : un_getxattr(fs, inode, name, buf, size);
	un_inode_put(fs, inode);
	reply(req, n, buf, size);
}

void un_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_cred cred = un_cred_of(req);
	struct un_inode *inode;
	void *buf = NULL;
	ssize_t n;

	if (refused(req))
		return;
	inode = un_node(req, ino);
	if (!inode)
		return;
	size = MIN(size, (size_t)XATTR_LIST_MAX);
	if (size > 0)
		buf = un_ops_buffer(size);
	n = size > 0 && !buf ? -ENOMEM : un_listxattr(fs, inode, &cred, buf, size);
	un_inode_put(fs, inode);
	reply(req, n, buf, size);
}

void un_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		    size_t size, int flags)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	bool kill_sgid = un_transport_raw()->setxattr_flags & SETXATTR_ACL_KILL_SGID;
	struct un_inode *inode;
	int r;

	if (refused(req))
		return;
	inode = un_node(req, ino);
	if (!inode)
		return;
	r = un_setxattr(fs, inode, name, value, size, flags, kill_sgid);
	un_inode_put(fs, inode);
	un_reply_status(req, r);
}

void un_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *inode;
	int r;

	if (refused(req))
		return;
	inode = un_node(req, ino);
	if (!inode)
		return;
	r = un_removexattr(fs, inode, name);
	un_inode_put(fs, inode);
	un_reply_status(req, r);
}
