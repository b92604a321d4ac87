/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing redirects: where the layers below have an object that gets another name. */
#pragma once

#include <stdbool.h>

struct un_fs;
struct un_inode;
struct un_realdir;

/*
 * Write where the layers below have @inode, which is in the upper as @name in @dir: before it goes
 * to another name in the same directory (@same_dir), or anywhere. 0, or -EXDEV: that cannot be
 * written.
 */
int un_redirect_set(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		    const char *name, bool same_dir);

/* Could un_redirect_set() write it? Before anything is changed. */
bool un_redirect_fits(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		      const char *name, bool same_dir);
