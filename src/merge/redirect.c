/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Redirects: "this was moved here; in the layers below it is called ...". A path is walked in one
 * layer after the other, and every directory on the way may change it for the layers further below:
 * a redirect without a slash its own component, one with a path all up to it
 * (fuse-unionfs-format(5), REDIRECTS). A layer that has been walked into is walked to the end
 * under the old path.
 */
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "merge_i.h"

#include "util/err.h"

#include <glib.h>
#include <linux/limits.h>
#include <string.h>

/* No component of a path is empty, "." or ".."; a name has no slash. */
static bool is_valid(const char *redirect)
{
	const char *p = redirect;

	if (*p != '/')
		return *p && strlen(p) <= NAME_MAX && !strchr(p, '/') && strcmp(p, ".") != 0 &&
		       strcmp(p, "..") != 0;
	do {
		size_t n = strcspn(++p, "/");

		if (n == 0 || n > NAME_MAX || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
	} while (*p);
	return true;
}

/* The value of the mark, which the caller frees; or NULL and *ret_err. */
static char *read_redirect(struct un_search *s, const struct un_where *w, const char *name,
			   int *ret_err)
{
	g_autofree char *value = g_malloc(PATH_MAX + 1);
	ssize_t n = un_mark_get(w->layer, s->d->dialect, w->fd, name, UN_MARK_REDIRECT, value,
				PATH_MAX);

	if (n < 0) {
		*ret_err = n == -ERANGE ? -EINVAL : (int)n;
		return NULL;
	}
	value[n] = '\0';
	*ret_err = -EINVAL;
	if (strlen(value) != (size_t)n || !is_valid(value))
		return NULL;
	return g_steal_pointer(&value);
}

int un_merge_redirect(struct un_search *s, const struct un_where *w, const char *name,
		      const struct un_rest *rest)
{
	g_autofree char *value = NULL, *old = NULL;
	const char *post = "";
	size_t prefix = 0;
	int r;

	if (!s->d->follow) {
		s->f->refused = w->layer;
		s->f->refused_mark = UN_MARK_REDIRECT;
		return -EPERM;
	}
	value = read_redirect(s, w, name, &r);
	if (!value)
		return r;
	if (w->layer->index == 0 && !rest && s->f->n == 1)
		s->f->redirect = g_strdup(value);
	old = g_steal_pointer(&s->now);
	if (rest) {
		/* Counted from the end: what is before may have been replaced already. */
		size_t len = strlen(old);

		post = old + len - rest->len;
		prefix = len - rest->len - rest->name_len;
	}
	if (value[0] == '/') {
		s->now = g_strconcat(value, post, NULL);
		/* It leads out of an opaque directory that is above it. */
		s->stop = false;
	} else {
		s->now = g_strdup_printf("%.*s%s%s", (int)prefix, old ? old : "", value, post);
	}
	return 0;
}

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
		r = un_merge_tar_whiteout(w, s->d->dialect, name);
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
	r = un_merge_tar_name(name) ? un_merge_tar_mark(w, s->d->dialect, name, &st) : 0;
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

		r = d->root(d->ctx, ++s->layer, &at);
		if (r == -ENOENT)
			r = 0;
		else if (r == 0) {
			r = walk(s, path, &at);
			d->leave(d->ctx, &at);
		}
	}
	return r;
}
