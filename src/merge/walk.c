/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A path in the layers below, from their roots: walked in one after the other, and every directory on the
 * way may change it for the layers further below (redirect.c). A layer that has been walked into is walked
 * to the end under the old path.
 */
#include "walk_i.h"

#include "place_i.h"

#include <glib.h>
#include <linux/limits.h>
#include <string.h>

/*
 * A directory on the way: is it in this layer, and what do its marks do to the search? 1: it is
 * entered as *ret; 0: it is not here; or -errno.
 */
static int descend(struct un_search *s, const struct un_where *w, const char *name,
		   const struct un_rest *rest, bool deeper, struct un_where *ret)
{
	struct statx st;
	int r;

	if (w->fd < 0 || un_merge_tar_reserved(w, name))
		return 0;
	r = w->layer->ops->stat(w->layer, w->fd, name, &st);
	if (r == -ENOENT || r == -ENAMETOOLONG) {
		r = un_merge_tar_whiteout(w, name);
		s->stop = s->stop || r > 0;
		return r < 0 ? r : 0;
	}
	if (r < 0)
		return r;
	if (!S_ISDIR(st.stx_mode)) {
		/* A whiteout, or something else that has taken its place. */
		s->stop = true;
		return 0;
	}
	r = un_merge_tar_name(name) ? un_merge_tar_mark(w, name, &st) : 0;
	if (r != 0) {
		s->stop = true;
		return r < 0 ? r : 0;
	}
	r = un_merge_directory(s, w, name, &st, rest, deeper, NULL);
	if (r == 0)
		r = s->d->enter(s->d->ctx, w, name, &st, ret);
	return r < 0 ? r : 1;
}

/* Follow @path in one layer. @at: its root; then the directory that was reached. */
static int walk(struct un_search *s, const char *path, struct un_where *at)
{
	const struct un_merge_dir *d = s->d;
	bool deeper = s->layer < d->lowest;
	int r = 1;

	for (const char *p = path + 1; r > 0;) {
		size_t n = strcspn(p, "/");
		const struct un_rest rest = { .len = strlen(p + n), .name_len = n };
		char name[NAME_MAX + 1];
		struct un_where next;

		/* A path put together from parts that are each short enough is so too. */
		if (n > NAME_MAX)
			return 0;
		g_strlcpy(name, p, n + 1);
		if (!p[n])
			return un_merge_look(s, at, name, &rest, deeper);
		r = descend(s, at, name, &rest, deeper, &next);
		if (r > 0) {
			d->leave(d->ctx, at);
			*at = next;
		}
		p += n + 1;
	}
	return r;
}

int un_merge_below_roots(struct un_search *s)
{
	const struct un_merge_dir *d = s->d;
	int r = 0;

	while (r == 0 && !s->stop && s->layer < d->lowest) {
		g_autofree char *path = g_strdup(s->now);
		struct un_where at;

		r = d->root(d->ctx, s->layer, &at);
		if (r == -ENOENT)
			return 0;
		if (r == 0) {
			s->layer = at.layer->index;
			r = walk(s, path, &at);
			d->leave(d->ctx, &at);
		}
	}
	return r;
}
