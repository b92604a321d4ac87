/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy-up: an object moves to the upper. */
#pragma once

#include <sys/types.h>

struct un_fs;
struct un_inode;

/* Nothing is cut off: copy all data. */
#define UN_COPY_ALL ((off_t)-1)
/* Data is not about to change: it may stay where it is (metacopy). */
#define UN_COPY_META ((off_t)-2)
/*
 * The object, and its parents before it, are in the upper afterwards; unless UN_COPY_META its data
 * as well. @size >= 0: it appears with that size, and as changed now; returns 1 if so, 0 if it was
 * in the upper before. With UN_COPY_* it returns 0. -EROFS, -EPERM (ownership that cannot be kept),
 * -ENOSPC, ...: then nothing of it is visible. -EINTR likewise: the caller is gone (util/cancel.h); before
 * anything else than parents was published, so that a change which begins with copy-ups has not begun.
 */
int un_copyup(struct un_fs *fs, struct un_inode *inode, off_t size);
/* The same for a file of several names: this one is to be in the upper. */
int un_copyup_name(struct un_fs *fs, struct un_inode *inode, off_t size, struct un_inode *dir,
		   const char *name);
