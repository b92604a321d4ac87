/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is what is found now what was known? A layer's inode numbers are given to new files as soon as they are free. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct statx;
struct un_found;
struct un_fs;
struct un_inode;
struct un_layer;

/* When it was made, in nanoseconds since 1970; 0: the file system does not tell. */
uint64_t un_born(const struct statx *st);
/* True also if it cannot be told. */
bool un_is_as_old(const struct un_inode *inode, const struct statx *st);
/* @st was found at the place of @inode: is it still that object? Of a directory: is it one? */
bool un_is_it(struct un_layer *l, const struct un_inode *inode, const struct statx *st);
/* Are they the objects, at least one, that @inode stands for? */
bool un_is_still(struct un_fs *fs, struct un_inode *inode, const struct un_found *f);
