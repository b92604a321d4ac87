/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all handlers need to begin with, and the ways to answer. */
#include "notify_i.h"
#include "reply_i.h"

#include "transport/wire.h"
#include "util/err.h"

#include <glib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct un_ops *un_ops_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

struct un_cred un_cred_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct un_cred){ .uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid };
}

/* How many changes by others were known when the request in hand began. */
static _Thread_local unsigned begun;

void un_ops_begin(struct un_ops *ops)
{
	un_fs_catch_up(ops->fs);
	begun = un_fs_live_seq(ops->fs);
}

bool un_ops_is_current(const struct un_ops *ops)
{
	return un_fs_live_seq(ops->fs) == begun;
}

double un_ops_keep(const struct un_ops *ops, bool watched)
{
	if (!un_ops_is_current(ops))
		return 0;
	return watched ? ops->timeout : MIN(ops->timeout, UN_UNWATCHED);
}

struct un_inode *un_node(fuse_req_t req, fuse_ino_t ino)
{
	struct un_inode *inode;

	un_ops_begin(un_ops_of(req));
	inode = un_inode_get(un_ops_of(req)->fs, ino);

	if (inode)
		un_fs_refresh(un_ops_of(req)->fs, inode);
	else
		fuse_reply_err(req, ESTALE);
	return inode;
}

void *un_ops_buffer(size_t size)
{
	static GPrivate mine = G_PRIVATE_INIT(g_free);
	static _Thread_local size_t have;
	void *room = un_transport_room(size);

	if (room)
		return room;
	if (size > have) {
		void *p = g_try_malloc(size);

		if (!p)
			return NULL;
		g_private_replace(&mine, p);
		have = size;
	}
	return g_private_get(&mine);
}

uint64_t un_shown_ino(const struct un_ops *ops, uint64_t ino)
{
	uint32_t folded;

	if (!ops->config.ino32)
		return ino;
	/* The upper half tells the file systems of layers apart. */
	folded = (uint32_t)(ino ^ ino >> 32);
	return folded ? folded : 1;
}

uint32_t un_shown_nlink(const struct un_ops *ops, const struct statx *st)
{
	/* A removed directory has none. */
	if (ops->config.static_nlink && S_ISDIR(st->stx_mode) && st->stx_nlink)
		return 1;
	return st->stx_nlink;
}

static void stat_from(const struct un_ops *ops, const struct statx *stx, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = un_shown_ino(ops, stx->stx_ino),
		.st_mode = stx->stx_mode,
		.st_nlink = un_shown_nlink(ops, stx),
		.st_uid = stx->stx_uid,
		.st_gid = stx->stx_gid,
		.st_rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
		.st_size = (off_t)stx->stx_size,
		.st_blksize = (blksize_t)stx->stx_blksize,
		.st_blocks = (blkcnt_t)stx->stx_blocks,
		.st_atim = { stx->stx_atime.tv_sec, stx->stx_atime.tv_nsec },
		.st_mtim = { stx->stx_mtime.tv_sec, stx->stx_mtime.tv_nsec },
		.st_ctim = { stx->stx_ctime.tv_sec, stx->stx_ctime.tv_nsec },
	};
}

void un_wire_attr_from(const struct un_ops *ops, const struct statx *st, struct un_wire_attr *ret)
{
	*ret = (struct un_wire_attr){
		.ino = un_shown_ino(ops, st->stx_ino),
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = un_shown_nlink(ops, st),
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.rdev = (uint32_t)((st->stx_rdev_minor & 0xff) | (st->stx_rdev_major << 8) |
				   ((st->stx_rdev_minor & ~0xffu) << 12)),
		.blksize = st->stx_blksize,
	};
}

/* @keep: what the kernel may keep attributes for; ours end never, unless an option says so. */
static void note_told(const struct un_ops *ops, struct un_inode *inode, double keep)
{
	un_inode_told(inode, ops->config.timeout < 0 && keep > UN_UNWATCHED);
}

static double keep_attr(const struct un_ops *ops, struct un_inode *inode)
{
	return un_pass_is_unheard(inode) ? 0 : un_ops_keep(ops, un_fs_is_watched(ops->fs, inode));
}

void un_entry_fill(struct un_ops *ops, struct un_inode *inode, const struct statx *st,
		   struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){
		.ino = un_inode_id(inode),
		.attr_timeout = keep_attr(ops, inode),
		.entry_timeout = un_ops_keep(ops, un_fs_name_is_watched(ops->fs, inode)),
	};
	stat_from(ops, st, &ret->attr);
	note_told(ops, inode, MIN(ret->attr_timeout, ret->entry_timeout));
}

void un_reply_status(fuse_req_t req, int r)
{
	fuse_reply_err(req, -r);
}

void un_reply_attr(fuse_req_t req, int r, struct un_inode *inode, const struct statx *st)
{
	struct un_ops *ops = un_ops_of(req);
	struct stat attr;
	unsigned turn;
	double keep;

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	stat_from(ops, st, &attr);
	turn = un_notify_enter(ops);
	keep = keep_attr(ops, inode);
	note_told(ops, inode, keep);
	fuse_reply_attr(req, &attr, keep);
	un_notify_leave(ops, turn);
}

void un_reply_entry(fuse_req_t req, int r, struct un_inode *inode, const struct statx *st)
{
	struct un_ops *ops = un_ops_of(req);
	struct fuse_entry_param e;
	unsigned turn;

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	turn = un_notify_enter(ops);
	un_entry_fill(ops, inode, st, &e);
	/* Before the answer: the kernel may forget it at once. */
	un_inode_remember(ops->fs, inode);
	if (fuse_reply_entry(req, &e) < 0)
		un_inode_forget(ops->fs, e.ino, 1);
	un_notify_leave(ops, turn);
	un_inode_put(ops->fs, inode);
}

void un_ops_stale(struct un_ops *ops, uint64_t id)
{
	/* Offset -1: attributes only; takes no lock (src/transport/README.md, Notifications). */
	un_ignore(fuse_lowlevel_notify_inval_inode(ops->se, id, -1, 0));
}
