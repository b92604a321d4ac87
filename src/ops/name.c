/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that make, move and remove names. */
#include "idle_i.h"
#include "notify_i.h"
#include "ops_i.h"
#include "reply_i.h"

#include "transport/wire.h"

#include <errno.h>
#include <fcntl.h>

#define OPEN_KEEP_CACHE (1u << 1)
#define OPEN_NOFLUSH (1u << 5)

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

void un_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi)
{
	struct un_ops *ops = un_ops_of(req);
	struct un_inode *dir = un_node(req, parent), *inode = NULL;
	struct un_create what = { .mode = S_IFREG | (mode & 07777),
				  .umask = fuse_req_ctx(req)->umask };
	struct un_cred cred = un_cred_of(req);
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
	/* Without state: no handle, nothing to be flushed or released. */
	fi->fh = 0;
	fi->keep_cache = 1;
	fi->noflush = 1;
	turn = un_notify_enter(ops);
	un_entry_fill(ops, inode, &st, &e);
	un_inode_remember(ops->fs, inode);
	if (fuse_reply_create(req, &e, fi) < 0)
		un_inode_forget(ops->fs, e.ino, 1);
	un_notify_leave(ops, turn);
	un_inode_put(ops->fs, inode);
}

static void tmpfile_out(struct un_ops *ops, struct un_inode *inode, const struct statx *st,
			struct un_wire_tmpfile_out *ret)
{
	double keep = un_ops_keep(ops, un_fs_is_watched(ops->fs, inode));
	uint64_t sec = (uint64_t)keep;
	uint32_t nsec = (uint32_t)((keep - (double)sec) * 1e9);

	*ret = (struct un_wire_tmpfile_out){
		.entry = { .nodeid = un_inode_id(inode),
			   .entry_valid = sec,
			   .attr_valid = sec,
			   .entry_valid_nsec = nsec,
			   .attr_valid_nsec = nsec },
		.open = { .open_flags = OPEN_KEEP_CACHE | OPEN_NOFLUSH },
	};
	un_wire_attr_from(ops, st, &ret->entry.attr);
}

void un_raw_tmpfile(void *data, struct un_raw_req *req, uint64_t node, uint32_t mode,
		    uint32_t umask)
{
	struct un_ops *ops = data;
	const struct un_raw *raw = un_transport_raw();
	struct un_cred cred = { .uid = raw->uid, .gid = raw->gid, .pid = (pid_t)raw->pid };
	struct un_create what = { .mode = S_IFREG | (mode & 07777), .umask = umask };
	struct un_inode *dir, *inode = NULL;
	struct un_wire_tmpfile_out out;
	struct statx st;
	unsigned turn;
	int r;

	un_ops_begin(ops);
	dir = un_inode_get(ops->fs, node);
	r = dir ? un_tmpfile(ops->fs, dir, &what, &cred, &inode, &st) : -ESTALE;
	un_inode_put(ops->fs, dir);
	if (r < 0) {
		un_raw_reply(req, r, NULL, 0);
		return;
	}
	turn = un_notify_enter(ops);
	tmpfile_out(ops, inode, &st, &out);
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
