/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LOOKUP and FORGET. */
#include "idle_i.h"
#include "notify_i.h"
#include "ops_i.h"
#include "reply_i.h"

#include <errno.h>

/* The attributes, once more; an error consumes @inode. */
static int again(struct un_fs *fs, struct un_inode *inode, struct statx *st)
{
	int r = un_getattr(fs, inode, st);

	if (r < 0)
		un_inode_put(fs, inode);
	return r;
}

/* Node 0: the kernel keeps the absence and does not ask again. */
static void absent(fuse_req_t req, const struct un_inode *dir, const char *name, bool watched)
{
	struct un_ops *ops = un_ops_of(req);
	unsigned turn = un_notify_enter(ops);
	struct fuse_entry_param none = { .entry_timeout = un_ops_keep(ops, watched) };

	/* Before the answer: it has to be told of later. */
	if (none.entry_timeout > UN_UNWATCHED)
		un_known_missing_add(ops->fs, dir, name);
	if (none.entry_timeout > 0)
		fuse_reply_entry(req, &none);
	else
		fuse_reply_err(req, ENOENT);
	un_notify_leave(ops, turn);
}

void un_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *dir, *inode;
	struct statx st;
	bool watched;
	int r;

	if (un_first_open_is(ops, parent, name)) {
		un_first_open_reply(req);
		return;
	}
	dir = un_node(req, parent);
	if (!dir)
		return;
	r = un_lookup(ops->fs, dir, name, &inode, &st);
	watched = un_fs_dir_is_watched(ops->fs, dir);
	if (r == 0 && un_fs_watch_dir(ops->fs, inode))
		r = again(ops->fs, inode, &st);
	un_ops_opened(ops);
	if (r == -ENOENT && ops->timeout > 0)
		absent(req, dir, name, watched);
	else
		un_reply_entry(req, r, inode, &st);
	un_inode_put(ops->fs, dir);
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
