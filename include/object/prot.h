/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Immutable and append-only. */
#pragma once

#include <stdbool.h>

struct statx;
struct un_fs;
struct un_inode;

/* UN_PROT_* of a lower file with these attributes. */
unsigned un_prot_of_stat(const struct statx *st);
/* Write the mark of (@dirfd, @name) in the upper; no bits: take it away. */
int un_prot_mark(struct un_fs *fs, int dirfd, const char *name, unsigned prot);
/* The same for @inode, which is in the upper, and remember it. */
int un_prot_set(struct un_fs *fs, struct un_inode *inode, unsigned prot);

/* UN_PROT_* bits in force, or -errno. */
int un_prot(struct un_fs *fs, struct un_inode *inode);
/* May names in the directory change? @remove: one is taken away. 0, -EPERM, or another -errno. */
int un_prot_dir(struct un_fs *fs, struct un_inode *dir, bool remove);
/* May @inode be changed, or lose a name? 0, -EPERM, or another -errno. */
int un_prot_victim(struct un_fs *fs, struct un_inode *inode);
