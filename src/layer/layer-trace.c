/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A decorator that writes every change of a layer, with its result, to the debug log.
 *
 * The data of a decorator is g_malloc'ed and begins with a copy of the layer as it was before; the
 * operations are forwarded on that copy, so decorators stack, and un_layers_close() can free them
 * without knowing them.
 */
#include "layer/layer.h"

#include <fcntl.h>
#include <glib.h>
#include <string.h>

#include "util/log.h"

struct trace {
	struct un_layer inner;
};

static inline struct un_layer *inner(struct un_layer *l)
{
	return &((struct trace *)l->ops_data)->inner;
}

/* A result as the log shows it: a count or the errno's name. */
static const char *result(ssize_t r)
{
	return r < 0 ? strerrorname_np((int)-r) ?: "?" : "ok";
}

#define trace(l, r, fmt, ...)                                                                      \
	un_debug("layer %u: " fmt " = %zd (%s)", (l)->index, __VA_ARGS__, (ssize_t)(r), result(r))

static int trace_open(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode)
{
	int fd = inner(l)->ops->open(inner(l), dirfd, name, flags, mode);

	if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)
		trace(l, fd, "open(%d, \"%s\", %#o, %#o)", dirfd, name, flags, mode);
	return fd;
}

static int trace_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret)
{
	return inner(l)->ops->stat(inner(l), dirfd, name, ret);
}

static int trace_has(struct un_layer *l, int dirfd, const char *dir, const char *name)
{
	return inner(l)->ops->has(inner(l), dirfd, dir, name);
}

static ssize_t trace_readlink(struct un_layer *l, int dirfd, const char *name, char *buf,
			      size_t size)
{
	return inner(l)->ops->readlink(inner(l), dirfd, name, buf, size);
}

static ssize_t trace_getxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			      void *buf, size_t size)
{
	return inner(l)->ops->getxattr(inner(l), dirfd, name, xattr, buf, size);
}

static ssize_t trace_listxattr(struct un_layer *l, int dirfd, const char *name, char *buf,
			       size_t size)
{
	return inner(l)->ops->listxattr(inner(l), dirfd, name, buf, size);
}

static ssize_t trace_getdents(struct un_layer *l, int fd, void *buf, size_t size)
{
	return inner(l)->ops->getdents(inner(l), fd, buf, size);
}

static ssize_t trace_pread(struct un_layer *l, int fd, void *buf, size_t size, off_t off)
{
	return inner(l)->ops->pread(inner(l), fd, buf, size, off);
}

static ssize_t trace_pread_cached(struct un_layer *l, int fd, void *buf, size_t size, off_t off)
{
	return inner(l)->ops->pread_cached(inner(l), fd, buf, size, off);
}

static int trace_is_cached(struct un_layer *l, int fd)
{
	return inner(l)->ops->is_cached(inner(l), fd);
}

static int trace_will_need(struct un_layer *l, int fd, off_t off, off_t size)
{
	return inner(l)->ops->will_need(inner(l), fd, off, size);
}

static int trace_setxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			  const void *value, size_t size, int flags)
{
	int r = inner(l)->ops->setxattr(inner(l), dirfd, name, xattr, value, size, flags);

	trace(l, r, "setxattr(%d, \"%s\", %s, %zu bytes, %d)", dirfd, name, xattr, size, flags);
	return r;
}

static int trace_removexattr(struct un_layer *l, int dirfd, const char *name, const char *xattr)
{
	int r = inner(l)->ops->removexattr(inner(l), dirfd, name, xattr);

	trace(l, r, "removexattr(%d, \"%s\", %s)", dirfd, name, xattr);
	return r;
}

static int trace_mkdir(struct un_layer *l, int dirfd, const char *name, mode_t mode)
{
	int r = inner(l)->ops->mkdir(inner(l), dirfd, name, mode);

	trace(l, r, "mkdir(%d, \"%s\", %#o)", dirfd, name, mode);
	return r;
}

static int trace_mknod(struct un_layer *l, int dirfd, const char *name, mode_t mode, dev_t rdev)
{
	int r = inner(l)->ops->mknod(inner(l), dirfd, name, mode, rdev);

	trace(l, r, "mknod(%d, \"%s\", %#o, %#jx)", dirfd, name, mode, (uintmax_t)rdev);
	return r;
}

static int trace_symlink(struct un_layer *l, const char *target, int dirfd, const char *name)
{
	int r = inner(l)->ops->symlink(inner(l), target, dirfd, name);

	trace(l, r, "symlink(\"%s\", %d, \"%s\")", target, dirfd, name);
	return r;
}

static int trace_link(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
		      const char *name)
{
	int r = inner(l)->ops->link(inner(l), from_dirfd, from, dirfd, name);

	trace(l, r, "link(%d, \"%s\", %d, \"%s\")", from_dirfd, from, dirfd, name);
	return r;
}

static int trace_rename(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
			const char *name, unsigned flags)
{
	int r = inner(l)->ops->rename(inner(l), from_dirfd, from, dirfd, name, flags);

	trace(l, r, "rename(%d, \"%s\", %d, \"%s\", %#x)", from_dirfd, from, dirfd, name, flags);
	return r;
}

static int trace_unlink(struct un_layer *l, int dirfd, const char *name, int flags)
{
	int r = inner(l)->ops->unlink(inner(l), dirfd, name, flags);

	trace(l, r, "unlink(%d, \"%s\", %#x)", dirfd, name, flags);
	return r;
}

static int trace_chown(struct un_layer *l, int dirfd, const char *name, uid_t uid, gid_t gid)
{
	int r = inner(l)->ops->chown(inner(l), dirfd, name, uid, gid);

	trace(l, r, "chown(%d, \"%s\", %d, %d)", dirfd, name, (int)uid, (int)gid);
	return r;
}

static int trace_chmod(struct un_layer *l, int dirfd, const char *name, mode_t mode)
{
	int r = inner(l)->ops->chmod(inner(l), dirfd, name, mode);

	trace(l, r, "chmod(%d, \"%s\", %#o)", dirfd, name, mode);
	return r;
}

static int trace_utimens(struct un_layer *l, int dirfd, const char *name,
			 const struct timespec ts[2])
{
	int r = inner(l)->ops->utimens(inner(l), dirfd, name, ts);

	trace(l, r, "utimens(%d, \"%s\", %jd.%09ld, %jd.%09ld)", dirfd, name,
	      (intmax_t)ts[0].tv_sec, ts[0].tv_nsec, (intmax_t)ts[1].tv_sec, ts[1].tv_nsec);
	return r;
}

static int trace_truncate(struct un_layer *l, int fd, off_t size)
{
	int r = inner(l)->ops->truncate(inner(l), fd, size);

	trace(l, r, "truncate(%d, %jd)", fd, (intmax_t)size);
	return r;
}

static ssize_t trace_pwrite(struct un_layer *l, int fd, const void *buf, size_t size, off_t off)
{
	ssize_t n = inner(l)->ops->pwrite(inner(l), fd, buf, size, off);

	trace(l, n, "pwrite(%d, %zu at %jd)", fd, size, (intmax_t)off);
	return n;
}

static int trace_clone(struct un_layer *l, int fd, int from)
{
	int r = inner(l)->ops->clone(inner(l), fd, from);

	trace(l, r, "clone(%d, from %d)", fd, from);
	return r;
}

static ssize_t trace_copy_range(struct un_layer *l, int from, off_t from_off, int fd, off_t off,
				size_t size)
{
	ssize_t n = inner(l)->ops->copy_range(inner(l), from, from_off, fd, off, size);

	trace(l, n, "copy_range(%d at %jd, %d at %jd, %zu)", from, (intmax_t)from_off, fd,
	      (intmax_t)off, size);
	return n;
}

static int trace_fallocate(struct un_layer *l, int fd, int mode, off_t off, off_t len)
{
	int r = inner(l)->ops->fallocate(inner(l), fd, mode, off, len);

	trace(l, r, "fallocate(%d, %#x, %jd, %jd)", fd, mode, (intmax_t)off, (intmax_t)len);
	return r;
}

static int trace_fsync(struct un_layer *l, int fd, bool data_only)
{
	int r = inner(l)->ops->fsync(inner(l), fd, data_only);

	trace(l, r, "%s(%d)", data_only ? "fdatasync" : "fsync", fd);
	return r;
}

static int trace_flush_range(struct un_layer *l, int fd, off_t off, off_t size, bool wait)
{
	int r = inner(l)->ops->flush_range(inner(l), fd, off, size, wait);

	trace(l, r, "flush_range(%d, %jd, %jd%s)", fd, (intmax_t)off, (intmax_t)size,
	      wait ? ", wait" : "");
	return r;
}

static int trace_wb_error(struct un_layer *l, int fd)
{
	return inner(l)->ops->wb_error(inner(l), fd);
}

static off_t trace_seek(struct un_layer *l, int fd, off_t off, int whence)
{
	return inner(l)->ops->seek(inner(l), fd, off, whence);
}

static int trace_statfs(struct un_layer *l, struct statvfs *ret)
{
	return inner(l)->ops->statfs(inner(l), ret);
}

static int trace_xflags(struct un_layer *l, int dirfd, const char *name, uint64_t *ret)
{
	return inner(l)->ops->xflags(inner(l), dirfd, name, ret);
}

static int trace_handle(struct un_layer *l, int dirfd, const char *name, struct file_handle *ret)
{
	return inner(l)->ops->handle(inner(l), dirfd, name, ret);
}

static int trace_open_handle(struct un_layer *l, struct file_handle *handle)
{
	return inner(l)->ops->open_handle(inner(l), handle);
}

static int trace_ioctl(struct un_layer *l, int fd, unsigned long cmd, void *arg)
{
	int r = inner(l)->ops->ioctl(inner(l), fd, cmd, arg);

	if (un_layer_ioctl_changes(cmd))
		trace(l, r, "ioctl(%d, %#lx)", fd, cmd);
	return r;
}

static const struct un_layer_ops trace_ops = {
	.open = trace_open,
	.stat = trace_stat,
	.has = trace_has,
	.readlink = trace_readlink,
	.getxattr = trace_getxattr,
	.listxattr = trace_listxattr,
	.getdents = trace_getdents,
	.pread = trace_pread,
	.pread_cached = trace_pread_cached,
	.is_cached = trace_is_cached,
	.will_need = trace_will_need,
	.seek = trace_seek,
	.statfs = trace_statfs,
	.xflags = trace_xflags,
	.handle = trace_handle,
	.open_handle = trace_open_handle,
	.ioctl = trace_ioctl,
	.setxattr = trace_setxattr,
	.removexattr = trace_removexattr,
	.mkdir = trace_mkdir,
	.mknod = trace_mknod,
	.symlink = trace_symlink,
	.link = trace_link,
	.rename = trace_rename,
	.unlink = trace_unlink,
	.chown = trace_chown,
	.chmod = trace_chmod,
	.utimens = trace_utimens,
	.truncate = trace_truncate,
	.pwrite = trace_pwrite,
	.clone = trace_clone,
	.copy_range = trace_copy_range,
	.fallocate = trace_fallocate,
	.fsync = trace_fsync,
	.flush_range = trace_flush_range,
	.wb_error = trace_wb_error,
};

void un_layer_trace(struct un_layer *l)
{
	struct trace *t = g_new0(struct trace, 1);

	t->inner = *l;
	l->ops = &trace_ops;
	l->ops_data = t;
}
