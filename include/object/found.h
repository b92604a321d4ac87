/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new inode for what a lookup has found in the layers. */
#pragma once

#include "object/lock.h"

#include <stdbool.h>

struct statx;
struct un_found;
struct un_fs;
struct un_inode;

/* In no table yet but that of the ids. 0 or -errno. */
int un_found_inode(struct un_fs *fs, struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode **ret);
/* What @st tells of immutable and append-only. */
void un_found_prot(struct un_inode *inode, const struct statx *st) UN_REQUIRES(un_inode_role);
/*
 * A lower may contain the upper or the work directory; seen through it they would show themselves
 * being changed. ELOOP, as in the kernel (fuse-unionfs-format(5), DIRECTORIES).
 */
bool un_found_is_trap(struct un_fs *fs, const struct un_found *f);
