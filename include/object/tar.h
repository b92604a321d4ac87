/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names like those of the tar form's marks, for whatever makes names in the upper. */
#pragma once

#include "object/object.h"

#include <stdbool.h>
#include <stdint.h>

struct un_fs;
struct un_inode;

/* Is @name in the upper one that must be told from a mark? Of such an object (@type: DT_*)? */
bool un_name_ordinary(struct un_fs *fs, const char *name);
bool un_kind_ordinary(struct un_fs *fs, uint8_t type);
/* The object in the upper is no mark under any such name; before it gets one. 0 or -errno. */
int un_mark_ordinary(struct un_fs *fs, int dirfd, const char *name);
int un_mark_ordinary_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/* @inode, in the upper, is about to lose its data, which has told it from a mark so far. */
int un_mark_emptied_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/*
 * Before something appears at @name in @dir, whose ns is held for writing: a mark of the tar form that is
 * there becomes a whiteout, and what it hides is hidden in another way.
 */
int un_name_settle(struct un_fs *fs, struct un_inode *dir, const char *name)
	UN_NS_WRITE;
