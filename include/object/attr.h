/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes as shown. */
#pragma once

#include "object/node.h"
#include "object/object.h"

#include <stddef.h>
#include <sys/types.h>

struct statx;
struct un_fs;
struct un_index;
struct un_inode;

int un_getattr_locked(struct un_fs *fs, struct un_inode *inode, struct statx *st)
	UN_INODE_LOCKED(inode);
/* Number and link count as shown; @inode's lock is held, or it is new. */
void un_attr_adjust(struct un_fs *fs, struct un_inode *inode, struct statx *st)
	UN_INODE_LOCKED(inode);
/*
 * A copy-up has changed @dir on the layer, which said @before and says @after, times but that of change
 * restored: go on showing the time of before. @dir's lock is not held.
 */
void un_attr_hide_change(struct un_inode *dir, const struct statx *before,
			 const struct statx *after);
/* The same for an indexed file that got a name nobody asked for; its inode's lock is held. */
void un_attr_hide_alias_locked(struct un_index *ix, const struct statx *before,
			       const struct statx *after)
	UN_REQUIRES(un_inode_role);
