/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a name to an inode. */
#pragma once

#include "object/lock.h"
#include "object/node.h"

struct statx;
struct un_fs;
struct un_inode;

/*
 * As un_lookup(), ns of @dir is held (for reading at least). @st may be NULL. -ERESTART: it is a directory, and
 * others have changed what it is made of; un_lookup(), without a lock, sees to that.
 */
int un_lookup_locked(struct un_fs *fs, struct un_inode *dir, const char *name,
		     struct un_inode **ret, struct statx *st)
	UN_NS_READ;
/*
 * Before the data of @inode is read: if others may have changed where it is, that is looked for. No lock is held. 0, or
 * -EIO: nowhere.
 */
int un_lookup_data(struct un_fs *fs, struct un_inode *inode);
