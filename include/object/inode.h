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
/* Whatever the kernel had not forgotten when it went away; nobody else is there any more. */
void un_table_forget(struct un_fs *fs);
/* One reference, in no table but that of the ids. */
struct un_inode *un_inode_new(struct un_fs *fs, uint8_t type);
struct un_inode *un_inode_ref(struct un_inode *inode);
/* A reference to the child known under the name, or NULL. */
struct un_inode *un_name_find(struct un_fs *fs, struct un_inode *dir, const char *name);
/*
 * Give @inode the name, unless somebody was faster: then returns a reference to that one, else NULL.
 * @replace: it takes the name over in any case.
 */
struct un_inode *un_name_add(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			     const char *name, bool replace);
/* Returns true if it was the last name. */
bool un_name_drop(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name);
/* A copy of one (directory reference, name), false if it has none. @name: NAME_MAX + 1 bytes. */
bool un_name_any(struct un_inode *inode, struct un_inode **dir, char *name);
struct un_inode *un_key_find(struct un_fs *fs, uint64_t dev, uint64_t rino);
/* What was just made: it takes the number over. */
void un_key_add(struct un_fs *fs, struct un_inode *inode);
/* What was found: NULL, or a reference to the inode that already stands for that file. */
struct un_inode *un_key_claim(struct un_fs *fs, struct un_inode *inode);
void un_key_drop(struct un_fs *fs, struct un_inode *inode);
/* The inode that stands for a lower file with several names, or NULL. */
struct un_inode *un_links_find(struct un_fs *fs, uint64_t dev, uint64_t ino);
/* @inode->ix is found from now on, or somebody was faster: then a reference to that one, else NULL. */
struct un_inode *un_links_claim(struct un_fs *fs, struct un_inode *inode);
void un_links_drop(struct un_fs *fs, struct un_inode *inode);

void un_data_free(struct un_fs *fs, struct un_data *data);
