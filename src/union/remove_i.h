/* SPDX-License-Identifier: GPL-2.0-or-later */
/* unlink and rmdir, and the steps that a rename shares with them. */
#pragma once

#include "object/lock.h"
#include "object/stage.h"

#include <stdbool.h>

struct statx;
struct un_fs;
struct un_inode;

/*
 * One name of a lower file with several names is about to go. Only an entry of the index can tell
 * how many are left, so the file is copied up: its metadata; and up to a page of data where others
 * may read the index (un_layers.index_asked), since they may not read metacopy files. If the daemon
 * cannot keep the file's owner, the name goes all the same, and the count is right while this mount
 * knows the file.
 */
int un_index_victim(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		    const char *name);
/*
 * @inode (non-directory, in the upper; its lock is held) is about to lose a name: keep hold of it,
 * in case it is open. *ret_orphan: the file must be moved to this name in the work directory
 * instead of being removed; or "". If the name does not go after all: un_unhold_locked().
 */
int un_hold_locked(struct un_fs *fs, struct un_inode *inode, char ret_orphan[UN_STAGE_NAME])
	UN_INODE_LOCKED(inode);
/* The name is gone from @dir: bookkeeping for the inode, when its lock is not held any more. */
void un_note_unlinked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		      const char *name);
/*
 * The name (dir, name) has gone on the layer: note where the file is without it. @orphan: under
 * this name in work; or "". @inode's lock is held since before the name went.
 */
void un_relocate_locked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			const char *name, const char *orphan)
	UN_INODE_LOCKED(inode);
/* A directory is gone; @last: its attributes before. Its lock is held since before it went. */
void un_dead_locked(struct un_inode *inode, const struct statx *last)
	UN_INODE_LOCKED(inode);
/* Does @dir show no names? 1, 0 or -errno. ns of @dir is held for writing. */
int un_dir_empty_locked(struct un_fs *fs, struct un_inode *dir)
	UN_NS_WRITE;
/*
 * The same, with all that others did until now: before what the directory holds in the upper is thrown away, for they
 * may have put something there since the request came. Layers are asked only where changes are not told.
 */
int un_dir_empty_now_locked(struct un_fs *fs, struct un_inode *dir)
	UN_NS_WRITE;
