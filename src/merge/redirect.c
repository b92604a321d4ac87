/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Redirects: "this was moved here; in the layers below it is called ...": one without a slash changes its
 * own component of the path, one with a path all up to it (fuse-unionfs-format(5), REDIRECTS).
 */
#include "redirect_i.h"

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
	ssize_t n = un_mark_get(UN_AT(w->layer, w->fd, name), UN_MARK_REDIRECT, value, PATH_MAX);

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
	if (!s->f->followed)
		s->f->followed = g_ptr_array_new_with_free_func(g_free);
	g_ptr_array_add(s->f->followed, g_strdup(s->now));
	return 0;
}
