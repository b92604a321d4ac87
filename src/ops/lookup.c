/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LOOKUP and FORGET. */
#include "idle_i.h"
#include "ops_i.h"
#include "reply_i.h"

#include <errno.h>

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
	un_ops_opened(ops);
	if (r == -ENOENT && ops->timeout > 0) {
		/* Node 0: the kernel keeps the absence and does not ask again. */
		struct fuse_entry_param none = { .entry_timeout = ops->timeout };

		fuse_reply_entry(req, &none);
		return;
	}
	un_reply_entry(req, r, inode, &st);
}

static void after_forgetting(struct un_ops *ops)
{
	if (un_fs_wants_trim(ops->fs))
		un_ops_tick(ops);
}

void un_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct un_ops *ops = un_ops_of(req);

	un_inode_forget(ops->fs, ino, n);
	fuse_reply_none(req);
	after_forgetting(ops);
}

void un_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct un_ops *ops = un_ops_of(req);

	for (size_t i = 0; i < count; i++)
		un_inode_forget(ops->fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
	after_forgetting(ops);
}
