/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the real object of an inode is, and a handle to it that needs no path. */
#pragma once

#include "object/object.h"

#include <stdbool.h>

struct un_at;
struct un_fd;
struct un_fs;
struct un_inode;
struct un_layer;
struct un_realdir;

/* The real object is (@rd, @name) from now on, NULL: only a descriptor that stays open leads to it. */
void un_place_set_locked(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
			 const char *name)
	UN_INODE_LOCKED(inode);
/* It is the link @name in the work directory, which does not count. */
void un_place_orphan_locked(struct un_fs *fs, struct un_inode *inode, const char *name)
	UN_INODE_LOCKED(inode);
/* A nameless upper file has a name (again): from now on that leads to it. */
void un_place_named(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
		    const char *name);
/* It has been renamed to there, unless something else leads to it: an index, or the work directory. */
void un_place_moved_locked(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
			   const char *name)
	UN_INODE_LOCKED(inode);
/* @inode is being freed: an orphan's link goes with it. */
void un_place_free(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);

/*
 * Where to reach the real object by one system call: (dirfd, name), name "" for an open descriptor.
 * The inode's lock is held until un_at_done().
 */
int un_at_locked(struct un_fs *fs, struct un_inode *inode, struct un_at *ret)
	UN_INODE_LOCKED(inode);
void un_at_done(struct un_fs *fs, struct un_at *at);

void un_unhold_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/* A descriptor that stays open leads to it. 0, or -ENFILE: there is none to spare. */
int un_pin_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/* The sole descriptor of a nameless file cannot be pinned: give the file a name in work. */
int un_orphan_nameless(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
