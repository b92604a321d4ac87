/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where in the layers the data of a metacopy file is. */
#pragma once

#include "object/lock.h"

#include <stdint.h>
#include <sys/types.h>

struct un_data;
struct un_fd;
struct un_found;
struct un_fs;
struct un_inode;

/* Where the data of the object is that a lookup found; NULL if the object has its data itself. */
struct un_data *un_data_new(const struct un_found *f, const char *name);
/* @inode was found again, as @f: its data may be elsewhere by now, by the hand of others, or here. */
void un_data_found(struct un_fs *fs, struct un_inode *inode, const struct un_found *f,
		   const char *name);
/*
 * The real file with the data, open for reading; @inode's lock is held. -EIO: that file is gone; -ESTALE: it is to be
 * looked for first (un_file_get_data()).
 */
int un_data_get_locked(struct un_fs *fs, struct un_inode *inode, struct un_fd **ret)
	UN_INODE_LOCKED(inode);
/*
 * The value of a metacopy mark with the digest that fs-verity has of the open file @fd of @l.
 * Returns the value's length, or -errno of asking for the digest (-ENODATA, -ENOTTY, -EOPNOTSUPP:
 * there is none). @ret has room for UN_META_MAX bytes.
 */
#define UN_META_MAX (4 + 64)
ssize_t un_data_digest(struct un_layer *l, int fd, uint8_t *ret);
