/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stack_i.h"

#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>

/* ---- real directories ------------------------------------------------------------------------------ */

static struct un_tool_dir *dir_new(struct un_layer *l, int fd, const struct statx *st)
{
	struct un_tool_dir *dir = g_new0(struct un_tool_dir, 1);

	dir->layer = l;
	dir->fd = fd;
	dir->dev = un_stx_dev(st);
	dir->ino = st->stx_ino;
	dir->refs = 1;
	return dir;
}

static struct un_tool_dir *dir_ref(struct un_tool_dir *dir)
{
	dir->refs++;
	return dir;
}

static void dir_unref(struct un_tool_dir *dir)
{
	if (--dir->refs)
		return;
	if (dir->fd != dir->layer->root)
		un_close(dir->fd);
	g_free(dir);
}

static struct un_tool_dir *dir_enter(const struct un_at *at, const struct statx *st, int *ret_err)
{
	int fd = -1;

	if (!un_stx_is_mountpoint(st)) {
		fd = un_at_open(at, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
		if (fd < 0) {
			*ret_err = fd;
			return NULL;
		}
	}
	return dir_new(at->layer, fd, st);
}

/* ---- as merge/ asks for them ------------------------------------------------------------------------- */

static void where(struct un_tool_dir *dir, struct un_where *ret)
{
	*ret = (struct un_where){ .layer = dir->layer,
				  .fd = dir->fd,
				  .opaque = dir->opaque,
				  .xwhiteouts = dir->xwhiteouts,
				  .dir = dir };
}

static int merge_open(void *ctx, unsigned pos, struct un_where *ret)
{
	const struct un_tool_stack *s = ctx;

	where(s->v[pos], ret);
	return 0;
}

static void merge_close(void *ctx, unsigned pos, struct un_where *w)
{
	(void)ctx;
	(void)pos;
	(void)w;
}

static int merge_root(void *ctx, unsigned above, struct un_where *ret)
{
	const struct un_tool_stack *root = ((const struct un_tool_stack *)ctx)->root;

	for (unsigned i = 0; i < root->d.n; i++) {
		if (root->v[i]->layer->index <= above)
			continue;
		where(dir_ref(root->v[i]), ret);
		return 0;
	}
	return -ENOENT;
}

static int merge_enter(void *ctx, const struct un_where *w, const char *name,
		       const struct statx *st, struct un_where *ret)
{
	struct un_tool_dir *dir;
	int r = 0;

	(void)ctx;
	dir = dir_enter(UN_AT(w->layer, w->fd, name), st, &r);
	if (dir)
		where(dir, ret);
	return r;
}

static void merge_leave(void *ctx, struct un_where *w)
{
	(void)ctx;
	dir_unref(w->dir);
}

static void *merge_ref(void *dir)
{
	return dir_ref(dir);
}

static void merge_unref(void *ctx, void *dir)
{
	(void)ctx;
	dir_unref(dir);
}

/* ---- stacks ------------------------------------------------------------------------------------------ */

static struct un_tool_stack *stack_new(const struct un_layers *ls, unsigned room)
{
	struct un_tool_stack *s = g_new0(struct un_tool_stack, 1);

	s->v = g_new0(struct un_tool_dir *, room);
	/* What the daemon follows by default: whoever forbids it gets EPERM for names that are shown here. */
	s->d = (struct un_merge_dir){
		.lowest = ls ? ls->lowest : 0,
		.follow = true,
		.metacopy = true,
		.data_only = ls && ls->n_data > 0,
		.open = merge_open,
		.close = merge_close,
		.root = merge_root,
		.enter = merge_enter,
		.leave = merge_leave,
		.ref = merge_ref,
		.unref = merge_unref,
		.ctx = s,
	};
	s->root = s;
	return s;
}

void un_tool_stack_free(struct un_tool_stack *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->d.n; i++)
		dir_unref(s->v[i]);
	g_free(s->v);
	g_free(s);
}

struct un_tool_stack *un_tool_stack_of(const struct un_tool_stack *s, const struct un_found *f,
				       const char *name, unsigned from, int *ret_err)
{
	struct un_tool_stack *child;

	if (s->depth == UN_TOOL_DEPTH_MAX) {
		*ret_err = -ENAMETOOLONG;
		return NULL;
	}
	child = stack_new(NULL, f->n);
	child->depth = s->depth + 1;
	child->d.lowest = s->d.lowest;
	child->d.data_only = s->d.data_only;
	child->root = s->root;
	for (unsigned i = from; i < f->n; i++) {
		const struct un_hit *h = &f->hits[i];
		const struct un_at at = un_tool_at(h, name);
		struct un_tool_dir *dir = dir_enter(&at, &h->st, ret_err);

		if (!dir) {
			un_tool_stack_free(child);
			return NULL;
		}
		dir->opaque = h->opaque;
		dir->xwhiteouts = h->xwhiteouts;
		child->v[child->d.n++] = dir;
	}
	return child;
}

/* A layer's root, as un_root_stack() has it. @ret_opaque: it hides the layers below. */
static int root_dir(struct un_layer *l, struct un_tool_dir **ret, bool *ret_opaque)
{
	const struct un_where w = { .layer = l, .fd = l->root };
	struct statx st;
	unsigned marks;
	int r = un_marks_scan(UN_AT(l, l->root, ""), &marks);

	if (r == 0)
		r = l->ops->stat(l, l->root, "", &st);
	if (r == 0)
		r = un_merge_tar_opaque(&w);
	if (r < 0)
		return r;
	*ret_opaque = r > 0;
	*ret = dir_new(l, l->root, &st);
	r = un_marks_opaque(UN_AT(l, l->root, ""), marks, &(*ret)->xwhiteouts);
	(*ret)->opaque = l->index == 0 && r > 0;
	(*ret)->xwhiteouts = (*ret)->xwhiteouts && l->index > 0;
	return 0;
}

static int root_stack(const struct un_layers *ls, bool upper, struct un_tool_stack **ret)
{
	g_autoptr(GPtrArray) layers = un_layers_lowers(ls);
	struct un_tool_stack *s = stack_new(ls, layers->len + 1);
	bool opaque = false;
	int r = 0;

	*ret = s;
	if (upper)
		g_ptr_array_insert(layers, 0, &ls->v[0]);
	for (unsigned i = 0; i < layers->len && !opaque && r == 0; i++) {
		r = root_dir(layers->pdata[i], &s->v[s->d.n], &opaque);
		s->d.n += r == 0;
	}
	return r;
}

int un_tool_views_open(struct un_layers *layers, struct un_tool_views *ret)
{
	int r;

	*ret = (struct un_tool_views){ .layers = layers };
	r = root_stack(layers, true, &ret->now);
	return r < 0 ? r : root_stack(layers, false, &ret->was);
}

void un_tool_views_done(struct un_tool_views *v)
{
	un_tool_stack_free(v->now);
	un_tool_stack_free(v->was);
}

int un_tool_lookup_path(const struct un_tool_stack *root, const char *path, struct un_found *ret,
			struct un_tool_stack **ret_in)
{
	g_auto(GStrv) names = g_strsplit(path, "/", -1);
	const struct un_tool_stack *s = root;

	*ret_in = NULL;
	*ret = (struct un_found){ 0 };
	for (char **n = names; *n; n++) {
		struct un_tool_stack *next = NULL;
		int r = un_tool_lookup(s, *n, ret);

		if (r < 0 || !n[1])
			return r;
		if (ret->n && S_ISDIR(ret->hits[0].st.stx_mode))
			next = un_tool_stack_of(s, ret, *n, 0, &r);
		un_found_done(ret);
		un_tool_stack_free(*ret_in);
		s = *ret_in = next;
		if (!next)
			return r;
	}
	return 0;
}
