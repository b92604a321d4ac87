/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mark of an upper directory that holds objects with an origin. */
#pragma once

#include "object/object.h"

struct un_fs;
struct un_inode;
struct un_realdir;

/* Let an upper directory be marked impure (an object with an origin is about to appear in it). */
int un_dir_mark_impure(struct un_fs *fs, struct un_realdir *rd, int dirfd);
/* Nothing with an origin is in @dir, whose ns is held for writing: its upper need not say so. */
void un_dir_mark_pure(struct un_fs *fs, struct un_inode *dir)
	UN_NS_WRITE;
