/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where in the layers the data of a metacopy file is. */
#pragma once

#include "object/object.h"

#include <stdint.h>
#include <sys/types.h>

struct un_data;
struct un_fd;
struct un_found;
struct un_fs;
struct un_inode;

/* From a lookup's result; NULL if the object has its data itself. */
struct un_data *un_data_new(const struct un_found *f, const char *name);
/* The real file with the data, open for reading; @inode's lock is held. -EIO: it is not there. */
int un_data_get_locked(struct un_fs *fs, struct un_inode *inode, struct un_fd **ret)
	UN_INODE_LOCKED(inode);
/*
 * The value of a metacopy mark that tells the digest fs-verity has of the open file @fd of @l: its length, or
 * -errno of asking (-ENODATA, -ENOTTY, -EOPNOTSUPP: it has none). @ret: UN_META_MAX bytes.
 */
#define UN_META_MAX (4 + 64)
ssize_t un_data_digest(struct un_layer *l, int fd, uint8_t *ret);
