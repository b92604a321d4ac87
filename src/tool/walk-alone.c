/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An upper without its lowers: what its marks alone tell of changes. */
#include "walk_i.h"

#include "layer/whiteout.h"
#include "moves_i.h"
#include "names_i.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>

struct alone {
	const struct un_tool_walker *w;
	uint64_t names;
	GHashTable *
		moved; /* paths in the lowers of what was moved: gone through first, without telling, to find these */
	bool telling;
	unsigned depth;
};

static int tell(struct alone *a, const struct un_tool_change *c)
{
	if (c->kind == UN_TOOL_MOVED && !a->telling)
		g_hash_table_add(a->moved, g_strdup(c->from));
	return a->telling ? a->w->change(a->w->data, c) : 0;
}

static void trouble(const struct alone *a, const char *path, int r)
{
	if (a->telling)
		a->w->trouble(a->w->data, path, r);
}

/* As a lookup would have found it. */
static void found(struct un_tool_dir *dir, const struct statx *st, struct un_found *ret)
{
	*ret = (struct un_found){ .n = 1 };
	ret->one = (struct un_hit){ .layer = dir->layer, .dir = dir, .st = *st };
	ret->hits = &ret->one;
}

/* Where it was in the lowers, if a mark says so: owned, or NULL. @was: its directory there, or NULL. */
static char *moved_from(const struct un_at *at, unsigned marks, const struct statx *st,
			const char *was)
{
	g_autofree char *value = g_malloc(PATH_MAX + 1);
	ssize_t n;

	if (!(marks & UN_HAS(UN_MARK_REDIRECT)) ||
	    !(S_ISDIR(st->stx_mode) || (marks & UN_HAS(UN_MARK_METACOPY))))
		return NULL;
	n = un_mark_get(at, UN_MARK_REDIRECT, value, PATH_MAX);
	if (n <= 0)
		return NULL;
	value[n] = '\0';
	if (value[0] == '/')
		return g_strdup(value + 1);
	return was ? un_tool_join(was, value) : NULL;
}

static enum un_tool_kind kind_of(const struct un_at *at, unsigned marks, const struct statx *st,
				 const char *from, const char *path)
{
	bool xwhiteouts;

	if (from && strcmp(from, path) != 0)
		return UN_TOOL_MOVED;
	if (S_ISDIR(st->stx_mode) && un_marks_opaque(at, marks, &xwhiteouts) > 0)
		return UN_TOOL_ADDED;
	if (!(marks & (UN_HAS(UN_MARK_ORIGIN) | UN_HAS(UN_MARK_METACOPY))))
		return UN_TOOL_ADDED;
	return S_ISDIR(st->stx_mode) ? UN_TOOL_SAME : UN_TOOL_CHANGED;
}

static int walk_dir(struct alone *a, struct un_tool_dir *dir, const char *path, const char *was);

static int descend(struct alone *a, const struct un_at *at, const char *path, const char *was)
{
	struct un_tool_dir in = { .layer = at->layer,
				  .fd = un_at_open(at, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0) };
	int r = 0;

	a->depth++;
	if (in.fd < 0 || a->depth > UN_TOOL_DEPTH_MAX)
		trouble(a, path, in.fd < 0 ? in.fd : -ENAMETOOLONG);
	else
		r = walk_dir(a, &in, path, was);
	a->depth--;
	un_close(in.fd);
	return r;
}

static int visit_present(struct alone *a, struct un_tool_dir *dir, const struct un_at *at,
			 const struct statx *st, const char *path, const char *was)
{
	g_autofree char *from = NULL, *base = was ? un_tool_join(was, at->name) : NULL;
	struct un_tool_change c = { .path = path, .name = at->name, .was_name = at->name };
	struct un_found now;
	unsigned marks;
	int r = un_marks_scan(at, &marks);

	if (r < 0) {
		trouble(a, path, r);
		return 0;
	}
	from = moved_from(at, marks, st, was);
	found(dir, st, &now);
	c.now = &now;
	c.kind = kind_of(at, marks, st, from, base ? base : "");
	c.from = c.kind == UN_TOOL_MOVED ? from : NULL;
	r = tell(a, &c);
	if (r != 0 || !S_ISDIR(st->stx_mode))
		return r;
	return descend(a, at, path, c.kind == UN_TOOL_ADDED ? NULL : from ? from : base);
}

/* A whiteout; of what was moved away it says nothing new. */
static int visit_gone(struct alone *a, const char *name, const char *path, const char *was)
{
	g_autofree char *base = was ? un_tool_join(was, name) : NULL;
	const struct un_tool_change gone = {
		.path = path, .kind = UN_TOOL_REMOVED, .name = name, .was_name = name
	};

	return base && g_hash_table_contains(a->moved, base) ? 0 : tell(a, &gone);
}

static int visit(struct alone *a, struct un_tool_dir *dir, const char *name, const char *path,
		 const char *was)
{
	const struct un_at at = { .layer = dir->layer, .dirfd = dir->fd, .name = name };
	struct statx st;
	int r = dir->layer->ops->stat(dir->layer, dir->fd, name, &st);

	if (a->w->progress && ++a->names % 256 == 0)
		a->w->progress(a->w->data, a->names);
	if (r == 0)
		r = un_whiteout_probe(&at, &st);
	/* Missing: only its `.wh.` name is there. */
	if (r > 0 || r == -ENOENT)
		return visit_gone(a, name, path, was);
	if (r == 0)
		return visit_present(a, dir, &at, &st, path, was);
	trouble(a, path, r);
	return 0;
}

static int walk_dir(struct alone *a, struct un_tool_dir *dir, const char *path, const char *was)
{
	g_autoptr(GPtrArray) names = NULL;
	int r = un_tool_subjects(dir, &names);

	if (r < 0) {
		trouble(a, path, r);
		return 0;
	}
	for (unsigned i = 0; i < names->len && r == 0; i++) {
		g_autofree char *in = un_tool_join(path, names->pdata[i]);

		/* It says something of the directory, which has been told. */
		if (strncmp(names->pdata[i], ".wh..wh.", 8) != 0)
			r = visit(a, dir, names->pdata[i], in, was);
	}
	return r;
}

int un_tool_walk_alone(struct un_tool_views *views, const struct un_tool_walker *w)
{
	struct alone a = { .w = w };
	int r;

	a.moved = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	r = walk_dir(&a, views->now->v[0], ".", ".");
	a.telling = true;
	if (r == 0)
		r = walk_dir(&a, views->now->v[0], ".", ".");
	g_hash_table_unref(a.moved);
	return r;
}
