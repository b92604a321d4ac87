/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of inodes: references, names, real numbers. Node ids are never used again. */
#pragma once

#include "object/node.h"
#include "object/object.h"

#include <stdbool.h>
#include <stdint.h>

struct un_data;
struct un_fs;
struct un_inode;

void un_table_init(struct un_fs *fs);
void un_table_done(struct un_fs *fs);
/*
 * Forget all inodes that the kernel had not forgotten when it went away. No other thread is left.
 */
void un_table_forget(struct un_fs *fs);
/* A new inode with one reference, in no table but that of the ids. */
struct un_inode *un_inode_new(struct un_fs *fs, uint8_t type);
struct un_inode *un_inode_ref(struct un_inode *inode);
/* A reference to the child known under the name, or NULL. */
struct un_inode *un_name_find(struct un_fs *fs, struct un_inode *dir, const char *name);
/*
 * Give @inode the name and return NULL; or, if another inode has the name, return a reference to
 * that. @replace: @inode takes the name over in any case.
 */
struct un_inode *un_name_add(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			     const char *name, bool replace, unsigned stamp);
/* As un_name_find(); *ret_stamp: un_live_stamp() of @dir when that was last seen to be so. */
struct un_inode *un_name_find_at(struct un_fs *fs, struct un_inode *dir, const char *name,
				 unsigned *ret_stamp);
/* That it leads to @inode has been seen again; nothing if it leads elsewhere by now. */
void un_name_confirm(struct un_fs *fs, const struct un_inode *inode, struct un_inode *dir,
		     const char *name, unsigned stamp);
/* Returns true if it was the last name. */
bool un_name_drop(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name);
/* One of its names: *dir is a reference, @name has NAME_MAX + 1 bytes. False: it has no name. */
bool un_name_any(struct un_inode *inode, struct un_inode **dir, char *name);
/* A reference to the inode that stands for the upper file (@dev, @rino), or NULL. */
struct un_inode *un_key_find(struct un_fs *fs, uint64_t dev, uint64_t rino);
/* @inode was just made: it takes its real number over, whoever had that before. */
void un_key_add(struct un_fs *fs, struct un_inode *inode);
/* @inode was found: it takes its real number, and NULL; or a reference to the inode that has it. */
struct un_inode *un_key_claim(struct un_fs *fs, struct un_inode *inode);
void un_key_drop(struct un_fs *fs, struct un_inode *inode);
/* A reference to the inode that stands for a lower file with several names, or NULL. */
struct un_inode *un_links_find(struct un_fs *fs, uint64_t dev, uint64_t ino);
/* un_links_find() finds @inode from now on, and NULL; or a reference to the inode that it finds. */
struct un_inode *un_links_claim(struct un_fs *fs, struct un_inode *inode);
void un_links_drop(struct un_fs *fs, struct un_inode *inode);

void un_data_free(struct un_fs *fs, struct un_data *data);
