/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of handlers, what is agreed with the kernel at INIT, and what handlers share. */
#include "ops_i.h"

#include "util/log.h"

#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* What the kernel may keep for ever; it is told when something changes. */
#define FOREVER 1e9

/* FUSE_* of linux/fuse.h, in flags and flags2 of INIT. */
#define FLAG_ASYNC_READ (1u << 0)
#define FLAG_DONT_MASK (1u << 6)
#define FLAG_AUTO_INVAL_DATA (1u << 12)
#define FLAG_DO_READDIRPLUS (1u << 13)
#define FLAG_WRITEBACK_CACHE (1u << 16)
#define FLAG_PARALLEL_DIROPS (1u << 18)
#define FLAG_POSIX_ACL (1u << 20)
#define FLAG_CACHE_SYMLINKS (1u << 23)
#define FLAG_HANDLE_KILLPRIV_V2 (1u << 28)
#define FLAG2_NO_EXPORT_SUPPORT (1u << 6)
#define FLAG2_ALLOW_IDMAP (1u << 8)

struct un_ops *un_ops_new(struct un_fs *fs, const struct un_ops_config *config)
{
	struct un_ops *ops = g_new0(struct un_ops, 1);

	ops->fs = fs;
	ops->config = *config;
	ops->timeout = config->timeout < 0 ? FOREVER : config->timeout;
	return ops;
}

void un_ops_free(struct un_ops *ops)
{
	g_free(ops);
}

static bool has_acl(const struct un_ops *ops)
{
	return un_fs_has_acl(ops->fs) && !ops->config.noxattrs && !ops->config.noacl;
}

/*
 * Everything that is wanted, whether libfuse puts it into its answer or not (3.14 does not hand on
 * PARALLEL_DIROPS). Not ASYNC_DIO: with it a buffered read after an asynchronous direct write may find
 * the old data. Not HANDLE_KILLPRIV, in which every write may have to clear bits, at a request each time.
 */
uint32_t un_ops_init_flags(const struct un_ops *ops)
{
	return FLAG_ASYNC_READ | FLAG_DONT_MASK | FLAG_AUTO_INVAL_DATA | FLAG_DO_READDIRPLUS |
	       FLAG_PARALLEL_DIROPS | FLAG_CACHE_SYMLINKS | FLAG_HANDLE_KILLPRIV_V2 |
	       UN_WIRE_SETXATTR_EXT | (has_acl(ops) ? FLAG_POSIX_ACL : 0) |
	       (ops->config.writeback ? FLAG_WRITEBACK_CACHE : 0);
}

uint32_t un_ops_init_flags2(const struct un_ops *ops, bool idmap, bool permissions)
{
	/* Handles of ours do not last: exporters are to refuse at once, not to find them stale later. */
	uint32_t flags = FLAG2_NO_EXPORT_SUPPORT;

	/* The kernel refuses it unless it checks permissions by itself; with ACLs it always does. */
	if (idmap && (permissions || has_acl(ops)))
		flags |= FLAG2_ALLOW_IDMAP;
	return flags;
}

void un_ops_stale(struct un_ops *ops, uint64_t id)
{
	/* Offset -1: attributes only; takes no lock (src/transport/README.md, Notifications). */
	un_ignore(fuse_lowlevel_notify_inval_inode(ops->se, id, -1, 0));
}

static void stale(void *data, uint64_t id, enum un_stale what)
{
	struct un_ops *ops = data;

	/* Pages of a listing have no writers: dropping them waits for nobody. */
	if (what == UN_STALE_LISTING)
		un_ignore(fuse_lowlevel_notify_inval_inode(ops->se, id, 0, 0));
	else
		un_ops_stale(ops, id);
}

static void wake(void *data)
{
	un_ops_tick(data);
}

void un_ops_attach(struct un_ops *ops, struct fuse_session *se, struct un_transport *transport)
{
	ops->se = se;
	ops->transport = transport;
	un_fs_on_stale(ops->fs, stale, ops);
	un_fs_on_wake(ops->fs, wake, ops);
}

static bool tick(void *data)
{
	struct un_ops *ops = data;

	ops->ticking = false;
	if (un_fs_idle(ops->fs))
		ops->ticking = true;
	return ops->ticking;
}

/* Seconds. What is not used is closed at the second look. */
#define CLOSING_EACH 20

static bool close_idle(void *data)
{
	struct un_ops *ops = data;

	ops->closing = false;
	if (un_fs_close_idle(ops->fs))
		ops->closing = true;
	return ops->closing;
}

void un_ops_opened(struct un_ops *ops)
{
	if (!ops->closing && un_fs_wants_closing(ops->fs) && !atomic_exchange(&ops->closing, true))
		un_transport_tick(ops->transport, CLOSING_EACH, close_idle, ops);
}

void un_ops_tick(struct un_ops *ops)
{
	if (!atomic_exchange(&ops->ticking, true))
		un_transport_tick(ops->transport, 1, tick, ops);
}

static void want(struct fuse_conn_info *conn, unsigned cap)
{
	conn->want |= conn->capable & cap;
}

static void init(void *userdata, struct fuse_conn_info *conn)
{
	struct un_ops *ops = userdata;

	conn->want &=
		~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
			    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_READDIRPLUS_AUTO |
			    FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_ASYNC_DIO);
	want(conn, FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
			   FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_DONT_MASK | FUSE_CAP_CACHE_SYMLINKS);
	if (has_acl(ops))
		want(conn, FUSE_CAP_POSIX_ACL);
	if (ops->config.writeback)
		want(conn, FUSE_CAP_WRITEBACK_CACHE);
	conn->max_write = ops->config.max_write;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static void worker_start(void *data)
{
	(void)data;
	/*
	 * A umask of its own for each worker: it creates with the caller's
	 * (src/transport/README.md, Umask and default ACLs).
	 */
	if (unshare(CLONE_FS) == 0)
		return;
	/* Forbidden by a filter of system calls, such as Docker's. */
	un_debug("unshare(CLONE_FS): %s: umasks cost a question for a default ACL",
		 g_strerror(errno));
	un_thread_shares_umask();
}

static const struct fuse_lowlevel_ops table = {
	.init = init,
	.lookup = un_op_lookup,
	.forget = un_op_forget,
	.forget_multi = un_op_forget_multi,
	.getattr = un_op_getattr,
	.setattr = un_op_setattr,
	.readlink = un_op_readlink,
	.mknod = un_op_mknod,
	.mkdir = un_op_mkdir,
	.unlink = un_op_unlink,
	.rmdir = un_op_rmdir,
	.symlink = un_op_symlink,
	.rename = un_op_rename,
	.link = un_op_link,
	.open = un_op_open,
	.read = un_op_read,
	.write = un_op_write,
	.flush = un_op_flush,
	.fsync = un_op_fsync,
	.opendir = un_op_opendir,
	.readdir = un_op_readdir,
	.readdirplus = un_op_readdirplus,
	.fsyncdir = un_op_fsyncdir,
	.statfs = un_op_statfs,
	.setxattr = un_op_setxattr,
	.getxattr = un_op_getxattr,
	.listxattr = un_op_listxattr,
	.removexattr = un_op_removexattr,
	.create = un_op_create,
	.ioctl = un_op_ioctl,
	.fallocate = un_op_fallocate,
	.copy_file_range = un_op_copy_file_range,
	.lseek = un_op_lseek,
};

const struct fuse_lowlevel_ops *un_ops_table(void)
{
	return &table;
}

const struct un_transport_ops *un_ops_raw(void)
{
	static const struct un_transport_ops raw = {
		.tmpfile = un_raw_tmpfile,
		.statx = un_raw_statx,
		.worker_start = worker_start,
	};

	return &raw;
}

/* ---- what handlers share ------------------------------------------------------------------------------ */

struct un_ops *un_ops_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

struct un_cred un_cred_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct un_cred){ .uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid };
}

struct un_inode *un_node(fuse_req_t req, fuse_ino_t ino)
{
	struct un_inode *inode = un_inode_get(un_ops_of(req)->fs, ino);

	if (!inode)
		fuse_reply_err(req, ESTALE);
	return inode;
}

void *un_ops_buffer(size_t size)
{
	static GPrivate mine = G_PRIVATE_INIT(g_free);
	static _Thread_local size_t have;

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

void un_stat_from(const struct un_ops *ops, const struct statx *stx, struct stat *ret)
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

void un_entry_fill(struct un_ops *ops, struct un_inode *inode, const struct statx *st,
		   struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){
		.ino = un_inode_id(inode),
		.attr_timeout = ops->timeout,
		.entry_timeout = ops->timeout,
	};
	un_stat_from(ops, st, &ret->attr);
}

void un_reply_status(fuse_req_t req, int r)
{
	fuse_reply_err(req, -r);
}

void un_reply_attr(fuse_req_t req, int r, const struct statx *st)
{
	struct un_ops *ops = un_ops_of(req);
	struct stat attr;

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	un_stat_from(ops, st, &attr);
	fuse_reply_attr(req, &attr, ops->timeout);
}

void un_reply_entry(fuse_req_t req, int r, struct un_inode *inode, const struct statx *st)
{
	struct un_ops *ops = un_ops_of(req);
	struct fuse_entry_param e;

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	un_entry_fill(ops, inode, st, &e);
	/* Before the answer: the kernel may forget it at once. */
	un_inode_remember(ops->fs, inode);
	if (fuse_reply_entry(req, &e) < 0)
		un_inode_forget(ops->fs, e.ino, 1);
	un_inode_put(ops->fs, inode);
}
