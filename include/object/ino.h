/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inode numbers as shown. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct statx;
struct un_found;
struct un_fs;
struct un_inode;
struct un_origin;
struct un_realdir;

void un_ino_init(struct un_fs *fs);
void un_ino_done(struct un_fs *fs);
/*
 * The number shown for a real one of a layer, found at the place where it is by itself: unique over the
 * layers' file systems. @salt: of the directory it was found in, for what is in a lower.
 */
uint64_t un_ino_natural(struct un_fs *fs, uint64_t dev, uint64_t ino, uint64_t salt);
/* The same for what a listing of @rd tells, without looking for marks; what it knows of is kept. */
uint64_t un_ino_listed(struct un_fs *fs, const struct un_realdir *rd, uint64_t ino);
/*
 * What the upper non-directory @name in @rd (@dirfd) is to show, 0: its own (un_ino_own()); *ret_origin: it
 * carries an origin. @look: it may.
 */
uint64_t un_ino_of_upper(struct un_fs *fs, struct un_realdir *rd, int dirfd, const char *name,
			 const struct statx *st, bool look, bool *ret_origin);
/* Number and salt of the directory @inode that was found as @name in @dir; its stack is complete. */
void un_ino_of_dir(struct un_fs *fs, const struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode *inode);
void un_ino_of_origin(struct un_fs *fs, const struct un_origin *origin, uint64_t *ret_dev,
		      uint64_t *ret_ino, unsigned *ret_nlink);
/*
 * An upper object shows this number as long as it lives, wherever it is found: copied up, or moved;
 * until it is forgotten.
 */
void un_ino_keep(struct un_fs *fs, uint64_t dev, uint64_t rino, uint64_t shown);
void un_ino_keep_dir(struct un_fs *fs, struct un_inode *dir);
void un_ino_unkeep(struct un_fs *fs, uint64_t dev, uint64_t rino);

/* @inode is in the upper (dir NULL: nameless) and shows the number of its own object there. */
void un_ino_own(struct un_fs *fs, struct un_inode *inode, const struct un_realdir *dir,
		const char *name);
/*
 * Such a directory's number is also what those of its names are made of; un_realdir_new() cannot know it.
 */
void un_ino_own_dir(struct un_fs *fs, struct un_inode *dir);
/* It is being freed. */
void un_ino_release(struct un_fs *fs, struct un_inode *inode);
