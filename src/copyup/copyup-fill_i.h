/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data follows to a metacopy file. */
#pragma once

#include <sys/types.h>

struct un_fs;
struct un_inode;

/* A fill that was given up, until its traces are removed. */
struct un_fill {
	int dst; /* -1: none has begun */
	off_t size;
	char caps[64]; /* security.capability */
	ssize_t caps_len;
};

/*
 * Copy the data of a metacopy file up; @size as in un_copyup(). Its `copying` is held. After -EINTR, and then
 * only, un_data_unfill() has to follow.
 */
int un_data_fill(struct un_fs *fs, struct un_inode *inode, off_t size, struct un_fill *f);
/* May last; `copying` is held still. */
void un_data_unfill(struct un_fs *fs, struct un_inode *inode, struct un_fill *f);
