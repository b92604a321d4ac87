/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hard links that an index keeps together through copy-up. */
#pragma once

#include "object/object.h"

#include <stdbool.h>

struct statx;
struct un_at;
struct un_fs;
struct un_index;
struct un_inode;
struct un_layer;

/* Is a lower object of this kind kept together by the index? */
bool un_index_wanted(struct un_fs *fs, const struct un_layer *l, const struct statx *st);
/*
 * For a lower file: *ret, in no table, or NULL if it has no handle. 0, or -errno if that cannot be found
 * out while the index may have the file: then nobody knows what it contains.
 */
int un_index_new(struct un_fs *fs, const struct un_at *at, const struct statx *st,
		 struct un_index **ret);
/* What the index has for @ix: 1 and @st, 0, or -errno (-EIO: something that does not belong). */
int un_index_look(struct un_fs *fs, const struct un_index *ix, const struct statx *lower,
		  struct statx *st);
/* Has the file in the index its data below (1, 0, -errno)? What redirect does it carry (owned, or NULL)? */
int un_index_is_metacopy(struct un_fs *fs, const struct un_index *ix);
char *un_index_redirect(struct un_fs *fs, const struct un_index *ix);
/* @inode (new, not shared yet) is the upper file in the index: its place, its link count. */
void un_index_attach(struct un_fs *fs, struct un_inode *inode, struct un_index *ix,
		     const struct statx *st)
	UN_INODE_LOCKED(inode);
/* The upper file (dirfd, name) has an origin and several names: if it is in the index, so be it. */
void un_index_of_upper(struct un_fs *fs, struct un_inode *inode, int dirfd, const char *name,
		       const struct statx *st)
	UN_INODE_LOCKED(inode);
/*
 * The name is in a lower only, its inode in the index: give it the name in the upper too. ns of @dir is
 * held for writing, its upper directory is @dirfd. @quiet: nobody asked for it, so no time of change is
 * seen to move. -ESTALE: the name is taken; -ENOENT: the index has lost the file.
 */
int un_index_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, int dirfd,
		   const char *name, bool quiet)
	UN_NS_WRITE;
/*
 * The lower's count has been seen: what a mark said can be understood; names that came or went below
 * behind our back are counted.
 */
void un_index_resolve(struct un_fs *fs, struct un_inode *inode, unsigned lower_nlink);
/* Is its upper file in the index? The inode's lock is taken. */
bool un_index_has(struct un_inode *inode);
/* A name of it was looked up: the count is at least that of the names known. */
void un_index_named(struct un_fs *fs, struct un_inode *inode);
/* Before a name in the upper comes or goes: let the count be told from that of the upper. */
int un_index_relative_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/* A name of it has gone from the upper: with the last one the index lets go of it. */
void un_index_unlinked_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);

/*
 * The name is in the upper afterwards as well, if its inode is in the index. -EAGAIN: it is not the name
 * of @inode (any more). @dir must be in the upper. No lock is held.
 */
int un_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name,
	     bool quiet);
