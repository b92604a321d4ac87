/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes of objects by name, which the system has calls for since 6.13 only. */
#include "layer-posix_i.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "util/err.h"
#include "util/log.h"

/* Where there are no xattrs at all, a file that cannot answer has none. */
static ssize_t without_xattrs(struct un_layer *l, ssize_t r)
{
	if (r != -EIO || !l->xattrless)
		return r;
	if (!atomic_exchange(&l->told_xattrless, true))
		un_log(LOG_INFO,
		       "%s: has no extended attributes, and fails when asked for those of a file (%s): "
		       "taken for none",
		       l->path, strerror(EIO));
	return -EOPNOTSUPP;
}

static ssize_t ask_getxattr(int dirfd, const char *name, const char *xattr, void *buf, size_t size)
{
	char path[UN_PROC_PATH_MAX];
	ssize_t n;
	int r;

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (name[0] && un_posix_have()->xattrat) {
		struct xattr_args_v0 args = { .value = (uintptr_t)buf, .size = size };

		return un_errno((ssize_t)syscall(SYS_getxattrat, dirfd, name, AT_SYMLINK_NOFOLLOW,
						 xattr, &args, sizeof(args)));
	}
	if (!name[0]) {
		n = fgetxattr(dirfd, xattr, buf, size);
		if (n >= 0 || errno != EBADF)
			return un_errno(n);
	}
	r = un_posix_proc_path(path, dirfd, name);
	if (r < 0)
		return r;
	return un_errno(name[0] ? lgetxattr(path, xattr, buf, size)
				: getxattr(path, xattr, buf, size));
}

ssize_t un_posix_getxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			  void *buf, size_t size)
{
	return without_xattrs(l, ask_getxattr(dirfd, name, xattr, buf, size));
}

static ssize_t ask_listxattr(int dirfd, const char *name, char *buf, size_t size)
{
	char path[UN_PROC_PATH_MAX];
	ssize_t n;
	int r;

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (name[0] && un_posix_have()->xattrat)
		return un_errno((ssize_t)syscall(SYS_listxattrat, dirfd, name, AT_SYMLINK_NOFOLLOW,
						 buf, size));
	if (!name[0]) {
		n = flistxattr(dirfd, buf, size);
		if (n >= 0 || errno != EBADF)
			return un_errno(n);
	}
	r = un_posix_proc_path(path, dirfd, name);
	if (r < 0)
		return r;
	return un_errno(name[0] ? llistxattr(path, buf, size) : listxattr(path, buf, size));
}

ssize_t un_posix_listxattr(struct un_layer *l, int dirfd, const char *name, char *buf, size_t size)
{
	return without_xattrs(l, ask_listxattr(dirfd, name, buf, size));
}

int un_posix_setxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
		      const void *value, size_t size, int flags)
{
	char path[UN_PROC_PATH_MAX];
	int r;

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (name[0] && un_posix_have()->xattrat) {
		struct xattr_args_v0 args = { .value = (uintptr_t)value,
					      .size = size,
					      .flags = flags };

		return (int)un_errno(syscall(SYS_setxattrat, dirfd, name, AT_SYMLINK_NOFOLLOW,
					     xattr, &args, sizeof(args)));
	}
	if (!name[0]) {
		r = fsetxattr(dirfd, xattr, value, size, flags);
		if (r == 0 || errno != EBADF)
			return un_errno(r);
	}
	r = un_posix_proc_path(path, dirfd, name);
	if (r < 0)
		return r;
	return un_errno(name[0] ? lsetxattr(path, xattr, value, size, flags)
				: setxattr(path, xattr, value, size, flags));
}

int un_posix_removexattr(struct un_layer *l, int dirfd, const char *name, const char *xattr)
{
	char path[UN_PROC_PATH_MAX];
	int r;

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (name[0] && un_posix_have()->xattrat)
		return (int)un_errno(
			syscall(SYS_removexattrat, dirfd, name, AT_SYMLINK_NOFOLLOW, xattr));
	if (!name[0]) {
		r = fremovexattr(dirfd, xattr);
		if (r == 0 || errno != EBADF)
			return un_errno(r);
	}
	r = un_posix_proc_path(path, dirfd, name);
	if (r < 0)
		return r;
	return un_errno(name[0] ? lremovexattr(path, xattr) : removexattr(path, xattr));
}
