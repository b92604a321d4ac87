/* SPDX-License-Identifier: GPL-2.0-or-later */
/* GETATTR, SETATTR, READLINK, STATFS; and STATX, which an old libfuse does not know. */
#include "idle_i.h"
#include "notify_i.h"
#include "ops_i.h"
#include "reply_i.h"

#include "transport/wire.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>

#define FATTR_FH (1u << 6)
#define FATTR_MTIME (1u << 5)
#define FATTR_CTIME (1u << 10)
#define FATTR_LOCKOWNER (1u << 9)
#define FATTR_KILL_SUIDGID (1u << 11)

void un_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *inode = un_node(req, ino);
	struct statx st;
	int r;

	(void)fi;
	if (!inode)
		return;
	un_fs_watch_dir(fs, inode);
	r = un_getattr(fs, inode, &st);
	un_reply_attr(req, r, inode, &st);
	un_inode_put(fs, inode);
}

static unsigned translate(int valid)
{
	static const struct {
		int fuse;
		unsigned ours;
	} bits[] = {
		{ FUSE_SET_ATTR_MODE, UN_SET_MODE },
		{ FUSE_SET_ATTR_UID, UN_SET_UID },
		{ FUSE_SET_ATTR_GID, UN_SET_GID },
		{ FUSE_SET_ATTR_SIZE, UN_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, UN_SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, UN_SET_MTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, UN_SET_ATIME | UN_SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, UN_SET_MTIME | UN_SET_MTIME_NOW },
	};
	unsigned ret = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(bits); i++)
		if (valid & bits[i].fuse)
			ret |= bits[i].ours;
	return ret;
}

void un_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int valid,
		   struct fuse_file_info *fi)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *inode = un_node(req, ino);
	struct un_cred cred = un_cred_of(req);
	struct un_setattr a = {
		.valid = translate(valid),
		.mode = attr->st_mode,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.size = attr->st_size,
		.atime = attr->st_atim,
		.mtime = attr->st_mtim,
	};
	uint32_t raw = un_transport_raw()->setattr_valid;
	struct statx st;
	int r;

	(void)fi;
	if (!inode)
		return;
	/*
	 * Nothing to be set at all: chown(-1, -1), or before a write that will clear set-id bits. A
	 * ctime alone (write-back cache) is the layer's to keep.
	 */
	if (a.valid == 0 && (raw & ~(FATTR_FH | FATTR_LOCKOWNER | FATTR_KILL_SUIDGID))) {
		r = un_getattr(fs, inode, &st);
	} else {
		if (un_ops_of(req)->config.writeback &&
		    (raw & ~(FATTR_FH | FATTR_LOCKOWNER)) == (FATTR_MTIME | FATTR_CTIME))
			a.valid |= UN_SET_WRITTEN;
		if (a.valid == 0 || (raw & FATTR_KILL_SUIDGID))
			a.valid |= UN_SET_KILL;
		r = un_setattr(fs, inode, &a, &cred, &st);
		if (r == 0 && (a.valid & UN_SET_SIZE))
			un_ops_tick(un_ops_of(req));
	}
	un_reply_attr(req, r, inode, &st);
	/* The name of a directory is looked up again after its mode was changed. */
	if (r == 0 && (a.valid & UN_SET_MODE) && S_ISDIR(st.stx_mode))
		un_inode_told(inode, false);
	un_inode_put(fs, inode);
}

void un_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct un_fs *fs = un_ops_of(req)->fs;
	struct un_inode *inode = un_node(req, ino);
	char target[PATH_MAX + 1];
	ssize_t n;

	if (!inode)
		return;
	n = un_readlink(fs, inode, target, PATH_MAX);
	un_inode_put(fs, inode);
	if (n < 0) {
		fuse_reply_err(req, (int)-n);
		return;
	}
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}

void un_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int r = un_statfs(un_ops_of(req)->fs, &st);

	(void)ino;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_statfs(req, &st);
}

static void split(double seconds, uint64_t *sec, uint32_t *nsec)
{
	*sec = (uint64_t)seconds;
	*nsec = (uint32_t)((seconds - (double)*sec) * 1e9);
}

static void sx_time(struct statx_timestamp ts, struct un_wire_sx_time *ret)
{
	ret->sec = ts.tv_sec;
	ret->nsec = ts.tv_nsec;
}

void un_raw_statx(void *data, struct un_raw_req *req, uint64_t node)
{
	struct un_ops *ops = data;
	struct un_inode *inode;
	struct un_wire_statx_out out = { 0 };
	struct statx st;
	bool watched, keeps;
	unsigned turn;
	int r;

	un_ops_begin(ops);
	inode = un_inode_get(ops->fs, node);
	if (inode)
		un_fs_watch_dir(ops->fs, inode);
	r = inode ? un_getattr(ops->fs, inode, &st) : -ESTALE;
	keeps = inode && !un_pass_is_unheard(inode);
	watched = inode && un_fs_is_watched(ops->fs, inode);
	un_inode_put(ops->fs, inode);
	if (r < 0) {
		un_raw_reply(req, r, NULL, 0);
		return;
	}
	turn = un_notify_enter(ops);
	split(keeps ? un_ops_keep(ops, watched) : 0, &out.attr_valid, &out.attr_valid_nsec);
	out.stat = (struct un_wire_statx){
		.mask = st.stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
		.blksize = st.stx_blksize,
		.nlink = un_shown_nlink(ops, &st),
		.uid = st.stx_uid,
		.gid = st.stx_gid,
		.mode = st.stx_mode,
		.ino = un_shown_ino(ops, st.stx_ino),
		.size = st.stx_size,
		.blocks = st.stx_blocks,
		.rdev_major = st.stx_rdev_major,
		.rdev_minor = st.stx_rdev_minor,
	};
	sx_time(st.stx_atime, &out.stat.atime);
	sx_time(st.stx_btime, &out.stat.btime);
	sx_time(st.stx_ctime, &out.stat.ctime);
	sx_time(st.stx_mtime, &out.stat.mtime);
	un_raw_reply(req, 0, &out, sizeof(out));
	un_notify_leave(ops, turn);
}
