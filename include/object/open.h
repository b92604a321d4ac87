/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A descriptor of an object's data. */
#pragma once

#include "object/lock.h"

struct un_fd;
struct un_fs;
struct un_inode;

/*
 * A descriptor of the real file's data with UN_FD_READ and/or UN_FD_WRITE; give back with put. To write,
 * the file must have been copied up.
 */
int un_file_get(struct un_fs *fs, struct un_inode *inode, unsigned flags, struct un_fd **ret);

/*
 * *@f, for writing, can only append, as the real file's flags say: give it back, and get another one, since the
 * flag may be gone. -EPERM: it is the only way to the file. *@f is given back on failure.
 */
int un_file_get_anew(struct un_fs *fs, struct un_inode *inode, struct un_fd **f);

/*
 * A new descriptor of the real file itself, also of a metacopy file; not in the cache. Or -errno.
 */
int un_file_open(struct un_fs *fs, struct un_inode *inode, unsigned flags)
	UN_INODE_LOCKED(inode);
/* For reading, from where its data is by now: if others have changed that, it is looked for. No lock is held. */
int un_file_get_data(struct un_fs *fs, struct un_inode *inode, struct un_fd **ret);
