/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of which it is known that their data did not get to the disk. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct un_fs;
struct un_inode;

/*
 * Files whose write-back has failed, by real number. The kernel tells it once, to descriptors that were
 * open then; but one of ours stands for many of users', so all of them are told from then on, until the
 * file is known to be good: all of it has been written anew from its beginning, and that is on disk.
 */
void un_writeback_init(struct un_fs *fs);
void un_writeback_done(struct un_fs *fs);
/* fsync of @inode, through @fd, said @err (negative). */
void un_writeback_failed(struct un_fs *fs, int fd, int err);
/* The fsync said success: returns 0, or the error of an earlier one that still counts. */
int un_writeback_ok(struct un_fs *fs, const struct un_inode *inode, int fd);
/* Is an error known that still counts? */
bool un_writeback_has_failed(struct un_fs *fs, const struct un_inode *inode);
/* @size bytes were written at @off. */
void un_writeback_anew(struct un_fs *fs, const struct un_inode *inode, off_t off, size_t size);
/* The number is that of a new file from now on. */
void un_writeback_forget(struct un_fs *fs, uint64_t dev, uint64_t ino);
