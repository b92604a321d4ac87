/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data follows to a metacopy file. */
#pragma once

#include <sys/types.h>

struct un_fs;
struct un_inode;

/* Copy the data of a metacopy file up; @size as in un_copyup(). Its `copying` is held. */
int un_data_fill(struct un_fs *fs, struct un_inode *inode, off_t size);
