/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that make, move and remove names. */
#include "idle_i.h"
#include "notify_i.h"
#include "ops_i.h"
#include "pass_i.h"
#include "reply_i.h"

#include "transport/wire.h"

#include <errno.h>
#include <fcntl.h>

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, const struct un_create *what)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *dir = un_node(req, parent), *inode = NULL;
	struct un_cred cred = un_cred_of(req);
	struct statx st;
	int r;

	if (!dir)
		return;
	r = un_make(fs, dir, name, what, &cred, &inode, &st);
	un_inode_put(fs, dir);
	un_reply_entry(req, r, inode, &st);
}

void un_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct un_create what = { .mode = mode, .umask = fuse_req_ctx(req)->umask, .rdev = rdev };

	/* mknod(2) without a type makes a regular file. */
	if ((what.mode & S_IFMT) == 0)
		what.mode |= S_IFREG;
	make(req, parent, name, &what);
}

void un_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct un_create what = { .mode = S_IFDIR | (mode & 07777),
				  .umask = fuse_req_ctx(req)->umask };

	make(req, parent, name, &what);
}

void un_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct un_create what = { .mode = S_IFLNK | 0777, .target = target };

	make(req, parent, name, &what);
}

static void split(double seconds, uint64_t *sec, uint32_t *nsec)
{
	*sec = (uint64_t)seconds;
	*nsec = (uint32_t)((seconds - (double)*sec) * 1e9);
}

static void entry_out(struct un_ops *ops, const struct fuse_entry_param *e, const struct statx *st,
		      struct un_wire_entry_out *ret)
{
	*ret = (struct un_wire_entry_out){ .nodeid = e->ino, .generation = e->generation };
	split(e->entry_timeout, &ret->entry_valid, &ret->entry_valid_nsec);
	split(e->attr_timeout, &ret->attr_valid, &ret->attr_valid_nsec);
	un_wire_attr_from(ops, st, &ret->attr);
}

void un_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *dir = un_node(req, parent), *inode = NULL;
	struct un_create what = { .mode = S_IFREG | (mode & 07777),
				  .umask = fuse_req_ctx(req)->umask };
	struct un_cred cred = un_cred_of(req);
	struct un_wire_tmpfile_out out;
	struct fuse_entry_param e;
	struct statx st;
	unsigned turn;
	int r;

	if (!dir)
		return;
	r = un_create(ops->fs, dir, name, &what, fi->flags & O_EXCL, &cred, &inode, &st);
	un_inode_put(ops->fs, dir);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	un_ops_tick(ops);
	r = un_pass_begin(ops, inode, fi->flags, &out.open);
	if (r < 0) {
		un_inode_put(ops->fs, inode);
		fuse_reply_err(req, -r);
		return;
	}
	turn = un_notify_enter(ops);
	un_entry_fill(ops, inode, &st, &e);
	entry_out(ops, &e, &st, &out.entry);
	un_inode_remember(ops->fs, inode);
	/* libfuse knows no number of a file to be passed through. */
	if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) < 0) {
		un_inode_forget(ops->fs, e.ino, 1);
		un_pass_end(ops, e.ino, out.open.fh);
	}
	un_notify_leave(ops, turn);
	un_inode_put(ops->fs, inode);
}

void un_raw_tmpfile(void *data, struct un_raw_req *req, uint64_t node,
		    const struct un_wire_create_in *in)
{
	struct un_ops *ops = data;
	const struct un_raw *raw = un_transport_raw();
	struct un_cred cred = { .uid = raw->uid, .gid = raw->gid, .pid = (pid_t)raw->pid };
	struct un_create what = { .mode = S_IFREG | (in->mode & 07777), .umask = in->umask };
	struct un_inode *dir, *inode = NULL;
	struct un_wire_tmpfile_out out;
	struct fuse_entry_param e;
	struct statx st;
	unsigned turn;
	int r;

	un_ops_begin(ops);
	dir = un_inode_get(ops->fs, node);
	r = dir ? un_tmpfile(ops->fs, dir, &what, &cred, &inode, &st) : -ESTALE;
	un_inode_put(ops->fs, dir);
	if (r == 0)
		r = un_pass_begin(ops, inode, (int)in->flags, &out.open);
	if (r < 0) {
		un_inode_put(ops->fs, inode);
		un_raw_reply(req, r, NULL, 0);
		return;
	}
	turn = un_notify_enter(ops);
	un_entry_fill(ops, inode, &st, &e);
	entry_out(ops, &e, &st, &out.entry);
	un_inode_remember(ops->fs, inode);
	un_raw_reply(req, 0, &out, sizeof(out));
	un_notify_leave(ops, turn);
	un_inode_put(ops->fs, inode);
}

void un_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *inode = un_node(req, ino), *dir;
	struct statx st;
	int r;

	if (!inode)
		return;
	dir = un_node(req, parent);
	if (!dir) {
		un_inode_put(fs, inode);
		return;
	}
	r = un_link(fs, inode, dir, name, &st);
	un_inode_put(fs, dir);
	if (r < 0)
		un_inode_put(fs, inode);
	un_reply_entry(req, r, inode, &st);
}

static void on_name(fuse_req_t req, fuse_ino_t parent, const char *name,
		    int (*fn)(struct un_fs *fs, struct un_inode *dir, const char *name))
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *dir = un_node(req, parent);
	int r;

	if (!dir)
		return;
	r = fn(fs, dir, name);
	un_inode_put(fs, dir);
	un_reply_status(req, r);
}

void un_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	on_name(req, parent, name, un_unlink);
}

void un_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	on_name(req, parent, name, un_rmdir);
}

void un_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		  const char *newname, unsigned flags)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *from = un_node(req, parent), *to;
	int r;

	if (!from)
		return;
	to = un_node(req, newparent);
	if (!to) {
		un_inode_put(fs, from);
		return;
	}
	r = un_rename(fs, from, name, to, newname, flags);
	un_inode_put(fs, from);
	un_inode_put(fs, to);
	un_reply_status(req, r);
}
