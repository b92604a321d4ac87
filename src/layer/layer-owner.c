/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A decorator that shows other owners than the inodes have, and with an override other modes and
 * kinds (include/layer/owner.h). Below it ids are as stored, above it as shown.
 *
 * What an override keeps true of each object of an upper:
 *
 *   (1) the mode in the xattr, or without one that of the inode, is what was asked for last; on the
 *       way from one to the other nothing else is shown (but see write_override()).
 *   (2) the real mode lets the daemon in, and gives others no more than everybody has anyway.
 *
 * New objects break (1) until they are complete: object/stage.c makes them in the work directory.
 */
#include "layer/owner.h"

#include "util/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SECURITY_XATTR "security.fuseoverlayfs.override_stat"
#define USER_XATTR "user.containers.override_stat"
#define OLD_USER_XATTR "user.fuseoverlayfs.override_stat"
#define ACL_ACCESS "system.posix_acl_access"
#define ACL_PREFIX "system.posix_acl_"

struct owned {
	struct un_layer inner; /* first: un_layers_close() takes decorators apart */
	const struct un_owners *o;
	const char *xattr; /* with an override: its name in this layer, else NULL */
};

static inline struct owned *owned(struct un_layer *l)
{
	return l->ops_data;
}

/* ---- the xattr --------------------------------------------------------------------------------------- */

/* user.* is for directories and regular files. What a mountpoint carries is not the layer's. */
static bool may_carry(const struct owned *w, const struct statx *st)
{
	if (un_stx_is_mountpoint(st) || un_stx_is_covered(st))
		return false;
	return g_str_has_prefix(w->xattr, "security.") || S_ISREG(st->stx_mode) ||
	       S_ISDIR(st->stx_mode);
}

/* *ret: owner and mode, 1: from the xattr; 0: there is none, from the inode; or -errno. */
static int get_override(struct owned *w, int dirfd, const char *name, const struct statx *st,
			struct un_override_stat *ret)
{
	char value[UN_OVERRIDE_MAX];
	ssize_t n = -ENODATA;

	*ret = (struct un_override_stat){ st->stx_uid, st->stx_gid, st->stx_mode & 07777, 0, 0 };
	if (may_carry(w, st))
		n = w->inner.ops->getxattr(&w->inner, dirfd, name, w->xattr, value, sizeof(value));
	/* A lower's file that its mode closes to the daemon: its data is closed as well. */
	if (n == -ENODATA || n == -ENOTSUP || n == -EACCES || n == -EPERM)
		return 0;
	if (n < 0 && n != -ERANGE)
		return (int)n;
	/* What cannot be understood gives no rights; it can still be removed, or be given a mode. */
	if (n == -ERANGE || un_override_parse(value, (size_t)n, ret) < 0)
		ret->mode = 0;
	return 1;
}

/* Type, mode and ids as the override says. */
static int apply_override(struct owned *w, int dirfd, const char *name, struct statx *st)
{
	struct un_override_stat o;
	mode_t type = st->stx_mode & S_IFMT;
	int r = get_override(w, dirfd, name, st, &o);

	if (r <= 0)
		return r;
	st->stx_uid = o.uid;
	st->stx_gid = o.gid;
	/* A device 0:0 would be a whiteout, of which there is the real form. */
	if (S_ISREG(type) && (o.mode & S_IFMT) &&
	    !((o.mode & S_IFMT) == S_IFCHR && o.major == 0 && o.minor == 0)) {
		type = o.mode & S_IFMT;
		st->stx_rdev_major = o.major;
		st->stx_rdev_minor = o.minor;
		st->stx_size = 0;
	}
	st->stx_mode = (uint16_t)(S_ISLNK(type) ? st->stx_mode : type | (o.mode & 07777));
	return 0;
}

/* A file that its own mode closes to the daemon takes no user.* xattr: for an instant it is open. */
static int write_override(struct owned *w, int dirfd, const char *name, const struct statx *st,
			  const struct un_override_stat *o)
{
	struct un_layer *in = &w->inner;
	char value[UN_OVERRIDE_MAX];
	size_t len = un_override_format(o, value);
	mode_t was = st->stx_mode & 07777;
	mode_t real = un_override_real_mode(st->stx_mode & S_IFMT, o->mode);
	int r = in->ops->setxattr(in, dirfd, name, w->xattr, value, len, 0);

	if (r == -EACCES && !(was & S_IWUSR) && !S_ISLNK(st->stx_mode)) {
		r = in->ops->chmod(in, dirfd, name, was | S_IWUSR);
		if (r == 0)
			r = in->ops->setxattr(in, dirfd, name, w->xattr, value, len, 0);
		if (r < 0)
			un_ignore(in->ops->chmod(in, dirfd, name, was));
	}
	if (r < 0 || S_ISLNK(st->stx_mode) || was == real)
		return r;
	return in->ops->chmod(in, dirfd, name, real);
}

/* Change ids (as stored) or mode in the xattr; -1: leave that alone. */
static int set_override(struct un_layer *l, int dirfd, const char *name, uid_t uid, gid_t gid,
			int mode)
{
	struct owned *w = owned(l);
	struct un_override_stat o;
	struct statx st;
	int r = w->inner.ops->stat(&w->inner, dirfd, name, &st);

	if (r == 0)
		r = get_override(w, dirfd, name, &st, &o);
	if (r < 0)
		return r;
	if (!may_carry(w, &st)) {
		r = mode >= 0 ? w->inner.ops->chmod(&w->inner, dirfd, name, (mode_t)mode)
			      : w->inner.ops->chown(&w->inner, dirfd, name, uid, gid);
		/* The owner of a symlink decides nothing: kept if it can be. */
		return S_ISLNK(st.stx_mode) && (r == -EPERM || r == -EINVAL) ? 0 : r;
	}
	o.uid = uid == (uid_t)-1 ? o.uid : uid;
	o.gid = gid == (gid_t)-1 ? o.gid : gid;
	if (mode >= 0)
		o.mode = (o.mode & S_IFMT) | ((mode_t)mode & 07777);
	/* As chown(2): also where nothing changes, and whoever does it. */
	else if (!S_ISDIR(st.stx_mode))
		o.mode &= ~(mode_t)(o.mode & S_IXGRP ? S_ISUID | S_ISGID : S_ISUID);
	r = write_override(w, dirfd, name, &st, &o);
	if (r == 0 && mode < 0 && !S_ISDIR(st.stx_mode))
		un_ignore(w->inner.ops->removexattr(&w->inner, dirfd, name, "security.capability"));
	return r;
}

/* Just made, with the mode that umask or a default ACL left: that is what will be shown. */
static int adopt(struct un_layer *l, int dirfd, const char *name, mode_t type, dev_t rdev)
{
	struct owned *w = owned(l);
	struct statx st;
	struct un_override_stat o;
	int r = w->inner.ops->stat(&w->inner, dirfd, name, &st);

	if (r < 0 || !may_carry(w, &st))
		return r;
	o = (struct un_override_stat){ st.stx_uid, st.stx_gid, type | (st.stx_mode & 07777),
				       major(rdev), minor(rdev) };
	return write_override(w, dirfd, name, &st, &o);
}

/* ---- stat, chown, chmod ------------------------------------------------------------------------------ */

int un_layer_owner_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret)
{
	struct owned *w = owned(l);
	int r = w->inner.ops->stat(&w->inner, dirfd, name, ret);

	return r == 0 && w->xattr ? apply_override(w, dirfd, name, ret) : r;
}

static int owner_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret)
{
	int r = un_layer_owner_stat(l, dirfd, name, ret);

	if (r == 0) {
		ret->stx_uid = un_owners_show_uid(owned(l)->o, ret->stx_uid);
		ret->stx_gid = un_owners_show_gid(owned(l)->o, ret->stx_gid);
	}
	return r;
}

int un_layer_owner_chown(struct un_layer *l, int dirfd, const char *name, uid_t uid, gid_t gid)
{
	struct owned *w = owned(l);
	int r;

	if (w->xattr)
		return set_override(l, dirfd, name, uid, gid, -1);
	r = w->inner.ops->chown(&w->inner, dirfd, name, uid, gid);
	/* An id that nobody sees is kept if it can be. */
	if ((r == -EPERM || r == -EINVAL) && (w->o->squash_uid || w->o->squash_gid))
		r = w->inner.ops->chown(&w->inner, dirfd, name, w->o->squash_uid ? (uid_t)-1 : uid,
					w->o->squash_gid ? (gid_t)-1 : gid);
	return r;
}

static int owner_chown(struct un_layer *l, int dirfd, const char *name, uid_t uid, gid_t gid)
{
	const struct un_owners *o = owned(l)->o;
	uid_t u = uid;
	gid_t g = gid;

	if (uid != (uid_t)-1 && !un_owners_store_uid(o, uid, &u) && !o->squash_uid)
		return -EOVERFLOW;
	if (gid != (gid_t)-1 && !un_owners_store_gid(o, gid, &g) && !o->squash_gid)
		return -EOVERFLOW;
	return un_layer_owner_chown(l, dirfd, name, u, g);
}

static int owner_chmod(struct un_layer *l, int dirfd, const char *name, mode_t mode)
{
	struct owned *w = owned(l);

	if (w->xattr)
		return set_override(l, dirfd, name, (uid_t)-1, (gid_t)-1, (int)mode);
	return w->inner.ops->chmod(&w->inner, dirfd, name, mode);
}

/* ---- new objects ------------------------------------------------------------------------------------- */

static int owner_open(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode)
{
	struct owned *w = owned(l);
	bool tmp = (flags & O_TMPFILE) == O_TMPFILE, made = tmp || (flags & O_EXCL);
	int fd = w->inner.ops->open(&w->inner, dirfd, name, flags, mode);
	int r = fd >= 0 && w->xattr && made ? adopt(l, fd, "", 0, 0) : 0;

	if (r < 0) {
		if (!tmp)
			un_ignore(w->inner.ops->unlink(&w->inner, dirfd, name, 0));
		close(fd);
	}
	return r < 0 ? r : fd;
}

/* @r: of making it; @flags: of taking it away. */
static int made(struct un_layer *l, int dirfd, const char *name, mode_t type, dev_t rdev, int r,
		int flags)
{
	struct owned *w = owned(l);

	if (r < 0 || !w->xattr)
		return r;
	r = adopt(l, dirfd, name, type, rdev);
	if (r < 0)
		un_ignore(w->inner.ops->unlink(&w->inner, dirfd, name, flags));
	return r;
}

static int owner_mkdir(struct un_layer *l, int dirfd, const char *name, mode_t mode)
{
	struct un_layer *in = &owned(l)->inner;
	int r = in->ops->mkdir(in, dirfd, name, mode);

	return made(l, dirfd, name, 0, 0, r, AT_REMOVEDIR);
}

static int owner_mknod(struct un_layer *l, int dirfd, const char *name, mode_t mode, dev_t rdev)
{
	struct owned *w = owned(l);
	mode_t type = S_ISREG(mode) ? 0 : mode & S_IFMT;

	/* A whiteout, which has no owner. */
	if (!w->xattr || (S_ISCHR(mode) && rdev == 0))
		return w->inner.ops->mknod(&w->inner, dirfd, name, mode, rdev);
	return made(l, dirfd, name, type, rdev,
		    w->inner.ops->mknod(&w->inner, dirfd, name, S_IFREG | (mode & 07777), 0), 0);
}

static int owner_symlink(struct un_layer *l, const char *target, int dirfd, const char *name)
{
	struct un_layer *in = &owned(l)->inner;

	return made(l, dirfd, name, 0, 0, in->ops->symlink(in, target, dirfd, name), 0);
}

/* ---- xattrs ------------------------------------------------------------------------------------------ */

bool un_layer_owner_hides(const struct un_owners *o, const char *xattr)
{
	return o->override != UN_OVERRIDE_NONE &&
	       (strcmp(xattr, SECURITY_XATTR) == 0 || strcmp(xattr, USER_XATTR) == 0 ||
		strcmp(xattr, OLD_USER_XATTR) == 0);
}

static ssize_t owner_getxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			      void *buf, size_t size)
{
	struct owned *w = owned(l);
	struct statx st;
	ssize_t n;
	int r;

	if (un_layer_owner_hides(w->o, xattr))
		return -ENODATA;
	n = w->inner.ops->getxattr(&w->inner, dirfd, name, xattr, buf, size);
	if (n <= 0 || size == 0 || !g_str_has_prefix(xattr, ACL_PREFIX))
		return n;
	if (w->xattr && strcmp(xattr, ACL_ACCESS) == 0) {
		r = un_layer_owner_stat(l, dirfd, name, &st);
		if (r < 0)
			return r;
		un_acl_set_mode(buf, (size_t)n, st.stx_mode);
	}
	un_owners_show_acl(w->o, buf, (size_t)n);
	return n;
}

static ssize_t owner_listxattr(struct un_layer *l, int dirfd, const char *name, char *buf,
			       size_t size)
{
	struct owned *w = owned(l);
	ssize_t n = w->inner.ops->listxattr(&w->inner, dirfd, name, buf, size), kept = 0;

	if (n <= 0 || size == 0 || !w->xattr)
		return n;
	for (ssize_t at = 0, len; at < n; at += len) {
		len = (ssize_t)strlen(buf + at) + 1;
		if (un_layer_owner_hides(w->o, buf + at))
			continue;
		memmove(buf + kept, buf + at, (size_t)len);
		kept += len;
	}
	return kept;
}

static int owner_setxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			  const void *value, size_t size, int flags)
{
	struct owned *w = owned(l);
	struct un_layer *in = &w->inner;
	g_autofree void *acl = NULL;
	struct statx st;
	int mode, r;

	if (un_layer_owner_hides(w->o, xattr))
		return -EPERM;
	if (!g_str_has_prefix(xattr, ACL_PREFIX) || size == 0)
		return in->ops->setxattr(in, dirfd, name, xattr, value, size, flags);
	acl = g_memdup2(value, size);
	r = un_owners_store_acl(w->o, acl, size);
	mode = w->xattr && strcmp(xattr, ACL_ACCESS) == 0 ? un_acl_get_mode(value, size) : -1;
	if (r < 0 || mode < 0)
		return r < 0 ? r : in->ops->setxattr(in, dirfd, name, xattr, acl, size, flags);
	/* Its entries for owner, mask and others are shown as the mode in the xattr has them. */
	r = un_layer_owner_stat(l, dirfd, name, &st);
	if (r < 0)
		return r;
	un_acl_set_mode(acl, size, un_override_real_mode(st.stx_mode & S_IFMT, (mode_t)mode));
	r = in->ops->setxattr(in, dirfd, name, xattr, acl, size, flags);
	return r < 0 ? r
		     : set_override(l, dirfd, name, (uid_t)-1, (gid_t)-1,
				    (st.stx_mode & 07000) | mode);
}

static int owner_removexattr(struct un_layer *l, int dirfd, const char *name, const char *xattr)
{
	struct un_layer *in = &owned(l)->inner;

	if (un_layer_owner_hides(owned(l)->o, xattr))
		return -ENODATA;
	return in->ops->removexattr(in, dirfd, name, xattr);
}

/* A regular file may stand for something else: whoever wants to know has to look. */
static ssize_t owner_getdents(struct un_layer *l, int fd, void *buf, size_t size)
{
	struct owned *w = owned(l);
	ssize_t n = w->inner.ops->getdents(&w->inner, fd, buf, size);

	for (ssize_t at = 0; w->xattr && at < n;) {
		struct dirent64 *de = (struct dirent64 *)(void *)((char *)buf + at);

		if (de->d_type == DT_REG)
			de->d_type = DT_UNKNOWN;
		at += de->d_reclen;
	}
	return n;
}

/* ---- everything else is passed on -------------------------------------------------------------------- */

#define PASS(type, op, params, args)                                                               \
	static type owner_##op params                                                              \
	{                                                                                          \
		struct un_layer *in = &owned(l)->inner;                                            \
                                                                                                   \
		return in->ops->op args;                                                           \
	}

/* clang-format off */
PASS(int, has, (struct un_layer *l, int dirfd, const char *dir, const char *name),
     (in, dirfd, dir, name))
PASS(ssize_t, readlink, (struct un_layer *l, int dirfd, const char *name, char *buf, size_t size),
     (in, dirfd, name, buf, size))
PASS(ssize_t, pread, (struct un_layer *l, int fd, void *buf, size_t size, off_t off),
     (in, fd, buf, size, off))
PASS(ssize_t, pread_cached,
     (struct un_layer *l, int fd, void *buf, size_t size, off_t off), (in, fd, buf, size, off))
PASS(int, is_cached, (struct un_layer *l, int fd), (in, fd))
PASS(int, will_need, (struct un_layer *l, int fd, off_t off, off_t size), (in, fd, off, size))
PASS(off_t, seek, (struct un_layer *l, int fd, off_t off, int whence), (in, fd, off, whence))
PASS(int, statfs, (struct un_layer *l, struct statvfs *ret), (in, ret))
PASS(int, xflags, (struct un_layer *l, int dirfd, const char *name, uint64_t *ret),
     (in, dirfd, name, ret))
PASS(int, handle, (struct un_layer *l, int dirfd, const char *name, struct file_handle *ret),
     (in, dirfd, name, ret))
PASS(int, open_handle, (struct un_layer *l, struct file_handle *handle), (in, handle))
PASS(int, ioctl, (struct un_layer *l, int fd, unsigned long cmd, void *arg), (in, fd, cmd, arg))
PASS(int, link, (struct un_layer *l, int from_dirfd, const char *from, int dirfd, const char *name),
     (in, from_dirfd, from, dirfd, name))
PASS(int, rename, (struct un_layer *l, int from_dirfd, const char *from, int dirfd,
		   const char *name, unsigned flags),
     (in, from_dirfd, from, dirfd, name, flags))
PASS(int, unlink, (struct un_layer *l, int dirfd, const char *name, int flags),
     (in, dirfd, name, flags))
PASS(int, utimens, (struct un_layer *l, int dirfd, const char *name, const struct timespec ts[2]),
     (in, dirfd, name, ts))
PASS(int, truncate, (struct un_layer *l, int fd, off_t size), (in, fd, size))
PASS(ssize_t, pwrite, (struct un_layer *l, int fd, const void *buf, size_t size, off_t off),
     (in, fd, buf, size, off))
PASS(int, clone, (struct un_layer *l, int fd, int from), (in, fd, from))
PASS(ssize_t, copy_range, (struct un_layer *l, int from, off_t from_off, int fd, off_t off,
			   size_t size),
     (in, from, from_off, fd, off, size))
PASS(int, fallocate, (struct un_layer *l, int fd, int mode, off_t off, off_t len),
     (in, fd, mode, off, len))
PASS(int, fsync, (struct un_layer *l, int fd, bool data_only), (in, fd, data_only))
PASS(int, flush_range, (struct un_layer *l, int fd, off_t off, off_t size, bool wait),
     (in, fd, off, size, wait))
PASS(int, wb_error, (struct un_layer *l, int fd), (in, fd))
/* clang-format on */

static const struct un_layer_ops owner_ops = {
	.open = owner_open,
	.stat = owner_stat,
	.has = owner_has,
	.readlink = owner_readlink,
	.getxattr = owner_getxattr,
	.listxattr = owner_listxattr,
	.getdents = owner_getdents,
	.pread = owner_pread,
	.pread_cached = owner_pread_cached,
	.is_cached = owner_is_cached,
	.will_need = owner_will_need,
	.seek = owner_seek,
	.statfs = owner_statfs,
	.xflags = owner_xflags,
	.handle = owner_handle,
	.open_handle = owner_open_handle,
	.ioctl = owner_ioctl,
	.setxattr = owner_setxattr,
	.removexattr = owner_removexattr,
	.mkdir = owner_mkdir,
	.mknod = owner_mknod,
	.symlink = owner_symlink,
	.link = owner_link,
	.rename = owner_rename,
	.unlink = owner_unlink,
	.chown = owner_chown,
	.chmod = owner_chmod,
	.utimens = owner_utimens,
	.truncate = owner_truncate,
	.pwrite = owner_pwrite,
	.clone = owner_clone,
	.copy_range = owner_copy_range,
	.fallocate = owner_fallocate,
	.fsync = owner_fsync,
	.flush_range = owner_flush_range,
	.wb_error = owner_wb_error,
};

struct un_layer *un_layer_owner_raw(struct un_layer *l)
{
	/* With an override, ACLs are tied to the mode in the xattr. */
	return l->ops == &owner_ops && !owned(l)->xattr ? &owned(l)->inner : l;
}

/* Whoever wrote the layer has said on its root which xattr it is. */
static const char *name_in(struct un_layer *l, enum un_override override)
{
	static const char *const known[] = { SECURITY_XATTR, USER_XATTR, OLD_USER_XATTR };

	for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
		if (l->ops->getxattr(l, l->root, "", known[i], NULL, 0) > 0)
			return known[i];
	return override == UN_OVERRIDE_SECURITY ? SECURITY_XATTR : USER_XATTR;
}

int un_layer_owner(struct un_layer *l, const struct un_owners *o, bool writable)
{
	struct owned *w = g_new0(struct owned, 1);
	char value[UN_OVERRIDE_MAX];
	struct un_override_stat root;
	struct statx st;
	int r = 0;

	w->inner = *l;
	w->o = o;
	if (o->override != UN_OVERRIDE_NONE)
		w->xattr = name_in(l, o->override);
	if (w->xattr && writable) {
		r = l->ops->stat(l, l->root, "", &st);
		if (r == 0)
			r = get_override(w, l->root, "", &st, &root);
		/* Written again: what can be read need not be what can be written. */
		if (r >= 0)
			r = l->ops->setxattr(l, l->root, "", w->xattr, value,
					     un_override_format(&root, value), 0);
	}
	if (r < 0) {
		g_free(w);
		return r;
	}
	l->ops = &owner_ops;
	l->ops_data = w;
	return 0;
}
