/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes, and the options that refuse them: noxattrs, noacl. */
#include "ops_i.h"
#include "reply_i.h"

#include <errno.h>
#include <glib.h>
#include <linux/limits.h>
#include <string.h>

#define SETXATTR_ACL_KILL_SGID (1u << 0)

/* noxattrs: the kernel is told once and never asks. */
static bool refused(fuse_req_t req)
{
	if (!un_ops_of(req)->config.noxattrs)
		return false;
	fuse_reply_err(req, ENOSYS);
	return true;
}

/* noacl: the kernel hands the names on like others, and asks each time. */
static bool is_refused_acl(fuse_req_t req, const char *name)
{
	if (!un_ops_of(req)->config.noacl || !g_str_has_prefix(name, "system.posix_acl_"))
		return false;
	fuse_reply_err(req, EOPNOTSUPP);
	return true;
}

/* Take the names of ACLs out of @list of @n bytes; returns its new length. */
static ssize_t without_acls(char *list, ssize_t n)
{
	char *out = list;

	for (char *p = list, *next; p < list + n; p = next) {
		next = p + strlen(p) + 1;
		if (g_str_has_prefix(p, "system.posix_acl_"))
			continue;
		memmove(out, p, (size_t)(next - p));
		out += next - p;
	}
	return out - list;
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

	if (refused(req) || is_refused_acl(req, name))
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
	bool noacl = un_ops_of(req)->config.noacl;
	struct un_cred cred = un_cred_of(req);
	struct un_inode *inode;
	size_t room;
	void *buf = NULL;
	ssize_t n;

	if (refused(req))
		return;
	inode = un_node(req, ino);
	if (!inode)
		return;
	size = MIN(size, (size_t)XATTR_LIST_MAX);
	/* What is taken out has to be read first, even for its length. */
	room = noacl ? XATTR_LIST_MAX : size;
	if (room > 0)
		buf = un_ops_buffer(room);
	n = room > 0 && !buf ? -ENOMEM : un_listxattr(fs, inode, &cred, buf, room);
	if (noacl && n > 0)
		n = without_acls(buf, n);
	if (n > 0 && size > 0 && (size_t)n > size)
		n = -ERANGE;
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

	if (refused(req) || is_refused_acl(req, name))
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

	if (refused(req) || is_refused_acl(req, name))
		return;
	inode = un_node(req, ino);
	if (!inode)
		return;
	r = un_removexattr(fs, inode, name);
	un_inode_put(fs, inode);
	un_reply_status(req, r);
}
