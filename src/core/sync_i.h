/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is on disk, and what is known not to get there. */
#pragma once

#include "core_i.h"

/* ---- sync.c ----------------------------------------------------------------------------------------- */

/*
 * What the upper shows of @inode has changed in a way that whoever changed the file does not know of: it
 * was published (@names: by a name), its data is in the upper from now on. Before anybody can see it.
 */
void un_published(struct un_inode *inode, bool names);
/* A new object in @dir, whose own name in the upper may be as new. */
void un_published_in(struct un_inode *inode, struct un_inode *dir);

/* ---- writeback.c -------------------------------------------------------------------------------------- */

/*
 * Files whose write-back has failed, by real number. The kernel tells it once, to descriptors that were
 * open then; but one of ours stands for many of users', so all of them are told from then on, until the
 * file is known to be good: all of it has been written anew from its beginning, and that is on disk.
 */
void un_writeback_init(struct un_fs *fs);
void un_writeback_done(struct un_fs *fs);
/* fsync of @inode, through @fd, said @err (negative). */
void un_writeback_failed(struct un_fs *fs, int fd, int err);
/* ... said success: 0, or what failed before. */
int un_writeback_ok(struct un_fs *fs, const struct un_inode *inode, int fd);
/* So much has been written there. */
void un_writeback_anew(struct un_fs *fs, const struct un_inode *inode, off_t off, size_t size);
/* The number is that of a new file. */
void un_writeback_forget(struct un_fs *fs, uint64_t dev, uint64_t ino);
