/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Data. Opening and closing are never heard of (OPEN, FLUSH = ENOSYS), but where files are passed through (pass.c). What is asked of a
 * file's data does not depend on how it was opened: fi->fh is for RELEASE only.
 */
#include "ahead_i.h"
#include "idle_i.h"
#include "notify_i.h"
#include "ops_i.h"
#include "pass_i.h"
#include "reply_i.h"

#include "transport/wire.h"
#include "util/err.h"

#include <fcntl.h>
#include <glib.h>

#define WRITE_CACHE (1u << 0)
#define WRITE_KILL_SUIDGID (1u << 2)

void un_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_wire_open_out out;
	struct un_inode *inode;
	int r;

	if (!ops->passing && ops->timeout != 0) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	inode = un_node(req, ino);
	if (!inode)
		return;
	r = un_pass_begin(ops, inode, fi->flags, &out);
	un_inode_put(ops->fs, inode);
	un_ops_opened(ops);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (out.fh && (fi->flags & O_ACCMODE) != O_RDONLY)
		un_ops_tick(ops);
	/* timeout=0: what others changed is to be seen, so each open starts with an empty cache. */
	if (ops->timeout == 0)
		out.open_flags &= ~UN_WIRE_OPEN_KEEP_CACHE;
	if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) < 0)
		un_pass_end(ops, ino, out.fh);
}

void un_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	un_pass_end(un_ops_of(req), ino, fi->fh);
	fuse_reply_err(req, 0);
}

void un_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

void un_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *inode = un_node(req, ino);
	uint32_t pid = un_transport_raw()->pid;
	bool cold = false;
	void *buf;
	ssize_t n;

	(void)fi;
	if (!inode)
		return;
	un_inode_in_hand(inode, 1);
	buf = un_ops_buffer(size);
	n = buf ? un_read(ops->fs, inode, buf, size, off, &cold) : -ENOMEM;
	un_ops_opened(ops);
	/* The kernel takes its time of access for old. */
	un_inode_told(inode, false);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
	un_inode_in_hand(inode, -1);
	if (off == 0)
		un_ops_read_ahead(ops, inode, pid, cold);
	un_inode_put(ops->fs, inode);
	/* The kernel has it as a page by now. */
	if (!un_ops_is_current(ops)) {
		un_transport_flush();
		un_notify_again(ops, ino);
	}
}

/* A set-id program changed by another user must not run once more with its old rights. */
static void tell_killed(struct un_ops *ops, fuse_ino_t ino, bool killed)
{
	if (killed)
		un_ops_stale(ops, ino);
}

void un_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		 struct fuse_file_info *fi)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *inode = un_node(req, ino);
	struct un_cred cred = un_cred_of(req);
	uint32_t flags = un_transport_raw()->write_flags;
	struct un_write w = {
		.buf = buf,
		.size = size,
		.off = off,
		.append = fi->flags & O_APPEND,
		.kill = flags & WRITE_KILL_SUIDGID,
		.cached = flags & WRITE_CACHE,
		.keep_mtime = (flags & WRITE_CACHE) && ops->config.writeback,
	};
	bool killed = false;
	ssize_t n;

	if (!inode)
		return;
	un_inode_in_hand(inode, 1);
	n = un_write(ops->fs, inode, &w, &cred, &killed);
	tell_killed(ops, ino, killed);
	un_ops_tick(ops);
	un_inode_told(inode, false);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
	un_inode_in_hand(inode, -1);
	un_inode_put(ops->fs, inode);
}

void un_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *inode;
	int r;

	(void)fi;
	if (ops->config.volatile_) {
		/* The kernel does not ask again, and says success to everyone. */
		fuse_reply_err(req, ENOSYS);
		return;
	}
	inode = un_node(req, ino);
	if (!inode)
		return;
	r = un_fsync(ops->fs, inode, datasync);
	un_inode_put(ops->fs, inode);
	un_reply_status(req, r);
}

void un_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		     struct fuse_file_info *fi)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *inode = un_node(req, ino);
	struct un_cred cred = un_cred_of(req);
	bool killed = false;
	int r;

	(void)fi;
	if (!inode)
		return;
	r = un_fallocate(ops->fs, inode, mode, off, len, &cred, &killed);
	un_inode_put(ops->fs, inode);
	tell_killed(ops, ino, killed);
	un_ops_tick(ops);
	un_reply_status(req, r);
}

void un_op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off,
			   struct fuse_file_info *fi_in, fuse_ino_t out, off_t out_off,
			   struct fuse_file_info *fi_out, size_t size, int flags)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *src = un_node(req, in), *dst;
	struct un_cred cred = un_cred_of(req);
	bool killed = false;
	ssize_t n;

	(void)fi_in;
	(void)fi_out;
	if (!src)
		return;
	dst = un_node(req, out);
	if (!dst) {
		un_inode_put(ops->fs, src);
		return;
	}
	n = flags ? -EINVAL
		  : un_copy_file_range(ops->fs, src, in_off, dst, out_off, size, &cred, &killed);
	un_inode_put(ops->fs, src);
	un_inode_put(ops->fs, dst);
	tell_killed(ops, out, killed);
	un_ops_tick(ops);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}
