/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be done with a mounted union. One function per operation; ops/ translates requests into
 * these. They may be called from any thread, take what locks they need, and return 0 (or a count)
 * or -errno. Nothing they return needs a lock.
 *
 * Attributes are a struct statx whose number and link count are the union's.
 */
#pragma once

#include "copyup/alias.h"
#include "object/changes.h"
#include "object/known.h"
#include "object/node.h"
#include "object/types.h"
#include "union/fs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

void un_fs_on_stale(struct un_fs *fs, un_stale_fn fn, void *data);

/* Can some layer hold POSIX ACLs? */
bool un_fs_has_acl(struct un_fs *fs);

/* ---- names ------------------------------------------------------------------------------------------ */

int un_make(struct un_fs *fs, struct un_inode *dir, const char *name, const struct un_create *what,
	    const struct un_cred *cred, struct un_inode **ret, struct statx *st);
/* open(2) with O_CREAT: an existing file is returned unless @exclusive. */
int un_create(struct un_fs *fs, struct un_inode *dir, const char *name,
	      const struct un_create *what, bool exclusive, const struct un_cred *cred,
	      struct un_inode **ret, struct statx *st);
int un_tmpfile(struct un_fs *fs, struct un_inode *dir, const struct un_create *what,
	       const struct un_cred *cred, struct un_inode **ret, struct statx *st);
int un_link(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name,
	    struct statx *st);
int un_unlink(struct un_fs *fs, struct un_inode *dir, const char *name);
int un_rmdir(struct un_fs *fs, struct un_inode *dir, const char *name);
/* @flags: RENAME_NOREPLACE, RENAME_EXCHANGE; others -EINVAL. */
int un_rename(struct un_fs *fs, struct un_inode *from, const char *name, struct un_inode *to,
	      const char *new_name, unsigned flags);

/*
 * Listing. @fn gets one name after the other, from the one behind @cookie on, and returns false to
 * stop (that name was not taken). @inode and @st are NULL if they were not asked for (@attrs), cannot
 * be had, are known to the kernel (un_inode_told()), or far down in a very large directory whose names
 * nobody looks up; otherwise the reference is @fn's to keep if it returns true. "." and ".." come first,
 * with cookies 1 and 2, without inode.
 */
struct un_dirent {
	const char *name;
	uint64_t cookie;
	uint64_t ino;
	uint8_t type; /* DT_* */
	struct un_inode *inode;
	struct statx *st;
};
typedef bool (*un_dirent_fn)(void *data, const struct un_dirent *e);
int un_readdir(struct un_fs *fs, struct un_inode *dir, uint64_t cookie, bool attrs, un_dirent_fn fn,
	       void *data);

/* ---- attributes --------------------------------------------------------------------------------- */

int un_setattr(struct un_fs *fs, struct un_inode *inode, const struct un_setattr *a,
	       const struct un_cred *cred, struct statx *st);

int un_statfs(struct un_fs *fs, struct statvfs *ret);

/* As the system calls; size 0 asks for the length. */
ssize_t un_getxattr(struct un_fs *fs, struct un_inode *inode, const char *name, void *buf,
		    size_t size);
ssize_t un_listxattr(struct un_fs *fs, struct un_inode *inode, const struct un_cred *cred,
		     char *buf, size_t size);
/* @kill_sgid: the caller, who sets an ACL, is not in the file's group. */
int un_setxattr(struct un_fs *fs, struct un_inode *inode, const char *name, const void *value,
		size_t size, int flags, bool kill_sgid);
int un_removexattr(struct un_fs *fs, struct un_inode *inode, const char *name);

/* Inode flags in the FS_*_FL form, and the fsx form's project id and the rest. */
struct fsxattr;
int un_getflags(struct un_fs *fs, struct un_inode *inode, unsigned *ret);
int un_setflags(struct un_fs *fs, struct un_inode *inode, unsigned flags);
int un_getfsx(struct un_fs *fs, struct un_inode *inode, struct fsxattr *ret);
int un_setfsx(struct un_fs *fs, struct un_inode *inode, const struct fsxattr *fsx);

/* ---- data: belongs to the inode, not to an open file ------------------------------------------------- */

/* *ret_cold: the beginning of the file was not in memory, as far as that can be told. NULL: it is not asked. */
ssize_t un_read(struct un_fs *fs, struct un_inode *inode, void *buf, size_t size, off_t off,
		bool *ret_cold);

struct un_write {
	const void *buf;
	size_t size;
	off_t off;
	bool append;     /* the descriptor has O_APPEND */
	bool kill;       /* clear set-id bits */
	bool cached;     /* from the page cache (mmap, or write-back) */
	bool keep_mtime; /* the kernel keeps the times itself (write-back) */
};
/* *ret_killed: set-id bits were cleared and the kernel does not know yet. */
ssize_t un_write(struct un_fs *fs, struct un_inode *inode, const struct un_write *w,
		 const struct un_cred *cred, bool *ret_killed);
int un_fsync(struct un_fs *fs, struct un_inode *inode, bool data_only);
int un_fallocate(struct un_fs *fs, struct un_inode *inode, int mode, off_t off, off_t len,
		 const struct un_cred *cred, bool *ret_killed);
off_t un_lseek(struct un_fs *fs, struct un_inode *inode, off_t off, int whence);
ssize_t un_copy_file_range(struct un_fs *fs, struct un_inode *in, off_t in_off,
			   struct un_inode *out, off_t out_off, size_t size,
			   const struct un_cred *cred, bool *ret_killed);

/* ---- passthrough: open files that the kernel reads and writes by itself --------------------------------- */

/*
 * Call @fn with a descriptor of the file that the kernel may open, as @flags of open(2) say, in place of @inode:
 * its data is there, and stays there for as long as the union lives. Returns what @fn returns; NULL: it is
 * open so already, and the question is whether @flags could be had as well. -EOPNOTSUPP: it may yet be copied up, or
 * has to be read and written by us for another reason; or why the file cannot be opened like this.
 */
int un_pass(struct un_fs *fs, struct un_inode *inode, int flags, int (*fn)(void *data, int fd),
	    void *data);
/* It is about to be answered so, for @flags. True: the kernel is to be told that it has old attributes. */
bool un_pass_opened(struct un_fs *fs, struct un_inode *inode, int flags);
/* It was opened so for writing, and is closed. */
void un_pass_closed(struct un_fs *fs, struct un_inode *inode);
/* Was it open so, ever? Then what the kernel keeps of its data is not to be relied on. */
bool un_pass_was(const struct un_inode *inode);
/* May it be written to without anybody being told? Then the kernel is to keep no attributes. */
bool un_pass_is_unheard(const struct un_inode *inode);

/*
 * Housekeeping, once a second by one thread: close writable descriptors nobody uses, give memory of
 * forgotten inodes back to the system. True while something of that kind remains to be done.
 */
bool un_fs_idle(struct un_fs *fs);
/*
 * The same at a slower pace: close descriptors for reading that nobody used since the last time, if
 * there are many. un_fs_wants_closing(): are there many?
 */
bool un_fs_close_idle(struct un_fs *fs);
bool un_fs_wants_closing(struct un_fs *fs);
/*
 * @fn is called, from within any request, when un_fs_idle() has got work that no request asked for.
 */
void un_fs_on_wake(struct un_fs *fs, void (*fn)(void *data), void *data);
/* Is there memory to give back? */
bool un_fs_wants_trim(struct un_fs *fs);

/* For the statistics. */
struct un_fs_stats {
	uint64_t inodes, descriptors, copyups, copied_bytes;
};
void un_fs_stats(struct un_fs *fs, struct un_fs_stats *ret);

/* ---- for who runs the daemon -------------------------------------------------------------------------- */

/* Is it root, or the user whom the daemon runs as? */
bool un_may_control(const struct un_cred *cred);

/* What a layer is, and what its file system can do; all borrowed. */
struct un_layer_status {
	const char *kind; /* upper, lower, data, removed (and still in use) */
	const char *path;
	const char *numbers; /* of inodes: do they stay as they are? */
	const char *has[10], *lacks[10];
	unsigned n_has, n_lacks;
};
/* From the top down, 0 first. False: there is no such layer. */
bool un_fs_layer(const struct un_fs *fs, unsigned n, struct un_layer_status *ret);

/*
 * One more lower, at the place @at (1: below the upper, or on top); and one less, which @which names by its path or its
 * place. 0, or -1 and a sentence: nothing has changed. What is open stays what it was. The merged tree has changed
 * when it returns, and the kernel is about to be told.
 */
int un_fs_add_lower(struct un_fs *fs, const char *path, unsigned at, char **ret_err);
int un_fs_remove_lower(struct un_fs *fs, const char *which, char **ret_err);
/* Lowers that were taken out, and are not closed yet, as they are in use. */
unsigned un_fs_lingering(const struct un_fs *fs);

/* What came of options that depend on what the layers can do. */
struct un_fs_effect {
	bool read_only;
	bool userxattr;
	bool redirect_create, metacopy_create;
	bool index;
};
void un_fs_effect(const struct un_fs *fs, struct un_fs_effect *ret);

/*
 * Forget what is kept to be faster: listings, which xattrs there are, descriptors that nobody uses. Waits
 * for requests in hand.
 */
void un_fs_drop(struct un_fs *fs);
