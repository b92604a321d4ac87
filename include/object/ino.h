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
/* @l came later. */
void un_ino_add_layer(struct un_fs *fs, const struct un_layer *l);
/*
 * The number shown for the object (@dev, @ino) of a layer, found at its own place (not by a
 * redirect): unique over the layers' file systems. @salt: that of the directory, for an object of a
 * lower; else 0.
 */
uint64_t un_ino_natural(struct un_fs *fs, uint64_t dev, uint64_t ino, uint64_t salt);
/* The same for an entry in the listing of @rd: no mark is looked for, but a number kept is used. */
uint64_t un_ino_listed(struct un_fs *fs, const struct un_realdir *rd, uint64_t ino);
/*
 * The number that the upper non-directory @name in @rd (@dirfd) is to show; 0: its own
 * (un_ino_own()). *ret_origin: it carries an origin. @look: it may carry one.
 */
uint64_t un_ino_of_upper(struct un_fs *fs, struct un_realdir *rd, int dirfd, const char *name,
			 const struct statx *st, bool look, bool *ret_origin);
/* Set number and salt of the directory @inode, found as @name in @dir; its stack is complete. */
void un_ino_of_dir(struct un_fs *fs, const struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode *inode);
/* The lower object that @origin leads to; *ret_ino 0: not known, *ret_nlink 0: not known. */
void un_ino_of_origin(struct un_fs *fs, const struct un_origin *origin, uint64_t *ret_dev,
		      uint64_t *ret_ino, unsigned *ret_nlink);
/*
 * The upper object (@dev, @rino), which was copied up or moved, shows @shown wherever it is found,
 * until un_ino_unkeep().
 */
void un_ino_keep(struct un_fs *fs, uint64_t dev, uint64_t rino, uint64_t shown);
void un_ino_keep_dir(struct un_fs *fs, struct un_inode *dir);
void un_ino_unkeep(struct un_fs *fs, uint64_t dev, uint64_t rino);

/* @inode is in the upper (@dir NULL: it has no name) and shows the number of its upper object. */
void un_ino_own(struct un_fs *fs, struct un_inode *inode, const struct un_realdir *dir,
		const char *name);
/*
 * Where numbers of the upper do not last, the stand-ins in such a directory are made of its number,
 * which un_realdir_new() cannot know.
 */
void un_ino_own_dir(struct un_fs *fs, struct un_inode *dir);
/* @inode is being freed. */
void un_ino_release(struct un_fs *fs, struct un_inode *inode);
