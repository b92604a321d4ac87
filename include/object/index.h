/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hard links that an index keeps together through copy-up. */
#pragma once

#include "object/lock.h"

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
 * A new struct for the lower file (@dirfd, @name), in no table yet; *ret is NULL if the file has no
 * handle. 0, or -errno: the handle cannot be had while the index may have the file, so nobody knows
 * what the file contains.
 */
int un_index_new(struct un_fs *fs, const struct un_at *at, const struct statx *st,
		 struct un_index **ret);
/* Has the index an entry for @ix? 1 and @st, 0, or -errno (-EIO: the entry is of another file). */
int un_index_look(struct un_fs *fs, const struct un_index *ix, const struct statx *lower,
		  struct statx *st);
/*
 * Is the index entry a metacopy file? 1, 0 or -errno. And its redirect: the caller frees it, or
 * NULL.
 */
int un_index_is_metacopy(struct un_fs *fs, const struct un_index *ix);
char *un_index_redirect(struct un_fs *fs, const struct un_index *ix);
/*
 * @inode (new, not shared yet) is the upper file in the index: fill in its place and its link
 * count.
 */
void un_index_attach(struct un_fs *fs, struct un_inode *inode, struct un_index *ix,
		     const struct statx *st)
	UN_INODE_LOCKED(inode);
/*
 * The upper file (dirfd, name) has an origin and several names: attach @inode if the index has it.
 */
void un_index_of_upper(struct un_fs *fs, struct un_inode *inode, int dirfd, const char *name,
		       const struct statx *st)
	UN_INODE_LOCKED(inode);
/*
 * The name is in a lower only, and its inode is in the index: make the name in the upper too. ns of
 * @dir is held for writing, its upper directory is @dirfd. @quiet: no user asked for it, so no
 * ctime is seen to move. -ESTALE: the upper has that name by now; -ENOENT: the index has lost the
 * file.
 */
int un_index_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, int dirfd,
		   const char *name, bool quiet)
	UN_NS_WRITE;
/*
 * The lower file was seen with @lower_nlink links: a nlink mark that is relative to that number
 * ("L+0") can be understood now, and names that came or went in the lower behind our back are
 * counted.
 */
void un_index_resolve(struct un_fs *fs, struct un_inode *inode, unsigned lower_nlink);
/* Is the upper file of @inode in the index? Takes the inode's lock. */
bool un_index_has(struct un_inode *inode);
/* A name of @inode was looked up: its link count is at least the number of its known names. */
void un_index_named(struct un_fs *fs, struct un_inode *inode);
/*
 * Before a name in the upper comes or goes: make the nlink mark relative to the upper's count
 * ("U+0").
 */
int un_index_relative_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);
/* A name of @inode has gone: with the last one the entry leaves the index. */
void un_index_unlinked_locked(struct un_fs *fs, struct un_inode *inode)
	UN_INODE_LOCKED(inode);

/*
 * If @inode is in the index, its name (@dir, @name) is in the upper afterwards as well. -EAGAIN: it
 * is not a name of @inode (any more). @dir must be in the upper. The caller holds no lock.
 */
int un_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name,
	     bool quiet);
