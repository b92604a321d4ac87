/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the real object of an inode is, and a handle to it that needs no path. */
#pragma once

#include "object/lock.h"

#include <stdbool.h>

struct un_at;
struct un_fd;
struct un_fs;
struct un_inode;
struct un_layer;
struct un_realdir;

/*
 * The real object is (@rd, @name) from now on; @rd NULL: only a descriptor that stays open leads to
 * it.
 */
void un_place_set_locked(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
			 const char *name)
	UN_INODE_LOCKED(inode);
/*
 * The link @name in the work directory leads to the real object; the nlink shown does not count it.
 */
void un_place_orphan_locked(struct un_fs *fs, struct un_inode *inode, const char *name)
	UN_INODE_LOCKED(inode);
/* A lower file has been seen there: others may have moved it. Nothing if it is in the upper by now. */
void un_place_seen(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
		   const char *name);
/* An upper file without a name has got (@rd, @name): from now on that leads to it. */
void un_place_named(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
		    const char *name);
/*
 * The real object was renamed to (@rd, @name); no change if an index entry or an orphan's link
 * leads to it.
 */
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

/* The object keeps the name that un_hold_locked() was called for. */
void un_unhold_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/* Have a descriptor of the object that stays open. 0, or -ENFILE: there is none to spare. */
int un_pin_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/*
 * Pin the sole descriptor of a file without a name; if that cannot be, make a link in the work
 * directory.
 */
int un_orphan_nameless(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
