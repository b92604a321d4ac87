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
/* As the layer has them, and not as they are shown. 0 or -errno. */
int un_getattr_real(struct un_fs *fs, struct un_inode *inode, struct statx *st);
/*
 * A copy-up is about to change the upper directory of @dir, which nobody is to see: its attributes are @before.
 * Their ctime and mtime are shown until un_attr_hide_end(), and the ctime from then on: the attributes are @after by
 * then, with atime and mtime restored; NULL: show what there is. The caller does not hold @dir's lock.
 */
void un_attr_hide_begin(struct un_inode *dir, const struct statx *before);
void un_attr_hide_end(struct un_inode *dir, const struct statx *after);
/* The same for an indexed file that got an alias nobody asked for; its inode's lock is held. */
void un_attr_hide_alias_locked(struct un_index *ix, const struct statx *before,
			       const struct statx *after)
	UN_REQUIRES(un_inode_role);
