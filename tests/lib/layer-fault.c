/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer-fault.h"

#include <fcntl.h>
#include <glib.h>

#include "util/err.h"

/* See layer-trace.c: begins with the layer as it was. */
struct fault {
	struct un_layer inner;
	struct un_fault *f;
};

static inline struct un_layer *inner(struct un_layer *l)
{
	return &((struct fault *)l->ops_data)->inner;
}

/* 0, or what the caller shall return instead of doing anything. */
static int count(struct un_fault *f)
{
	__atomic_add_fetch(&f->calls, 1, __ATOMIC_RELAXED);
	if (f->hit && f->lasting)
		return -f->err;
	if (__atomic_load_n(&f->countdown, __ATOMIC_RELAXED) <= 0)
		return 0;
	if (__atomic_sub_fetch(&f->countdown, 1, __ATOMIC_RELAXED) != 0)
		return 0;
	f->hit = true;
	return -f->err;
}

static int trip(struct un_layer *l, bool changes)
{
	struct un_fault *f = ((struct fault *)l->ops_data)->f;

	if ((f->changes_only && !changes) || f->stats_only)
		return 0;
	return count(f);
}

static int trip_stat(struct un_layer *l)
{
	struct un_fault *f = ((struct fault *)l->ops_data)->f;

	return f->changes_only ? 0 : count(f);
}

/* Parameter lists and argument lists without the layer. */
#define FAULT(type, op, changes, params, args)                                                     \
	static type fault_##op params                                                              \
	{                                                                                          \
		int r = trip(l, changes);                                                          \
                                                                                                   \
		if (r < 0)                                                                         \
			return r;                                                                  \
		return inner(l)->ops->op args;                                                     \
	}

FAULT(int, open, (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE,
      (struct un_layer * l, int dirfd, const char *name, int flags, mode_t mode),
      (inner(l), dirfd, name, flags, mode))
static int fault_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret)
{
	int r = trip_stat(l);

	return r < 0 ? r : inner(l)->ops->stat(inner(l), dirfd, name, ret);
}

FAULT(int, has, false, (struct un_layer * l, int dirfd, const char *dir, const char *name),
      (inner(l), dirfd, dir, name))
FAULT(ssize_t, readlink, false,
      (struct un_layer * l, int dirfd, const char *name, char *buf, size_t size),
      (inner(l), dirfd, name, buf, size))
FAULT(ssize_t, getxattr, false,
      (struct un_layer * l, int dirfd, const char *name, const char *xattr, void *buf, size_t size),
      (inner(l), dirfd, name, xattr, buf, size))
FAULT(ssize_t, listxattr, false,
      (struct un_layer * l, int dirfd, const char *name, char *buf, size_t size),
      (inner(l), dirfd, name, buf, size))
FAULT(ssize_t, getdents, false, (struct un_layer * l, int fd, void *buf, size_t size),
      (inner(l), fd, buf, size))
FAULT(ssize_t, pread, false, (struct un_layer * l, int fd, void *buf, size_t size, off_t off),
      (inner(l), fd, buf, size, off))
FAULT(ssize_t, pread_cached, false,
      (struct un_layer * l, int fd, void *buf, size_t size, off_t off),
      (inner(l), fd, buf, size, off))
FAULT(int, is_cached, false, (struct un_layer * l, int fd), (inner(l), fd))
FAULT(int, will_need, false, (struct un_layer * l, int fd, off_t off, off_t size),
      (inner(l), fd, off, size))
FAULT(int, setxattr, true,
      (struct un_layer * l, int dirfd, const char *name, const char *xattr, const void *value,
       size_t size, int flags),
      (inner(l), dirfd, name, xattr, value, size, flags))
FAULT(int, removexattr, true, (struct un_layer * l, int dirfd, const char *name, const char *xattr),
      (inner(l), dirfd, name, xattr))
FAULT(int, mkdir, true, (struct un_layer * l, int dirfd, const char *name, mode_t mode),
      (inner(l), dirfd, name, mode))
FAULT(int, mknod, true, (struct un_layer * l, int dirfd, const char *name, mode_t mode, dev_t rdev),
      (inner(l), dirfd, name, mode, rdev))
FAULT(int, symlink, true, (struct un_layer * l, const char *target, int dirfd, const char *name),
      (inner(l), target, dirfd, name))
FAULT(int, link, true,
      (struct un_layer * l, int from_dirfd, const char *from, int dirfd, const char *name),
      (inner(l), from_dirfd, from, dirfd, name))
FAULT(int, rename, true,
      (struct un_layer * l, int from_dirfd, const char *from, int dirfd, const char *name,
       unsigned flags),
      (inner(l), from_dirfd, from, dirfd, name, flags))
FAULT(int, unlink, true, (struct un_layer * l, int dirfd, const char *name, int flags),
      (inner(l), dirfd, name, flags))
FAULT(int, chown, true, (struct un_layer * l, int dirfd, const char *name, uid_t uid, gid_t gid),
      (inner(l), dirfd, name, uid, gid))
FAULT(int, chmod, true, (struct un_layer * l, int dirfd, const char *name, mode_t mode),
      (inner(l), dirfd, name, mode))
FAULT(int, utimens, true,
      (struct un_layer * l, int dirfd, const char *name, const struct timespec ts[2]),
      (inner(l), dirfd, name, ts))
FAULT(int, truncate, true, (struct un_layer * l, int fd, off_t size), (inner(l), fd, size))
FAULT(ssize_t, pwrite, true, (struct un_layer * l, int fd, const void *buf, size_t size, off_t off),
      (inner(l), fd, buf, size, off))
FAULT(int, clone, true, (struct un_layer * l, int fd, int from), (inner(l), fd, from))
FAULT(ssize_t, copy_range, true,
      (struct un_layer * l, int from, off_t from_off, int fd, off_t off, size_t size),
      (inner(l), from, from_off, fd, off, size))
FAULT(int, fallocate, true, (struct un_layer * l, int fd, int mode, off_t off, off_t len),
      (inner(l), fd, mode, off, len))
FAULT(off_t, seek, false, (struct un_layer * l, int fd, off_t off, int whence),
      (inner(l), fd, off, whence))
FAULT(int, statfs, false, (struct un_layer * l, struct statvfs *ret), (inner(l), ret))
FAULT(int, xflags, false, (struct un_layer * l, int dirfd, const char *name, uint64_t *ret),
      (inner(l), dirfd, name, ret))
FAULT(int, handle, false,
      (struct un_layer * l, int dirfd, const char *name, struct file_handle *ret),
      (inner(l), dirfd, name, ret))
FAULT(int, open_handle, false, (struct un_layer * l, struct file_handle *handle),
      (inner(l), handle))
FAULT(int, ioctl, un_layer_ioctl_changes(cmd),
      (struct un_layer * l, int fd, unsigned long cmd, void *arg), (inner(l), fd, cmd, arg))
FAULT(int, fsync, true, (struct un_layer * l, int fd, bool data_only), (inner(l), fd, data_only))
FAULT(int, flush_range, true, (struct un_layer * l, int fd, off_t off, off_t size, bool wait),
      (inner(l), fd, off, size, wait))
FAULT(int, wb_error, false, (struct un_layer * l, int fd), (inner(l), fd))

static const struct un_layer_ops fault_ops = {
	.open = fault_open,
	.stat = fault_stat,
	.has = fault_has,
	.readlink = fault_readlink,
	.getxattr = fault_getxattr,
	.listxattr = fault_listxattr,
	.getdents = fault_getdents,
	.pread = fault_pread,
	.pread_cached = fault_pread_cached,
	.is_cached = fault_is_cached,
	.will_need = fault_will_need,
	.seek = fault_seek,
	.statfs = fault_statfs,
	.xflags = fault_xflags,
	.handle = fault_handle,
	.open_handle = fault_open_handle,
	.ioctl = fault_ioctl,
	.setxattr = fault_setxattr,
	.removexattr = fault_removexattr,
	.mkdir = fault_mkdir,
	.mknod = fault_mknod,
	.symlink = fault_symlink,
	.link = fault_link,
	.rename = fault_rename,
	.unlink = fault_unlink,
	.chown = fault_chown,
	.chmod = fault_chmod,
	.utimens = fault_utimens,
	.truncate = fault_truncate,
	.pwrite = fault_pwrite,
	.clone = fault_clone,
	.copy_range = fault_copy_range,
	.fallocate = fault_fallocate,
	.fsync = fault_fsync,
	.flush_range = fault_flush_range,
	.wb_error = fault_wb_error,
};

void un_layer_fault(struct un_layer *l, struct un_fault *f)
{
	struct fault *d = g_new0(struct fault, 1);

	d->inner = *l;
	d->f = f;
	l->ops = &fault_ops;
	l->ops_data = d;
}

void un_layer_unfault(struct un_layer *l)
{
	struct fault *d = l->ops_data;

	g_assert(l->ops == &fault_ops);
	l->ops = d->inner.ops;
	l->ops_data = d->inner.ops_data;
	g_free(d);
}
