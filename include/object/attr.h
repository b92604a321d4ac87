/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes as shown. */
#pragma once

#include "object/lock.h"
#include "object/node.h"

#include <stddef.h>
#include <sys/types.h>

struct statx;
struct un_fs;
struct un_index;
struct un_inode;

int un_getattr_locked(struct un_fs *fs, struct un_inode *inode, struct statx *st)
	UN_INODE_LOCKED(inode);
/*
 * Put the inode number and the link count that the union shows into @st. The caller holds @inode's
 * lock, or @inode is new.
 */
void un_attr_adjust(struct un_fs *fs, struct un_inode *inode, struct statx *st)
	UN_INODE_LOCKED(inode);
/*
 * A copy-up has changed the upper directory of @dir: its attributes were @before and are @after,
 * with atime and mtime restored. Go on showing the ctime of @before. The caller does not hold
 * @dir's lock.
 */
void un_attr_hide_change(struct un_inode *dir, const struct statx *before,
			 const struct statx *after);
/* The same for an indexed file that got an alias nobody asked for; its inode's lock is held. */
void un_attr_hide_alias_locked(struct un_index *ix, const struct statx *before,
			       const struct statx *after)
	UN_REQUIRES(un_inode_role);
