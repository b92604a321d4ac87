/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "root_i.h"

#include "layer/choices.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/object.h"
#include "object/realdir.h"
#include "util/err.h"

/* A layer's root: opaque marks have no effect on it, xattr whiteouts and tar's opaque name do. */
static int root_dir(struct un_fs *fs, struct un_layer *l, struct un_realdir **ret, bool *ret_opaque)
{
	const struct un_where w = { .layer = l, .fd = l->root };
	struct un_realdir *rd;
	struct statx st;
	unsigned marks;
	int r = l->ops->stat(l, l->root, "", &st);

	if (r == 0)
		r = un_marks_scan(UN_AT(l, l->root, ""), &marks);
	if (r == 0)
		r = un_merge_tar_opaque(&w);
	if (r < 0)
		return r;
	*ret_opaque = r > 0;
	rd = un_realdir_new(l, NULL, "", &st);
	rd->fd = g_new0(struct un_fd, 1);
	rd->fd->layer = l;
	rd->fd->fd = l->root;
	rd->fd->users = 1;
	if (l->index == 0) {
		rd->impure = marks & UN_HAS(UN_MARK_IMPURE);
		rd->opaque = un_marks_opaque(UN_AT(l, l->root, ""), marks, &rd->xwhiteouts) > 0;
		rd->xwhiteouts = false;
	} else {
		un_ignore(un_marks_opaque(UN_AT(l, l->root, ""), marks, &rd->xwhiteouts));
	}
	*ret = rd;
	return 0;
}

/* The one that the root has, instead of a new one. */
static struct un_realdir *known_or(struct un_fs *fs, struct un_realdir *rd)
{
	const struct un_dirinfo *d = fs->root->d;

	for (unsigned i = 0; i < d->n; i++) {
		struct un_realdir *known = d->stack[i];

		if (known->layer != rd->layer)
			continue;
		un_realdir_ref(known);
		un_realdir_put(fs, rd);
		return known;
	}
	return rd;
}

int un_root_stack(struct un_fs *fs, const struct un_layer *without, struct un_realdir ***ret,
		  unsigned *ret_n, const struct un_layer **ret_failed)
{
	struct un_realdir **stack = g_new0(struct un_realdir *, UN_MAX_LOWERS + 1), *rd;
	g_autoptr(GPtrArray) layers = un_layers_lowers(fs->layers);
	bool opaque = false;
	unsigned n = 0;
	int r = 0;

	if (fs->upper)
		g_ptr_array_insert(layers, 0, fs->upper);
	for (unsigned i = 0; i < layers->len && !opaque && r == 0; i++) {
		if (layers->pdata[i] == without)
			continue;
		*ret_failed = layers->pdata[i];
		r = root_dir(fs, layers->pdata[i], &rd, &opaque);
		if (r == 0)
			stack[n++] = known_or(fs, rd);
	}
	while (r < 0 && n > 0)
		un_realdir_put(fs, stack[--n]);
	if (r < 0)
		g_free(stack);
	*ret = r < 0 ? NULL : stack;
	*ret_n = n;
	return r;
}
