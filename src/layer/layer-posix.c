/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations of a layer as system calls, one each where the kernel lets us.
 *
 * "" names the descriptor itself. Most calls take AT_EMPTY_PATH for that; the others go through
 * the magic link /proc/self/fd/N, which also works for an O_PATH descriptor of a symlink.
 */
#include "layer-posix_i.h"

#include "covering_i.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "util/err.h"
#include "util/fd.h"

/* openat2 refuses what it does not know; FUSE hands us flags such as the kernel's FMODE_EXEC. */
#define OPEN_FLAGS                                                                                 \
	(O_ACCMODE | O_APPEND | O_CREAT | O_DIRECT | O_DIRECTORY | O_EXCL | O_NOATIME | O_NOCTTY | \
	 O_NOFOLLOW | O_NONBLOCK | O_PATH | O_SYNC | O_DSYNC | O_TMPFILE | O_TRUNC)
#define OPEN_FLAGS_PATH (O_PATH | O_DIRECTORY | O_NOFOLLOW)

/* ------------------------------------------------------------------------------------------------
 * Asking
 */

#define PROT_ATTRIBUTES (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)

static int posix_open(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode);

static int posix_xflags(struct un_layer *l, int dirfd, const char *name, uint64_t *ret)
{
	struct file_attr_v0 attr = { 0 };

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (!un_posix_have()->getattr)
		return -ENOSYS;
	/* Of what is open with O_PATH "" is EBADF; a directory can be asked by ".". */
	if (syscall(SYS_file_getattr, dirfd, name, &attr, sizeof(attr),
		    AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0 &&
	    (errno != EBADF || name[0] ||
	     syscall(SYS_file_getattr, dirfd, ".", &attr, sizeof(attr), 0) < 0))
		return errno == ENOTDIR ? -EBADF : -errno;
	*ret = attr.xflags;
	return 0;
}

/*
 * Is an object that is said to be immutable or append-only on a file system without such flags, which says it
 * of all its files (erofs, also as a layer of an overlay that is a layer here)? When in doubt it is not.
 */
static bool has_no_flags(struct un_layer *l, int dirfd, const char *name, const struct statx *st)
{
	un_autofd int fd = -1;
	uint64_t xflags;
	int flags, r = posix_xflags(l, dirfd, name, &xflags);

	if ((r != -ENOSYS && r != -EBADF) || (!S_ISREG(st->stx_mode) && !S_ISDIR(st->stx_mode)))
		return r == -EOPNOTSUPP || r == -ENOTTY;
	fd = posix_open(l, dirfd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	return fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 &&
	       (errno == ENOTTY || errno == EOPNOTSUPP);
}

static int posix_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret)
{
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (!name[0])
		flags |= AT_EMPTY_PATH;
	else if (l->clone < 0)
		flags |= AT_STATX_DONT_SYNC; /* a mountpoint may be our own mount: never ask it */
	if (statx(dirfd, name, flags, UN_STATX_MASK, ret) < 0)
		return -errno;

	if ((ret->stx_attributes & PROT_ATTRIBUTES) &&
	    (l->flagless || (!un_stx_is_mountpoint(ret) && has_no_flags(l, dirfd, name, ret))))
		ret->stx_attributes &= ~(uint64_t)PROT_ATTRIBUTES;
	/* What we hold open is the layer's own, be it the root of the mount the layer lies in. */
	if (!name[0] || l->clone >= 0)
		ret->stx_attributes &= ~(uint64_t)STATX_ATTR_MOUNT_ROOT;
	else if (un_stx_is_mountpoint(ret) && !S_ISDIR(ret->stx_mode))
		return un_covering_stat(l, dirfd, name, ret);
	return 0;
}

static int open_self(int fd, int flags, mode_t mode);

/* It may be a mountpoint that covers a file. */
static int open_covering(struct un_layer *l, int dirfd, const char *name, int flags)
{
	un_autofd int fd = -1;

	if ((flags & (O_ACCMODE | O_CREAT | O_TRUNC | O_DIRECTORY)) != O_RDONLY)
		return -EXDEV;
	fd = un_covering_open(l, dirfd, name);
	if (fd < 0)
		return fd == -ENFILE ? fd : -EXDEV;
	return flags & O_PATH ? un_take_fd(&fd) : open_self(fd, flags, 0);
}

/* Without openat2: look first, open then. Only a mount made in between is not noticed. */
static int open_checked(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode)
{
	struct statx st;
	int r;

	r = posix_stat(l, dirfd, name, &st);
	if (r == 0 && (un_stx_is_mountpoint(&st) || un_stx_is_covered(&st)))
		return open_covering(l, dirfd, name, flags);
	if (r < 0 && !(r == -ENOENT && (flags & O_CREAT)))
		return r;
	return un_errno(openat(dirfd, name, flags, mode));
}

static int open_self(int fd, int flags, mode_t mode)
{
	char path[UN_PROC_PATH_MAX];
	int r;

	/* "." of a directory is itself even where another mount covers it, as is a magic link. */
	if (flags & O_DIRECTORY)
		return un_errno(openat(fd, ".", flags, mode));
	r = un_posix_proc_path(path, fd, "");
	if (r < 0)
		return r;
	return un_errno(open(path, flags & ~O_NOFOLLOW, mode));
}

static int open_any(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode)
{
	bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	struct open_how how = {
		.mode = creates ? mode & 07777 : 0,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};
	int fd;

	flags &= (flags & O_PATH) ? OPEN_FLAGS_PATH : OPEN_FLAGS;
	if (!(flags & O_PATH))
		flags |= O_LARGEFILE;
	flags |= O_CLOEXEC | O_NOFOLLOW;
	if (!name[0])
		return open_self(dirfd, flags, how.mode);

	if (!un_posix_have()->openat2)
		return open_checked(l, dirfd, name, flags, how.mode);
	how.flags = (unsigned)flags;
	fd = (int)un_errno(syscall(SYS_openat2, dirfd, name, &how, sizeof(how)));
	return fd == -EXDEV ? open_covering(l, dirfd, name, flags) : fd;
}

/*
 * Times of access are left alone where that is allowed: by root and the owner. What is made is not made
 * with O_NOATIME: it could be there and refused.
 */
static int posix_open(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode)
{
	bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	unsigned tries = 0;
	int fd;

	if (!un_posix_is_one(name))
		return -EINVAL;
	do {
		fd = -EPERM;
		if (l->noatime_by_open && !creates && !(flags & O_PATH))
			fd = open_any(l, dirfd, name, flags | O_NOATIME, mode);
		if (fd == -EPERM)
			fd = open_any(l, dirfd, name, flags, mode);
	} while (un_fd_again(fd, &tries));
	if (fd >= 0 && l->noatime_by_open && creates)
		un_ignore(fcntl(fd, F_SETFL, (flags & (O_APPEND | O_NONBLOCK)) | O_NOATIME));
	return un_fd_result(fd);
}

/* The long way, and for whom it may have been a symlink on the way. */
static int has_opened(struct un_layer *l, int dirfd, const char *dir, const char *name)
{
	un_autofd int fd = posix_open(l, dirfd, dir, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	struct statx st;
	int r;

	if (fd < 0)
		return fd == -ELOOP ? -ENOTDIR : fd == -ENOENT ? 0 : fd;
	r = posix_stat(l, fd, name, &st);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

static int posix_has(struct un_layer *l, int dirfd, const char *dir, const char *name)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};
	char path[2 * 256];
	un_autofd int fd = -1;
	unsigned tries = 0;

	if (!un_posix_is_one(dir) || !un_posix_is_one(name))
		return -EINVAL;
	if (!un_posix_have()->openat2 ||
	    snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return has_opened(l, dirfd, dir, name);
	do
		fd = (int)un_errno(syscall(SYS_openat2, dirfd, path, &how, sizeof(how)));
	while (un_fd_again(fd, &tries));
	if (fd == -ELOOP)
		return has_opened(l, dirfd, dir, name);
	return fd == -ENOENT ? 0 : fd < 0 ? un_fd_result(fd) : 1;
}

static ssize_t posix_readlink(struct un_layer *l, int dirfd, const char *name, char *buf,
			      size_t size)
{
	if (!un_posix_is_one(name))
		return -EINVAL;
	return un_errno(readlinkat(dirfd, name, buf, size));
}

static ssize_t posix_getdents(struct un_layer *l, int fd, void *buf, size_t size)
{
	return un_errno((ssize_t)syscall(SYS_getdents64, fd, buf, size));
}

static ssize_t posix_pread(struct un_layer *l, int fd, void *buf, size_t size, off_t off)
{
	return un_errno(pread(fd, buf, size, off));
}

static ssize_t posix_pread_cached(struct un_layer *l, int fd, void *buf, size_t size, off_t off)
{
	const struct iovec iov = { buf, size };
	ssize_t n;

	if (atomic_load_explicit(&l->never_cached, memory_order_relaxed))
		return -EOPNOTSUPP;
	n = un_errno(preadv2(fd, &iov, 1, off, RWF_NOWAIT));
	/* By the file system, the kernel, or a filter of system calls. */
	if (n == -EOPNOTSUPP || n == -EINVAL || n == -ENOSYS || n == -EPERM) {
		atomic_store(&l->never_cached, true);
		return -EOPNOTSUPP;
	}
	return n;
}

static int posix_is_cached(struct un_layer *l, int fd)
{
	struct cachestat_range_v0 range = { .len = 1 };
	struct cachestat_v0 st = { 0 };

	(void)l;
	if (syscall(SYS_cachestat, fd, &range, &st, 0) < 0)
		return -errno;
	return st.cached > 0;
}

static int posix_will_need(struct un_layer *l, int fd, off_t off, off_t size)
{
	(void)l;
	return -posix_fadvise(fd, off, size, POSIX_FADV_WILLNEED);
}

/* ------------------------------------------------------------------------------------------------
 * Changing
 */

static off_t posix_seek(struct un_layer *l, int fd, off_t off, int whence)
{
	off_t at = lseek(fd, off, whence);

	return at < 0 ? -errno : at;
}

static int posix_statfs(struct un_layer *l, struct statvfs *ret)
{
	return un_errno(fstatvfs(l->root, ret));
}

static int posix_handle(struct un_layer *l, int dirfd, const char *name, struct file_handle *ret)
{
	int mount_id;

	if (!un_posix_is_one(name))
		return -EINVAL;
	return un_errno(name_to_handle_at(dirfd, name, ret, &mount_id, *name ? 0 : AT_EMPTY_PATH));
}

/* open_by_handle_at(2) does not take an O_PATH descriptor for the file system's. */
static int handle_fd(struct un_layer *l)
{
	int fd = atomic_load(&l->handle_fd), none = 0;

	if (fd > 0)
		return fd;
	fd = posix_open(l, l->root, "", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd > 0 && !atomic_compare_exchange_strong(&l->handle_fd, &none, fd)) {
		un_close(fd);
		fd = none;
	}
	return fd;
}

static int posix_open_handle(struct un_layer *l, struct file_handle *handle)
{
	int by = handle_fd(l), fd;
	unsigned tries = 0;

	if (by < 0)
		return by;
	do
		fd = un_errno(open_by_handle_at(by, handle, O_PATH | O_CLOEXEC));
	while (un_fd_again(fd, &tries));
	return un_fd_result(fd);
}

static int posix_ioctl(struct un_layer *l, int fd, unsigned long cmd, void *arg)
{
	return un_errno(ioctl(fd, cmd, arg));
}

bool un_layer_ioctl_changes(unsigned long cmd)
{
	return cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR;
}

static int posix_mkdir(struct un_layer *l, int dirfd, const char *name, mode_t mode)
{
	if (!un_posix_is_one(name))
		return -EINVAL;
	return un_errno(mkdirat(dirfd, name, mode));
}

static int posix_mknod(struct un_layer *l, int dirfd, const char *name, mode_t mode, dev_t rdev)
{
	if (!un_posix_is_one(name))
		return -EINVAL;
	return un_errno(mknodat(dirfd, name, mode, rdev));
}

static int posix_symlink(struct un_layer *l, const char *target, int dirfd, const char *name)
{
	if (!un_posix_is_one(name))
		return -EINVAL;
	return un_errno(symlinkat(target, dirfd, name));
}

static int posix_link(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
		      const char *name)
{
	char path[UN_PROC_PATH_MAX];
	int r;

	if (!un_posix_is_one(from) || !un_posix_is_one(name))
		return -EINVAL;
	if (from[0])
		return un_errno(linkat(from_dirfd, from, dirfd, name, 0));

	/* Wants CAP_DAC_READ_SEARCH before 6.10, and says ENOENT then; a path is some microseconds slower. */
	r = un_errno(linkat(from_dirfd, "", dirfd, name, AT_EMPTY_PATH));
	if (r != -ENOENT && r != -EPERM)
		return r;
	r = un_posix_proc_path(path, from_dirfd, "");
	if (r < 0)
		return r;
	return un_errno(linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW));
}

static int posix_rename(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
			const char *name, unsigned flags)
{
	if (!un_posix_is_one(from) || !un_posix_is_one(name))
		return -EINVAL;
	return un_errno(renameat2(from_dirfd, from, dirfd, name, flags));
}

static int posix_unlink(struct un_layer *l, int dirfd, const char *name, int flags)
{
	if (!un_posix_is_one(name))
		return -EINVAL;
	return un_errno(unlinkat(dirfd, name, flags));
}

static int posix_chown(struct un_layer *l, int dirfd, const char *name, uid_t uid, gid_t gid)
{
	if (!un_posix_is_one(name))
		return -EINVAL;
	return un_errno(fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
}

static int posix_chmod(struct un_layer *l, int dirfd, const char *name, mode_t mode)
{
	char path[UN_PROC_PATH_MAX];
	int r;

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (un_posix_have()->fchmodat2)
		return (int)un_errno(syscall(SYS_fchmodat2, dirfd, name, mode,
					     AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
	/* The libc's way: an O_PATH descriptor and its magic link, refusing symlinks. */
	if (name[0])
		return un_errno(fchmodat(dirfd, name, mode, AT_SYMLINK_NOFOLLOW));
	r = un_posix_proc_path(path, dirfd, "");
	if (r < 0)
		return r;
	return un_errno(chmod(path, mode));
}

static int posix_utimens(struct un_layer *l, int dirfd, const char *name,
			 const struct timespec ts[2])
{
	char path[UN_PROC_PATH_MAX];
	int r;

	if (!un_posix_is_one(name))
		return -EINVAL;
	if (name[0])
		return un_errno(utimensat(dirfd, name, ts, AT_SYMLINK_NOFOLLOW));
	r = utimensat(dirfd, "", ts, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
	if (r == 0 || errno != EINVAL)
		return un_errno(r);

	/* Before 5.8. */
	r = un_posix_proc_path(path, dirfd, "");
	if (r < 0)
		return r;
	return un_errno(utimensat(AT_FDCWD, path, ts, 0));
}

static int posix_truncate(struct un_layer *l, int fd, off_t size)
{
	char path[sizeof("/proc/self/fd/") + 12];
	struct statx st;

	/*
	 * ftruncate(2) changes the times also of a file that keeps its size, which truncate(2) leaves to
	 * the file system but has to find first.
	 */
	if (statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &st) == 0 && (off_t)st.stx_size != size)
		return un_errno(ftruncate(fd, size));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (truncate(path, size) == 0)
		return 0;
	if (errno != EACCES && errno != EPERM && errno != ENOENT)
		return -errno;
	return un_errno(ftruncate(fd, size));
}

static ssize_t posix_pwrite(struct un_layer *l, int fd, const void *buf, size_t size, off_t off)
{
	return un_errno(pwrite(fd, buf, size, off));
}

static int posix_clone(struct un_layer *l, int fd, int from)
{
	return un_errno(ioctl(fd, FICLONE, from));
}

static ssize_t posix_copy_range(struct un_layer *l, int from, off_t from_off, int fd, off_t off,
				size_t size)
{
	off64_t in = from_off, out = off;

	return un_errno(copy_file_range(from, &in, fd, &out, size, 0));
}

static int posix_allocate(struct un_layer *l, int fd, int mode, off_t off, off_t len)
{
	return un_errno(fallocate(fd, mode, off, len));
}

static int posix_fsync(struct un_layer *l, int fd, bool data_only)
{
	return un_errno(data_only ? fdatasync(fd) : fsync(fd));
}

static int posix_flush_range(struct un_layer *l, int fd, off_t off, off_t size, bool wait)
{
	const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			     SYNC_FILE_RANGE_WAIT_AFTER;

	(void)l;
	return un_errno(sync_file_range(fd, off, size, wait ? all : SYNC_FILE_RANGE_WRITE));
}

/*
 * Waiting for the pages of a range tells of errors anywhere in the file; beyond the end there are none to
 * wait for.
 */
#define BEYOND ((off_t)1 << 43)

static int posix_wb_error(struct un_layer *l, int fd)
{
	(void)l;
	return un_errno(sync_file_range(fd, BEYOND, 1, SYNC_FILE_RANGE_WAIT_BEFORE));
}

const struct un_layer_ops un_layer_posix = {
	.open = posix_open,
	.stat = posix_stat,
	.has = posix_has,
	.readlink = posix_readlink,
	.getxattr = un_posix_getxattr,
	.listxattr = un_posix_listxattr,
	.getdents = posix_getdents,
	.pread = posix_pread,
	.pread_cached = posix_pread_cached,
	.is_cached = posix_is_cached,
	.will_need = posix_will_need,
	.seek = posix_seek,
	.statfs = posix_statfs,
	.xflags = posix_xflags,
	.handle = posix_handle,
	.open_handle = posix_open_handle,
	.ioctl = posix_ioctl,
	.setxattr = un_posix_setxattr,
	.removexattr = un_posix_removexattr,
	.mkdir = posix_mkdir,
	.mknod = posix_mknod,
	.symlink = posix_symlink,
	.link = posix_link,
	.rename = posix_rename,
	.unlink = posix_unlink,
	.chown = posix_chown,
	.chmod = posix_chmod,
	.utimens = posix_utimens,
	.truncate = posix_truncate,
	.pwrite = posix_pwrite,
	.clone = posix_clone,
	.copy_range = posix_copy_range,
	.fallocate = posix_allocate,
	.fsync = posix_fsync,
	.flush_range = posix_flush_range,
	.wb_error = posix_wb_error,
};
