/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One name of a union, compared with what the lowers alone would show. */
#pragma once

#include "stack_i.h"

enum un_tool_kind {
	UN_TOOL_SAME,    /* in the upper, and nothing of it differs */
	UN_TOOL_ADDED,   /* the lowers have nothing here (any more: it was moved away) */
	UN_TOOL_REMOVED, /* with all that is in it */
	UN_TOOL_CHANGED,
	UN_TOOL_MOVED, /* it is the lowers' `from`, of which `from` itself shows nothing any more */
	UN_TOOL_COPIED, /* the same, but it is there as well: a layer that no union has written */
	UN_TOOL_TYPE, /* another kind of file than before; a directory that was there is gone with what was in it */
	UN_TOOL_N_KINDS,
};

/* What of a file differs. */
enum un_tool_what {
	UN_TOOL_CONTENT = 1 << 0, /* data; target of a symlink; number of a device */
	UN_TOOL_MODE = 1 << 1,
	UN_TOOL_OWNER = 1 << 2,
	UN_TOOL_TIMES = 1 << 3, /* of modification; not of directories, whose entries move it */
	UN_TOOL_XATTRS = 1 << 4,
};

struct un_tool_change {
	const char *path; /* in the union, from its root; "." for that */
	const char *from; /* where the lowers have it, if it was moved; or NULL */
	enum un_tool_kind kind;
	unsigned what; /* UN_TOOL_CONTENT...; of a file that was there before */
	const GPtrArray
		*xattrs; /* char *: "+NAME", "-NAME", "~NAME" (another value), sorted; or NULL */
	const char
		*name; /* the last of path, by which `now` was found; and `was`, unless was_name */
	const char *was_name;             /* ... by which `was` was found */
	const struct un_found *now, *was; /* or NULL */
};

/* ---- compare.c --------------------------------------------------------------------------------------- */

/* A file with what it was found by. */
struct un_tool_side {
	struct un_layers *layers;
	const struct un_hit *hit;     /* whose attributes count */
	const struct un_found *found; /* where its data is */
	const char *name;
};

/*
 * Of two files of the same kind: what differs, in *ret (UN_TOOL_...), and which xattrs, in *ret_xattrs (owned, or
 * NULL). 0 or -errno.
 */
int un_tool_compare(const struct un_tool_side *now, const struct un_tool_side *was, unsigned *ret,
		    GPtrArray **ret_xattrs);

/* A descriptor of the data of a regular file, or -errno. -ENOENT: it is in no data-only layer. */
int un_tool_open_data(const struct un_tool_side *side, struct un_layer **ret_layer);
