/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of merge/: names of the tar form, and a lookup under way. */
#pragma once

#include "merge/merge.h"

/* The tar form of marks (OCI image layers, AUFS), as file names. */
#define UN_WH ".wh."
#define UN_WH_OPAQUE ".wh..wh..opq"
#define UN_WH_META ".wh..wh."

struct un_search {
	const struct un_merge_dir *d;
	struct un_found *f;
	const char *asked;
	unsigned pos;
	unsigned layer; /* where the search is */
	char *now;      /* name or path to search the layers below for; NULL: the name asked for */
	bool stop;      /* the layers below take no part */
};

/* Behind a component of a path that is being walked: how much of it is left, its slash included. */
struct un_rest {
	size_t len;      /* of what follows the component */
	size_t name_len; /* of the component */
};

/* An upper without xattrs cannot mark a `.wh.` name as ordinary: there all of them are marks. */
static inline bool un_merge_tar_reserved(const struct un_where *w, const char *name)
{
	return w->layer->tar_names && un_merge_tar_name(name);
}

/* Does `.wh.NAME` in this layer hide @name in the layers below? 1, 0 or -errno. */
int un_merge_tar_whiteout(const struct un_where *w, const char *name);

/* As un_merge_tar_opaque(), for the directory @name in @w. */
int un_merge_tar_opaque_in(const struct un_where *w, const char *name);
