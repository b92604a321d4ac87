/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One name in the layers below a merged directory, from the top down. A redirect changes the name for
 * the layers below: one without a slash within the same directories (here), a path from the roots of all
 * layers below (walk.c). What is done in each layer is in place.c.
 */
#include "layer/whiteout.h"
#include "place_i.h"
#include "walk_i.h"

#include <glib.h>

/* Is what was found complete and allowed? */
static int check_metacopy(struct un_search *s)
{
	struct un_found *f = s->f;
	bool upper = f->n > 0 && f->hits[0].layer->index == 0;

	if (!f->metacopy)
		return 0;
	if (!f->data && s->now && s->now[0] == '/' && s->d->data_only)
		f->data_path = g_strdup(s->now);
	/* A lower's link to data in a layer with data only is followed in any case (since 6.16). */
	if (!s->d->metacopy && (f->data || upper || !f->data_path)) {
		f->refused = f->hits[0].layer;
		f->refused_mark = UN_MARK_METACOPY;
		return -EPERM;
	}
	return f->data || f->data_path ? 0 : -ENODATA;
}

static int search_positions(struct un_search *s, unsigned from, bool first_only)
{
	const struct un_merge_dir *d = s->d;
	int r = 0;

	for (s->pos = from; s->pos < d->n && r == 0 && !s->stop; s->pos++) {
		g_autofree char *now = g_strdup(s->now);
		struct un_where w;

		if ((now && now[0] == '/') ||
		    (first_only && s->f->n > 0 && !s->f->metacopy && !s->now))
			break;
		r = d->open(d->ctx, s->pos, &w);
		if (r < 0)
			break;
		s->layer = w.layer->index;
		r = un_merge_look(s, &w, now ? now : s->asked, NULL, s->pos + 1 < d->n);
		d->close(d->ctx, s->pos, &w);
	}
	return r;
}

int un_merge_lookup(const struct un_merge_dir *d, const char *name, unsigned from, bool first_only,
		    struct un_found *ret)
{
	struct un_search s = { .d = d, .f = ret, .asked = name };
	int r;

	*ret = (struct un_found){ .d = d };
	r = search_positions(&s, from, first_only);
	if (r == 0 && !s.stop && s.now && s.now[0] == '/')
		r = un_merge_below_roots(&s);
	if (r == 0)
		r = check_metacopy(&s);
	g_free(s.now);
	if (r < 0)
		un_found_done(ret);
	return r;
}

/* Does the layer decide whether @name shows through? *ret: whether it does. 1, 0 or -errno. */
static int decides(const struct un_merge_dir *d, const struct un_where *w, const char *name,
		   bool deeper, int *ret)
{
	struct statx st;
	int r;

	*ret = 0;
	if (w->fd < 0 || un_merge_tar_reserved(w, name))
		return 0;
	r = w->layer->ops->stat(w->layer, w->fd, name, &st);
	if (r == -ENOENT)
		return deeper ? un_merge_tar_whiteout(w, name) : 0;
	if (r < 0)
		return r == -ENAMETOOLONG ? 0 : r;
	r = un_merge_tar_name(name) ? un_merge_tar_mark(w, name, &st) : 0;
	if (r == 0)
		r = un_whiteout_probe(UN_AT(w->layer, w->fd, name), &st);
	*ret = r == 0;
	return r < 0 ? r : 1;
}

int un_merge_lower_positive(const struct un_merge_dir *d, const char *name, bool has_upper)
{
	for (unsigned pos = has_upper ? 1 : 0; pos < d->n; pos++) {
		struct un_where w;
		int r = d->open(d->ctx, pos, &w), shows;

		if (r < 0)
			return r;
		r = decides(d, &w, name, pos + 1 < d->n, &shows);
		d->close(d->ctx, pos, &w);
		if (r != 0)
			return r < 0 ? r : shows;
	}
	return 0;
}
