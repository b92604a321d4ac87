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
	char *now;      /* what the layers below are searched for; NULL: as asked */
	bool stop;      /* what is below does not take part */
};

/* Behind a component of a path that is being walked: how much of it is left, its slash included. */
struct un_rest {
	size_t len;      /* of what follows the component */
	size_t name_len; /* of the component */
};

/* An upper that cannot hold our mark: all such names are the format's, and none is ever shown. */
static inline bool un_merge_tar_reserved(const struct un_where *w, const char *name)
{
	return w->layer->tar_names && un_merge_tar_name(name);
}

/* One more name to look at: does `.wh.NAME` in this layer hide what is below? 1, 0 or -errno. */
int un_merge_tar_whiteout(const struct un_where *w, const char *name);

/* The same as un_merge_tar_opaque(), of the directory @name in @w. */
int un_merge_tar_opaque_in(const struct un_where *w, const char *name);
