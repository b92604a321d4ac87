/* SPDX-License-Identifier: GPL-2.0-or-later */
/* unlink and rmdir, and what others need of them. */
#pragma once

#include "object/object.h"
#include "object/stage.h"

#include <stdbool.h>

struct statx;
struct un_fs;
struct un_inode;

/*
 * One name of a lower file with several is about to go: the index can tell how many are left only of what
 * it has. Copied up for that are metadata; where others are to read the index, who may not read metacopy
 * files, a page of data as well. A file whose owner it cannot keep is hidden all the same, and its count
 * is right for as long as this mount knows it.
 */
int un_index_victim(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		    const char *name);
/*
 * @inode (non-directory, in the upper; its lock is held) is about to lose a name: keep hold of it, in
 * case it is open. *ret_orphan: it must be moved to this name in the work directory instead of being
 * removed, or "". un_unhold_locked(): it has not happened.
 */
int un_hold_locked(struct un_fs *fs, struct un_inode *inode, char ret_orphan[UN_STAGE_NAME])
	UN_INODE_LOCKED(inode);
/* No names below it are left: put (dirfd, name), an upper directory full of whiteouts, out of sight. */
int un_clear_dir(struct un_fs *fs, int dirfd, const char *name, bool lower);
/* The name is gone from @dir: bookkeeping for the inode. @orphan: name in work, or "". */
void un_note_unlinked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		      const char *name);
/*
 * To be called with @inode's lock held from before the name goes on the layer: where is the file
 * without the name (dir, name)? @orphan: under this one in work, or "".
 */
void un_relocate_locked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			const char *name, const char *orphan)
	UN_INODE_LOCKED(inode);
/* A directory is gone; @last: its attributes before. Its lock is held from before that on. */
void un_dead_locked(struct un_inode *inode, const struct statx *last)
	UN_INODE_LOCKED(inode);
/* 1: shows no names; 0; -errno. ns of @dir is held for writing. */
int un_dir_empty_locked(struct un_fs *fs, struct un_inode *dir)
	UN_NS_WRITE;
