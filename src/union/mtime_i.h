/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes of pages that the kernel had kept: the time of change is what the kernel, or somebody by hand, says it
 * is, and not that of the write (src/transport/README.md, Write-back). Several may be under way at once, and the
 * time be set meanwhile.
 */
#pragma once

#include "object/object.h"

/* Before such a write to @fd; false: it cannot be kept. */
bool un_mtime_keep(struct un_fs *fs, struct un_inode *inode, int fd);
/* After it: with the last of them the time is put back. */
void un_mtime_kept(struct un_fs *fs, struct un_inode *inode, int fd);
/* It was set, by @a: that is the one to keep. */
void un_mtime_set_locked(struct un_inode *inode, const struct un_setattr *a)
	UN_REQUIRES(inode->lock, un_inode_role);
/* It was written by other means, and has the time of that. */
void un_mtime_written(struct un_inode *inode);
