/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer-recorder.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

static struct un_layer *inner(struct un_layer *l)
{
	return &((struct recorder *)l->ops_data)->inner;
}

static bool armed(struct un_layer *l)
{
	return !((struct recorder *)l->ops_data)->f->hit;
}

static void hit(struct un_layer *l, bool was_armed, const char *op, const char *a, const char *b,
		unsigned flags)
{
	struct recorder *rec = l->ops_data;

	if (!was_armed || !rec->f->hit)
		return;
	g_strlcpy(rec->op, op, sizeof(rec->op));
	/* A stage name without the mount's id, which is another each time. */
	if (*a == '#')
		a = strpbrk(a, "-.") ? "#staged" : "#";
	if (*b == '#')
		b = strpbrk(b, "-.") ? "#staged" : "#";
	snprintf(rec->what, sizeof(rec->what), "%s(%s%s%s%s%.0x)", op, a, *b ? ", " : "", b,
		 flags ? ", flags " : "", flags);
}

#define RECORD(type, op, a, b, flags, params, args)                                                \
	static type rec_##op params                                                                \
	{                                                                                          \
		bool was = armed(l);                                                               \
		type r = inner(l)->ops->op args;                                                   \
                                                                                                   \
		hit(l, was, #op, a, b, flags);                                                     \
		return r;                                                                          \
	}

RECORD(int, open, name, "", (unsigned)how,
       (struct un_layer * l, int dirfd, const char *name, int how, mode_t mode),
       (inner(l), dirfd, name, how, mode))
RECORD(int, stat, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, struct statx *ret),
       (inner(l), dirfd, name, ret))
RECORD(int, has, dir, name, 0,
       (struct un_layer * l, int dirfd, const char *dir, const char *name),
       (inner(l), dirfd, dir, name))
RECORD(ssize_t, readlink, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, char *buf, size_t size),
       (inner(l), dirfd, name, buf, size))
RECORD(ssize_t, getxattr, name, xattr, 0,
       (struct un_layer * l, int dirfd, const char *name, const char *xattr, void *buf,
	size_t size),
       (inner(l), dirfd, name, xattr, buf, size))
RECORD(ssize_t, listxattr, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, char *buf, size_t size),
       (inner(l), dirfd, name, buf, size))
RECORD(ssize_t, getdents, "", "", 0, (struct un_layer * l, int fd, void *buf, size_t size),
       (inner(l), fd, buf, size))
RECORD(ssize_t, pread, "", "", 0, (struct un_layer * l, int fd, void *buf, size_t size, off_t off),
       (inner(l), fd, buf, size, off))
RECORD(ssize_t, pread_cached, "", "", 0,
       (struct un_layer * l, int fd, void *buf, size_t size, off_t off),
       (inner(l), fd, buf, size, off))
RECORD(int, is_cached, "", "", 0, (struct un_layer * l, int fd), (inner(l), fd))
RECORD(int, will_need, "", "", 0, (struct un_layer * l, int fd, off_t off, off_t size),
       (inner(l), fd, off, size))
RECORD(int, setxattr, name, xattr, 0,
       (struct un_layer * l, int dirfd, const char *name, const char *xattr, const void *value,
	size_t size, int how),
       (inner(l), dirfd, name, xattr, value, size, how))
RECORD(int, removexattr, name, xattr, 0,
       (struct un_layer * l, int dirfd, const char *name, const char *xattr),
       (inner(l), dirfd, name, xattr))
RECORD(int, mkdir, name, "", 0, (struct un_layer * l, int dirfd, const char *name, mode_t mode),
       (inner(l), dirfd, name, mode))
RECORD(int, mknod, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, mode_t mode, dev_t rdev),
       (inner(l), dirfd, name, mode, rdev))
RECORD(int, symlink, target, name, 0,
       (struct un_layer * l, const char *target, int dirfd, const char *name),
       (inner(l), target, dirfd, name))
RECORD(int, link, from, name, 0,
       (struct un_layer * l, int from_dirfd, const char *from, int dirfd, const char *name),
       (inner(l), from_dirfd, from, dirfd, name))
RECORD(int, rename, from, name, how,
       (struct un_layer * l, int from_dirfd, const char *from, int dirfd, const char *name,
	unsigned how),
       (inner(l), from_dirfd, from, dirfd, name, how))
RECORD(int, unlink, name, "", (unsigned)how,
       (struct un_layer * l, int dirfd, const char *name, int how), (inner(l), dirfd, name, how))
RECORD(int, chown, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, uid_t uid, gid_t gid),
       (inner(l), dirfd, name, uid, gid))
RECORD(int, chmod, name, "", 0, (struct un_layer * l, int dirfd, const char *name, mode_t mode),
       (inner(l), dirfd, name, mode))
RECORD(int, utimens, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, const struct timespec ts[2]),
       (inner(l), dirfd, name, ts))
RECORD(int, truncate, "", "", 0, (struct un_layer * l, int fd, off_t size), (inner(l), fd, size))
RECORD(ssize_t, pwrite, "", "", 0,
       (struct un_layer * l, int fd, const void *buf, size_t size, off_t off),
       (inner(l), fd, buf, size, off))
RECORD(int, clone, "", "", 0, (struct un_layer * l, int fd, int from), (inner(l), fd, from))
RECORD(ssize_t, copy_range, "", "", 0,
       (struct un_layer * l, int from, off_t from_off, int fd, off_t off, size_t size),
       (inner(l), from, from_off, fd, off, size))
RECORD(int, fallocate, "", "", 0, (struct un_layer * l, int fd, int mode, off_t off, off_t len),
       (inner(l), fd, mode, off, len))
RECORD(off_t, seek, "", "", 0, (struct un_layer * l, int fd, off_t off, int whence),
       (inner(l), fd, off, whence))
RECORD(int, statfs, "", "", 0, (struct un_layer * l, struct statvfs *ret), (inner(l), ret))
RECORD(int, xflags, name, "", 0, (struct un_layer * l, int dirfd, const char *name, uint64_t *ret),
       (inner(l), dirfd, name, ret))
RECORD(int, handle, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, struct file_handle *ret),
       (inner(l), dirfd, name, ret))
RECORD(int, open_handle, "", "", 0, (struct un_layer * l, struct file_handle *handle),
       (inner(l), handle))
RECORD(int, ioctl, "", "", (unsigned)cmd,
       (struct un_layer * l, int fd, unsigned long cmd, void *arg), (inner(l), fd, cmd, arg))
RECORD(int, fsync, "", "", 0, (struct un_layer * l, int fd, bool data_only),
       (inner(l), fd, data_only))

RECORD(int, flush_range, "", "", 0, (struct un_layer * l, int fd, off_t off, off_t size, bool wait),
       (inner(l), fd, off, size, wait))

static int rec_wb_error(struct un_layer *l, int fd)
{
	return inner(l)->ops->wb_error(inner(l), fd);
}

static const struct un_layer_ops recorder_ops = {
	.open = rec_open,
	.stat = rec_stat,
	.has = rec_has,
	.readlink = rec_readlink,
	.getxattr = rec_getxattr,
	.listxattr = rec_listxattr,
	.getdents = rec_getdents,
	.pread = rec_pread,
	.pread_cached = rec_pread_cached,
	.is_cached = rec_is_cached,
	.will_need = rec_will_need,
	.seek = rec_seek,
	.statfs = rec_statfs,
	.xflags = rec_xflags,
	.handle = rec_handle,
	.open_handle = rec_open_handle,
	.ioctl = rec_ioctl,
	.setxattr = rec_setxattr,
	.removexattr = rec_removexattr,
	.mkdir = rec_mkdir,
	.mknod = rec_mknod,
	.symlink = rec_symlink,
	.link = rec_link,
	.rename = rec_rename,
	.unlink = rec_unlink,
	.chown = rec_chown,
	.chmod = rec_chmod,
	.utimens = rec_utimens,
	.truncate = rec_truncate,
	.pwrite = rec_pwrite,
	.clone = rec_clone,
	.copy_range = rec_copy_range,
	.fallocate = rec_fallocate,
	.fsync = rec_fsync,
	.flush_range = rec_flush_range,
	.wb_error = rec_wb_error,
};

void un_layer_record(struct un_layer *l, struct recorder *rec, struct un_fault *f)
{
	rec->op[0] = rec->what[0] = '\0';
	rec->inner = *l;
	rec->f = f;
	l->ops = &recorder_ops;
	l->ops_data = rec;
}

void un_layer_unrecord(struct un_layer *l, const struct recorder *rec)
{
	l->ops = rec->inner.ops;
	l->ops_data = rec->inner.ops_data;
}
