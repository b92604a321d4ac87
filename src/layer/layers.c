/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which layers there are, and how long each stays open. */
#include "setup_i.h"

#include <glib.h>

#include "util/fd.h"
#include "util/log.h"

void un_setup_layer_init(struct un_layer *l, unsigned index)
{
	l->index = index;
	l->root = -1;
	l->clone = -1;
	l->users = 1;
	l->ops = &un_layer_posix;
}

void un_setup_layer_close(struct un_layer *l)
{
	/* A decorator's data begins with the layer as it was before, which has a descriptor of its own. */
	for (struct un_layer *in = l->ops_data; in; in = in->ops_data) {
		if (in->handle_fd > 0 && in->handle_fd != l->handle_fd)
			un_close(in->handle_fd);
		in->handle_fd = 0;
	}
	if (l->handle_fd > 0)
		un_close(l->handle_fd);
	if (l->clone != l->root)
		un_close(l->clone);
	un_close(l->root);
	l->handle_fd = 0;
	l->clone = l->root = -1;
}

bool un_layer_hold(struct un_layer *l)
{
	unsigned users = atomic_load(&l->users);

	/* Not once the last has let it go. */
	do
		if (users == 0)
			return false;
	while (!atomic_compare_exchange_weak(&l->users, &users, users + 1));
	if (!atomic_load(&l->gone))
		return true;
	un_layer_release(l);
	return false;
}

void un_layer_release(struct un_layer *l)
{
	if (atomic_fetch_sub(&l->users, 1) != 1)
		return;
	un_debug("%s: nobody needs it any more: closed", l->path);
	un_setup_layer_close(l);
}

struct un_layer *un_layers_next(const struct un_layers *ls, const struct un_layer *l)
{
	unsigned i = l ? (unsigned)(l - ls->v) + 1 : ls->has_upper ? 0 : 1;

	for (; i < atomic_load(&ls->used); i++)
		if (!atomic_load(&ls->v[i].gone))
			return &ls->v[i];
	return NULL;
}

static int by_index(gconstpointer a, gconstpointer b)
{
	const struct un_layer *x = *(struct un_layer *const *)a, *y = *(struct un_layer *const *)b;

	return x->index < y->index ? -1 : x->index > y->index;
}

GPtrArray *un_layers_lowers(const struct un_layers *ls)
{
	GPtrArray *lowers = g_ptr_array_new();

	for (struct un_layer *l = NULL; (l = un_layers_next(ls, l));)
		if (l->index > 0 && !l->data_only)
			g_ptr_array_add(lowers, l);
	g_ptr_array_sort(lowers, by_index);
	return lowers;
}

void un_layers_find_lowest(struct un_layers *ls)
{
	g_autoptr(GPtrArray) lowers = un_layers_lowers(ls);
	const struct un_layer *l = lowers->len ? lowers->pdata[lowers->len - 1] : NULL;

	atomic_store(&ls->lowest, l ? l->index : 0);
}
