/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy-up along a path: parents first, one at a time. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct un_fs;
struct un_inode;

/* As un_copyup_name(); *ret_indexed: a file has come into the index, its other names are to follow. */
int un_copyup_path(struct un_fs *fs, struct un_inode *inode, off_t size, struct un_inode *hint_dir,
		   const char *hint, bool *ret_indexed);

/*
 * Before names in @dir change (@remove: one is taken away): is that allowed? Then @dir is copied
 * up. 0, or -EROFS, -EPERM, -ENOENT, ...
 */
int un_dir_prepare(struct un_fs *fs, struct un_inode *dir, bool remove);
