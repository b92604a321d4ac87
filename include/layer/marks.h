/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The marks overlay formats leave on objects as xattrs, and what of them a user of the union sees.
 *
 * In the dialect in use marks are named P"overlay."X with P "trusted." or "user.". They are never
 * shown; what a user calls P"overlay."X is stored as P"overlay.overlay."X (a nested overlay's mark),
 * one more "overlay." for each level. "user.fuseoverlayfs."X gets the same treatment: its "opaque"
 * is a mark that fuse-overlayfs wrote.
 */
#pragma once

#include "layer/layer.h"

#include <linux/limits.h>
#include <stdbool.h>

enum un_mark {
	UN_MARK_OPAQUE,   /* directory: "y" hides what is below; "x" has xattr whiteouts in it */
	UN_MARK_REDIRECT, /* the name or path that the object has in the layers below */
	UN_MARK_METACOPY, /* regular file without data */
	UN_MARK_ORIGIN,   /* handle of the lower object that was copied up */
	UN_MARK_IMPURE,   /* upper directory: holds objects with an origin */
	UN_MARK_WHITEOUT, /* empty regular file that is a whiteout */
	UN_MARK_PROTATTR, /* flags immutable and append-only, which the real inode lacks */
	UN_MARK_UUID,     /* upper root: identity of the union */
	UN_MARK_NLINK,    /* indexed file: how its link count is to be told */
	UN_MARK_UPPER,    /* index directory: handle of the upper root */
	UN_MARK_ORDINARY, /* regular file named `.wh.*` that is no mark: made through a union */
	UN_MARK_LEGACY_OPAQUE, /* user.fuseoverlayfs.opaque */
	UN_N_MARKS,
};

/* Bits of a set of marks, as un_marks_scan() returns it. */
#define UN_HAS(mark) (1u << (mark))
#define UN_HAS_ANY (1u << 31) /* any xattr, be it a mark or not */

/* The full xattr name; static. */
const char *un_mark_name(const struct un_layer *l, enum un_mark mark);

/* Which marks (UN_HAS bits) the object carries; one system call. 0 where there are no xattrs. */
int un_marks_scan(const struct un_at *at, unsigned *ret);

/*
 * The mark's length; -ENODATA: there is none (also where the file system has no xattrs); or -errno.
 */
ssize_t un_mark_get(const struct un_at *at, enum un_mark mark, void *buf, size_t size);
int un_mark_set(const struct un_at *at, enum un_mark mark, const void *value, size_t size);
int un_mark_clear(const struct un_at *at, enum un_mark mark);

/* Given the scan of a directory: is it opaque? has it xattr whiteouts? 1, 0 or -errno. */
int un_marks_opaque(const struct un_at *at, unsigned marks, bool *ret_xwhiteouts);

/* The layer's name for a user's xattr. -EOPNOTSUPP: that name is too long. */
int un_xattr_to_layer(const struct un_layer *l, const char *name, char ret[XATTR_NAME_MAX + 1]);

/*
 * A layer's xattr name as the user sees it: NULL if it is hidden, @name itself, or a name in @buf.
 */
const char *un_xattr_from_layer(const struct un_layer *l, const char *name,
				char buf[XATTR_NAME_MAX + 1]);

/*
 * All names, NUL separated as listxattr(2) gives them, in memory that the caller frees with free();
 * *ret is NULL if there are none. Returns the length or -errno; 0 without xattr support.
 */
ssize_t un_xattr_list(const struct un_at *at, char **ret);
