/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "merge_i.h"

/*
 * Look for @name, the last component of what is searched for, in one layer's directory @w. Adds to
 * s->f, sets s->stop if the search ends here, and s->now if it goes on under another name or path.
 * @rest: NULL, or where @name is in a path.
 */
int un_merge_look(struct un_search *s, const struct un_where *w, const char *name,
		  const struct un_rest *rest, bool deeper);

/*
 * A directory was found: read its marks. @deeper: there are layers below that they matter for. @h:
 * the hit to fill in; NULL for a directory on the way.
 */
int un_merge_directory(struct un_search *s, const struct un_where *w, const char *name,
		       const struct statx *st, const struct un_rest *rest, bool deeper,
		       struct un_hit *h);
