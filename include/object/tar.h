/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names like those of the tar form's marks, before they are made in the upper. */
#pragma once

#include "object/lock.h"

#include <stdbool.h>
#include <stdint.h>

struct un_fs;
struct un_inode;

/* Could @name in the upper be taken for a mark? Could an object of this kind (@type: DT_*)? */
bool un_name_ordinary(struct un_fs *fs, const char *name);
bool un_kind_ordinary(struct un_fs *fs, uint8_t type);
/* Set UN_MARK_ORDINARY on the object in the upper, before it gets such a name. 0 or -errno. */
int un_mark_ordinary(struct un_fs *fs, int dirfd, const char *name);
int un_mark_ordinary_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/*
 * The upper file @inode is about to be emptied; so far its data told it from a mark. 0 or -errno.
 */
int un_mark_emptied_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/*
 * Before something appears at @name in @dir, whose ns is held for writing: a mark of the tar form that is
 * there becomes a whiteout, and what it hides is hidden in another way.
 */
int un_name_settle(struct un_fs *fs, struct un_inode *dir, const char *name)
	UN_NS_WRITE;
