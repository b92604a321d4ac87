/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which real directories a merged directory is made of. */
#pragma once

#include "object/lock.h"

#include <stdbool.h>

struct un_found;
struct un_fs;
struct un_inode;
struct un_realdir;

/* @inode is new, and stands for the directory that was found as @name in @dir. */
void un_stack_fill(struct un_fs *fs, struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode *inode);
/* @inode was found again, where its real directories are by now. */
void un_stack_found(struct un_fs *fs, const char *name, const struct un_found *f,
		    struct un_inode *inode);
/*
 * What was found is not what @inode stands for, but is it still the same directory, of which others have
 * changed which real ones it is merged from? It is as long as one of those is still there.
 */
bool un_stack_is_akin(struct un_fs *fs, const struct un_inode *inode,
		      const struct un_found *f) UN_NS_READ;
/*
 * The root of the union is made of @stack (@n) from now on, which is taken over; its ns is held for writing.
 */
void un_stack_set_root(struct un_fs *fs, struct un_realdir **stack, unsigned n) UN_NS_WRITE;
/*
 * Then that is what it is made of from now on; open descriptors and working directories stay where they are. ns of
 * both @dir and @inode is held.
 */
void un_stack_change(struct un_fs *fs, struct un_inode *dir, const char *name,
		     const struct un_found *f, struct un_inode *inode) UN_NS_WRITE;
