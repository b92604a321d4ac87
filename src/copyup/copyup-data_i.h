/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data from a layer to the upper. */
#pragma once

#include <sys/types.h>

struct un_fd;
struct un_fs;

/* The first @want bytes of @src, which has @have, to the empty file @dst of the upper. -EINTR: un_cancelled(). */
int un_copyup_data(struct un_fs *fs, const struct un_fd *src, int dst, off_t want, off_t have);
