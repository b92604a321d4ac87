/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the real layer: layer-posix.c and the parts of it. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "layer/layer.h"

/* Calls newer than the libc headers. Since 5.1 all architectures number theirs in one sequence. */
#ifndef SYS_cachestat
#define SYS_cachestat (SYS_openat2 + 14)
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 (SYS_openat2 + 15)
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat (SYS_openat2 + 26)
#define SYS_getxattrat (SYS_openat2 + 27)
#define SYS_listxattrat (SYS_openat2 + 28)
#define SYS_removexattrat (SYS_openat2 + 29)
#endif
#ifndef SYS_file_getattr
#define SYS_file_getattr (SYS_openat2 + 31)
#endif

/* struct file_attr of linux/fs.h (6.17) */
struct file_attr_v0 {
	uint64_t xflags;
	uint32_t extsize, nextents, projid, cowextsize;
};

/* struct cachestat_range and cachestat of linux/mman.h (6.5); pages */
struct cachestat_range_v0 {
	uint64_t off, len;
};
struct cachestat_v0 {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* struct xattr_args of linux/xattr.h */
struct xattr_args_v0 {
	uint64_t value __attribute__((aligned(8)));
	uint32_t size;
	uint32_t flags;
};

/*
 * layer-posix-have.c: which of the newer calls there are: a kernel may lack them, a seccomp filter forbid
 * them (EPERM).
 */
struct un_posix_have {
	bool openat2;
	bool fchmodat2;
	bool xattrat;
	bool getattr;
};
const struct un_posix_have *un_posix_have(void);
/* What it points to, once it was called; for tests, which take some away. */
extern struct un_posix_have un_posix_found;

/* "/proc/self/fd/N/NAME" */
#define UN_PROC_PATH_MAX (sizeof("/proc/self/fd/") + 11 + 256)

static inline int un_posix_proc_path(char path[static UN_PROC_PATH_MAX], int dirfd,
				     const char *name)
{
	int n;

	if (name[0])
		n = snprintf(path, UN_PROC_PATH_MAX, "/proc/self/fd/%d/%s", dirfd, name);
	else
		n = snprintf(path, UN_PROC_PATH_MAX, "/proc/self/fd/%d", dirfd);
	return n < (int)UN_PROC_PATH_MAX ? 0 : -ENAMETOOLONG;
}

/*
 * A name from a layer, or from a caller, that led elsewhere would lead out of the layer: what names are
 * made of elsewhere is checked here once more.
 */
static inline bool un_posix_is_one(const char *name)
{
	return !strchr(name, '/') && strcmp(name, "..") != 0;
}

/* layer-posix-xattr.c: members of the table. */
ssize_t un_posix_getxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			  void *buf, size_t size);
ssize_t un_posix_listxattr(struct un_layer *l, int dirfd, const char *name, char *buf, size_t size);
int un_posix_setxattr(struct un_layer *l, int dirfd, const char *name, const char *xattr,
		      const void *value, size_t size, int flags);
int un_posix_removexattr(struct un_layer *l, int dirfd, const char *name, const char *xattr);
