/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The impure mark: an upper directory holds objects with an origin. */
#pragma once

#include "object/lock.h"

struct un_fs;
struct un_inode;
struct un_realdir;

/* Mark the upper directory @rd impure: an object with an origin is about to appear in it. */
int un_dir_mark_impure(struct un_fs *fs, struct un_realdir *rd, int dirfd);
/* @dir holds no object with an origin: take the mark away. ns of @dir is held for writing. */
void un_dir_mark_pure(struct un_fs *fs, struct un_inode *dir)
	UN_NS_WRITE;
