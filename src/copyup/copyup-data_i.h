/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data from a layer to the upper. */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

struct un_fd;
struct un_fs;

/* The first @want bytes of @src, which has @have, to the empty file @dst of the upper. -EINTR: un_cancelled(). */
int un_copyup_data(struct un_fs *fs, const struct un_fd *src, int dst, off_t want, off_t have);
/*
 * @before and @now are what the file was like before a copy was made, at @began, and afterwards. Was it changed
 * meanwhile? 1 or 0; -1: that cannot be told, for its clock may be too coarse.
 */
int un_copyup_is_another(const struct statx *before, const struct statx *now,
			 const struct timespec *began);
/* Are the first @size bytes of @dst other ones than those of @src? 1, 0, or -errno; -EINTR: un_cancelled(). */
int un_copyup_differs(struct un_fs *fs, const struct un_fd *src, int dst, off_t size);
