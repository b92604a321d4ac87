/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of handlers, and what is agreed with the kernel at INIT. */
#include "ctl_i.h"
#include "idle_i.h"
#include "notify_i.h"
#include "ops_i.h"
#include "reply_i.h"

#include "transport/wire.h"
#include "union/ahead.h"
#include "util/err.h"
#include "util/log.h"

#include <glib.h>
#include <sched.h>

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
	ops->started = g_get_monotonic_time();
	ops->kept = un_ctl_kept_new();
	ops->ahead = un_ahead_new(fs);
	return ops;
}

void un_ops_free(struct un_ops *ops)
{
	if (!ops)
		return;
	un_ops_stop(ops);
	un_ops_pass_done(ops);
	un_ctl_kept_free(ops->kept);
	un_ahead_free(ops->ahead);
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
	if (ops->config.passthrough)
		flags |= UN_WIRE_PASSTHROUGH;
	return flags;
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

static void later(void *data, void (*fn)(void *arg), void *arg)
{
	struct un_ops *ops = data;

	/* Nobody waits for requests when they are about to end. */
	if (!un_transport_run(ops->transport, fn, arg))
		fn(arg);
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
	un_fs_on_later(ops->fs, later, ops);
}

int un_ops_start(struct un_ops *ops)
{
	return un_notify_start(ops);
}

void un_ops_stop(struct un_ops *ops)
{
	un_notify_stop(ops);
	un_fs_on_later(ops->fs, NULL, NULL);
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
	/* Further than the kernel offers it does not go by this (un_mount_read_ahead()). */
	if (ops->config.read_ahead)
		conn->max_readahead = MIN(conn->max_readahead, ops->config.read_ahead);
	/* The kernel holds back what goes beyond: as much as threads can be at. From three quarters on it reads less ahead. */
	conn->max_background = MAX(64, ops->config.max_background);
	conn->congestion_threshold = conn->max_background / 4 * 3;
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
	.release = un_op_release,
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
