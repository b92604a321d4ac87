/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names that the kernel keeps as missing; see known.h for those above union/. */
#pragma once

struct un_fs;
struct un_inode;
struct un_missing;

/* In a mount that answers for long (ops/lookup.c) names come into it. */
void un_missing_init(struct un_fs *fs);
/* No directory is looked into any more. */
void un_missing_done(struct un_fs *fs);
/* @name is in @dir: who is told of it keeps it as missing no longer. */
void un_missing_found(struct un_fs *fs, const struct un_inode *dir, const char *name);
/* @dir is being freed. */
void un_missing_forget(struct un_fs *fs, const struct un_inode *dir);
/* Those in @dir, or (NULL) in all directories, for un_known_missing_tell(). */
struct un_missing *un_missing_copy(struct un_fs *fs, const struct un_inode *dir);
