/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All that an upper changes, name by name: for `diff`, and for whatever else asks what is different.
 *
 * Only directories of the upper are read, and what a new directory hides; so it costs what the upper has,
 * not what the lowers have. Memory is what one directory's names take, and those of the directories above it;
 * and what was moved is remembered, because a name that is missing may have been moved.
 */
#pragma once

#include "change_i.h"

struct un_tool_walker {
	/*
	 * A change, in the order of the names, byte by byte, a directory before what is in it; the struct lives as
	 * long as the call. Other than 0 ends the walk, which returns it.
	 */
	int (*change)(void *data, const struct un_tool_change *c);
	/* A name that cannot be looked at; what is in it is left out. -errno. */
	void (*trouble)(void *data, const char *path, int err);
	/* Often: so many names were looked at. Or NULL. */
	void (*progress)(void *data, uint64_t names);
	void *data;
};

/* 0 or -errno (of the roots), or what change() returned. There is one lower at least. */
int un_tool_walk(struct un_tool_views *views, const struct un_tool_walker *w);

/*
 * The same without lowers, by what the upper's marks say: objects with an origin were there before (of a file that means
 * UN_TOOL_CHANGED, with no UN_TOOL_CONTENT..., of a directory UN_TOOL_SAME), others are UN_TOOL_ADDED; what hides something
 * UN_TOOL_REMOVED. `was` is NULL everywhere; `now` as well if it is removed.
 */
int un_tool_walk_alone(struct un_tool_views *views, const struct un_tool_walker *w);
