/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An inode as the kernel knows it, by its node id, which is never used again; for rooms above
 * union/.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct statx;
struct un_fs;
struct un_inode;

/* A reference to the inode the kernel calls @id, or NULL. */
struct un_inode *un_inode_get(struct un_fs *fs, uint64_t id);
/* Accepts NULL. */
void un_inode_put(struct un_fs *fs, struct un_inode *inode);
uint64_t un_inode_id(const struct un_inode *inode);
/*
 * The kernel is about to be told of the inode once more; and it forgets having been told @n times.
 */
void un_inode_remember(struct un_fs *fs, struct un_inode *inode);
void un_inode_forget(struct un_fs *fs, uint64_t id, uint64_t n);
/*
 * Has the kernel its attributes for good, and no reason to ask again, as reading it is one? A listing leaves them out then
 * (un_readdir()). Where this is wrong, something is asked or answered once more than it need be.
 */
void un_inode_told(struct un_inode *inode, bool told);

/* *ret is a reference. -ENOENT, -ENAMETOOLONG, -EPERM (a mark that is not followed), ... */
int un_lookup(struct un_fs *fs, struct un_inode *dir, const char *name, struct un_inode **ret,
	      struct statx *st);

int un_getattr(struct un_fs *fs, struct un_inode *inode, struct statx *st);
ssize_t un_readlink(struct un_fs *fs, struct un_inode *inode, char *buf, size_t size);

/*
 * The calling thread has no umask of its own (unshare(CLONE_FS) was refused), so it must leave the
 * process's alone, which is 0: what a caller's umask takes away is then not asked for in the first place.
 */
void un_thread_shares_umask(void);
