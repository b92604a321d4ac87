/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of the lowers an upper shows elsewhere: found first, since a name that is missing may come later. */
#pragma once

#include "stack_i.h"

struct un_tool_moves {
	GHashTable *to; /* path in the lowers -> where it is in the union now */
};

/* 0 or -errno of the roots. @ret is to be emptied with un_tool_moves_done() either way. */
int un_tool_moves_find(struct un_tool_views *views, void (*progress)(void *data, uint64_t names),
		       void *data, struct un_tool_moves *ret);
void un_tool_moves_done(struct un_tool_moves *m);

/* Was what the lowers have at @path moved away? */
bool un_tool_moved_away(const struct un_tool_moves *m, const char *path);
/* ... to @to? Two may claim the same; then the first is meant. */
bool un_tool_moved_to(const struct un_tool_moves *m, const char *path, const char *to);

/*
 * Where the lowers have what was found as @name of the upper, through a redirect: a path of that view; owned.
 * @was: the path of the directory in the lowers, NULL: there is none.
 */
char *un_tool_redirected(const struct un_found *f, const char *was);

/* Is what @f found through a redirect seen at @path of the view with this root? When in doubt it is. */
bool un_tool_is_at(const struct un_tool_stack *root, const char *path, const struct un_found *f);

/* DIR/NAME; "." is the root. Owned. */
char *un_tool_join(const char *dir, const char *name);

/*
 * The object of the lowers in @f: a directory, or what has the data; of one found in the upper what it goes on with. NULL:
 * there is none, or it is in a data-only layer.
 */
const struct un_hit *un_tool_lower_part(const struct un_found *f);
