/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small helpers for moving data, used through a table so that faults can be injected. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/*
 * What un_copy_data() copies with; each returns a count, 0 or -errno. @ctx is handed through.
 * seek: as lseek(2) with SEEK_DATA or SEEK_HOLE on the source. flush, or NULL: what was written to this range
 * of the destination goes to the disk: from now on, or, with @wait, it is there when the call returns.
 */
struct un_copy_ops {
	int (*clone)(void *ctx);
	ssize_t (*copy_range)(void *ctx, off_t off, size_t size);
	ssize_t (*pread)(void *ctx, void *buf, size_t size, off_t off);
	ssize_t (*pwrite)(void *ctx, const void *buf, size_t size, off_t off);
	off_t (*seek)(void *ctx, off_t off, int whence);
	int (*flush)(void *ctx, off_t off, off_t size, bool wait);
};

/*
 * Copy the first @size bytes of a source of @src_size bytes to the same place in an empty
 * destination, holes left as holes: clone, then copy_file_range, then read and write, each rung's
 * refusal leading to the next. The destination's size is not set beyond the last data.
 * Returns 0 or -errno of the last rung; -EINTR: un_cancelled(). A source that shrinks meanwhile is copied as
 * far as it goes. With flush no more than the last few MiB are not on the disk afterwards.
 */
int un_copy_data(const struct un_copy_ops *ops, void *ctx, off_t size, off_t src_size);
