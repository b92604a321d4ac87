/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "merge_i.h"

/*
 * The last component of what is searched, in one layer. Adds to s->f, sets s->stop if the
 * search ends here, and s->now if it goes on elsewhere. @rest: NULL, or where it is in a path.
 */
int un_merge_look(struct un_search *s, const struct un_where *w, const char *name,
		  const struct un_rest *rest, bool deeper);

/*
 * A directory was found: read its marks, which matter if something is @deeper. @h: the hit,
 * NULL for a directory on the way.
 */
int un_merge_directory(struct un_search *s, const struct un_where *w, const char *name,
		       const struct statx *st, const struct un_rest *rest, bool deeper,
		       struct un_hit *h);
