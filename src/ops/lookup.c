/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops_i.h"

void un_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *dir = un_node(req, parent), *inode;
	struct statx st;
	int r;

	if (!dir)
		return;
	r = un_lookup(ops->fs, dir, name, &inode, &st);
	un_inode_put(ops->fs, dir);
	if (r == -ENOENT && ops->timeout > 0) {
		/* Node 0: the kernel keeps the absence and does not ask again. */
		struct fuse_entry_param none = { .entry_timeout = ops->timeout };

		fuse_reply_entry(req, &none);
		return;
	}
	un_reply_entry(req, r, inode, &st);
}

void un_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	un_inode_forget(un_ops_of(req)->fs, ino, n);
	fuse_reply_none(req);
}

void un_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct un_fs *fs = un_ops_of(req)->fs;

	for (size_t i = 0; i < count; i++)
		un_inode_forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}
