/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preloaded into a daemon, it refuses system calls as a file system or a sandbox does that lacks them.
 *
 *   UNIONFS_REFUSE=WHAT[=ERRNO],..   what, and the number it fails with
 *   UNIONFS_REFUSE_FROM=PATH         only while PATH exists: what the probe at mount allowed
 *
 * See tests/lib/without for the words.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_setxattrat
#define SYS_setxattrat (SYS_openat2 + 26)
#endif

static const struct {
	const char *what;
	int number; /* what file systems and kernels say */
} words[] = {
	{ "exchange", EINVAL },       { "noreplace", EINVAL }, { "rename_whiteout", EINVAL },
	{ "tmpfile", EOPNOTSUPP },    { "link", EPERM },       { "mknod", EPERM },
	{ "whiteout", EPERM },        { "xattr", EOPNOTSUPP }, { "handles", EOPNOTSUPP },
	{ "copy_range", EOPNOTSUPP }, { "clone", EOPNOTSUPP }, { "fallocate", EOPNOTSUPP },
};

/* Sets errno if @what is to fail. */
static bool refused(const char *what)
{
	const char *at = getenv("UNIONFS_REFUSE"), *from = getenv("UNIONFS_REFUSE_FROM");
	size_t len = strlen(what);

	while (at && *at) {
		if (strncmp(at, what, len) == 0 && strchr("=,", at[len])) {
			if (from && syscall(SYS_faccessat, AT_FDCWD, from, F_OK) < 0)
				return false;
			for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
				if (strcmp(words[i].what, what) == 0)
					errno = words[i].number;
			if (at[len] == '=')
				errno = atoi(at + len + 1);
			return true;
		}
		at = strchr(at, ',');
		at = at ? at + 1 : NULL;
	}
	return false;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int renameat2(int from_fd, const char *from, int fd, const char *name, unsigned flags)
{
	REAL(renameat2);

	if (((flags & RENAME_EXCHANGE) && refused("exchange")) ||
	    ((flags & RENAME_NOREPLACE) && refused("noreplace")) ||
	    ((flags & RENAME_WHITEOUT) && refused("rename_whiteout")))
		return -1;
	return real(from_fd, from, fd, name, flags);
}

int linkat(int from_fd, const char *from, int fd, const char *name, int flags)
{
	REAL(linkat);

	return refused("link") ? -1 : real(from_fd, from, fd, name, flags);
}

int mknodat(int fd, const char *name, mode_t mode, dev_t rdev)
{
	REAL(mknodat);

	if (refused("mknod") || (S_ISCHR(mode) && refused("whiteout")))
		return -1;
	return real(fd, name, mode, rdev);
}

int openat(int fd, const char *name, int flags, ...)
{
	REAL(openat);
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = (mode_t)va_arg(ap, int);
	va_end(ap);
	if ((flags & O_TMPFILE) == O_TMPFILE && refused("tmpfile"))
		return -1;
	return real(fd, name, flags, mode);
}

/* A question about the descriptor -1, whether the call is known, is answered. */
long syscall(long number, ...)
{
	REAL(syscall);
	va_list ap;
	long a[6];

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_openat2 && (int)a[0] >= 0) {
		const struct open_how *how = (const void *)a[2];

		if ((how->flags & O_TMPFILE) == O_TMPFILE && refused("tmpfile"))
			return -1;
	}
	if (number == SYS_setxattrat && (int)a[0] >= 0 && refused("xattr"))
		return -1;
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	REAL(setxattr);

	return refused("xattr") ? -1 : real(path, name, value, size, flags);
}

int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	REAL(lsetxattr);

	return refused("xattr") ? -1 : real(path, name, value, size, flags);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	REAL(fsetxattr);

	return refused("xattr") ? -1 : real(fd, name, value, size, flags);
}

int name_to_handle_at(int fd, const char *name, struct file_handle *h, int *mount_id, int flags)
{
	REAL(name_to_handle_at);

	return refused("handles") ? -1 : real(fd, name, h, mount_id, flags);
}

ssize_t copy_file_range(int from, off64_t *from_off, int fd, off64_t *off, size_t size,
			unsigned flags)
{
	REAL(copy_file_range);

	return refused("copy_range") ? -1 : real(from, from_off, fd, off, size, flags);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	REAL(fallocate);

	return refused("fallocate") ? -1 : real(fd, mode, off, len);
}

int ioctl(int fd, unsigned long request, ...)
{
	REAL(ioctl);
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return request == FICLONE && refused("clone") ? -1 : real(fd, request, arg);
}
