/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories on layers, which know their parents and names; and the way to them. */
#pragma once

#include "object/lock.h"

#include <stdbool.h>
#include <sys/types.h>

struct statx;
struct un_at;
struct un_fd;
struct un_fs;
struct un_inode;
struct un_layer;
struct un_merge_dir;
struct un_realdir;

/* A new one, with one reference; takes a reference to @parent (NULL: it is a root). */
struct un_realdir *un_realdir_new(struct un_layer *l, struct un_realdir *parent, const char *name,
				  const struct statx *st);
struct un_realdir *un_realdir_ref(struct un_realdir *rd);
void un_realdir_put(struct un_fs *fs, struct un_realdir *rd);
/* The same if it is open, or NULL: no layer is asked. */
struct un_fd *un_realdir_get(struct un_fs *fs, struct un_realdir *rd);
/* A descriptor (O_PATH) of it; give back with un_fdcache_put(). -ESTALE: it is not there any more. */
int un_realdir_open(struct un_fs *fs, struct un_realdir *rd, struct un_fd **ret);
/*
 * Around a rename of @rd on its layer, which may take long; NULL: nothing. fs->tree is not held between the two calls;
 * only a thread that does not find this very directory where it is in this tree waits for un_tree_settled_locked().
 */
void un_tree_changes(struct un_fs *fs, struct un_realdir *rd);
void un_tree_settled_locked(struct un_fs *fs, struct un_realdir *rd) UN_TREE_LOCKED(fs);
/*
 * @rd has been renamed on its layer; fs->tree is held. Returns its old parent, which the caller
 * puts when the lock is not held any more.
 */
struct un_realdir *un_realdir_moved_locked(struct un_fs *fs, struct un_realdir *rd,
					   struct un_realdir *parent, const char *name)
	UN_TREE_LOCKED(fs);
/*
 * The real directories of @dir, to be asked by way of *@ret, as merge/ wants them. A layer may take long to answer, so
 * whoever can looks at them apart: without ns, as they were, to see afterwards whether anybody has had ns for
 * writing. Then what was found is worth nothing.
 */
struct un_view {
	struct un_inode *dir;
	struct un_realdir **stack; /* the directory's own; apart: references */
	unsigned n;
	unsigned writes; /* un_dirinfo.writes */
	struct un_realdir *few[6];
};
/* As long as ns is held; nothing is to be given back. */
void un_dir_merge(struct un_fs *fs, struct un_inode *dir, struct un_view *v,
		  struct un_merge_dir *ret) UN_NS_READ;
/* Apart; to be given back by un_view_done(). */
void un_dir_merge_apart(struct un_fs *fs, struct un_inode *dir, struct un_view *v,
			struct un_merge_dir *ret) UN_NS_READ;
/* ns is held again, @taken: for writing. True: nobody else has had it for writing. */
bool un_view_done(struct un_fs *fs, struct un_view *v, bool taken) UN_NS_READ;
/*
 * Is one of its real directories hollow, since something is mounted on it; or, @top, is the topmost
 * one? Takes the inode's lock.
 */
bool un_dir_is_mountpoint(struct un_inode *dir, bool top);
/* Its directory in the upper, or NULL. */
struct un_realdir *un_dir_upper(struct un_fs *fs, const struct un_inode *dir);
/*
 * Is nothing in @rd, which is open as @fd? 0, -ENOTEMPTY, or -errno: that cannot be told. It is read: that its times are
 * what they were says nothing if somebody came within the same tick of the clock, which lasts 4 ms, or on some file
 * systems a second.
 */
int un_realdir_is_empty(const struct un_realdir *rd, int fd);
