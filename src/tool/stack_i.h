/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merged directories by descriptors, for the rules of merge/. One process, one thread: no locks.
 *
 * A view is what is asked: all layers ("now"), or the lowers alone ("was"). A stack is one directory of a view, its
 * real directories from the top down; the views share these.
 */
#pragma once

#include "layer/setup.h"
#include "merge/merge.h"

/* A real directory, counted. */
struct un_tool_dir {
	struct un_layer *layer;
	int fd; /* O_PATH; -1: a mountpoint, which is not entered */
	uint64_t dev, ino;
	bool opaque, xwhiteouts;
	unsigned refs;
};

/* A walk calls itself for each level, so there is an end: un_tool_open() makes room for this much. */
#define UN_TOOL_DEPTH_MAX 10000

struct un_tool_stack {
	struct un_merge_dir d;
	const struct un_tool_stack *root; /* of its view; itself, if it is that */
	unsigned depth;                   /* below the root of the walk */
	struct un_tool_dir **v;
};

struct un_tool_views {
	struct un_layers *layers;        /* borrowed */
	struct un_tool_stack *now, *was; /* the roots; without lowers `was` has no directories */
};

/* 0 or -errno. @ret is to be emptied with un_tool_views_done() either way. */
int un_tool_views_open(struct un_layers *layers, struct un_tool_views *ret);
void un_tool_views_done(struct un_tool_views *v);

/*
 * The directory that was found in @s as @name: the hits from @from on. NULL and *ret_err, or owned. -ENAMETOOLONG: deeper
 * than UN_TOOL_DEPTH_MAX.
 */
struct un_tool_stack *un_tool_stack_of(const struct un_tool_stack *s, const struct un_found *f,
				       const char *name, unsigned from, int *ret_err);
/* Accepts NULL. */
void un_tool_stack_free(struct un_tool_stack *s);

static inline int un_tool_lookup(const struct un_tool_stack *s, const char *name,
				 struct un_found *ret)
{
	return un_merge_lookup(&s->d, name, 0, false, ret);
}

/* A path of a view, from its root. @ret is to be ended as that of un_tool_lookup(), then *ret_in freed. */
int un_tool_lookup_path(const struct un_tool_stack *root, const char *path, struct un_found *ret,
			struct un_tool_stack **ret_in);

/* Where the object of a hit is: for calls on it. @name: by which it was found. */
static inline struct un_at un_tool_at(const struct un_hit *h, const char *name)
{
	const struct un_tool_dir *dir = h->dir;

	return (struct un_at){ .layer = h->layer,
			       .dirfd = dir->fd,
			       .name = h->name ? h->name : name };
}

/* The same real object? */
static inline bool un_tool_same(const struct un_hit *a, const struct un_hit *b)
{
	return a->layer == b->layer && a->st.stx_ino == b->st.stx_ino &&
	       un_stx_dev(&a->st) == un_stx_dev(&b->st);
}
