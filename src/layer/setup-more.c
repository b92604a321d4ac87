/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lowers that come to a union, or leave it, while it is mounted. */
#include "setup_i.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>

#include "layer/choices.h"
#include "util/fd.h"

/* Between those that are at the places @at and the one above it; 0: there is no room any more. */
static unsigned index_at(const GPtrArray *lowers, unsigned at)
{
	unsigned above = at > 1 ? ((struct un_layer *)lowers->pdata[at - 2])->index : 0, below;

	if (at > lowers->len)
		return above > G_MAXUINT - UN_LAYER_STEP ? 0 : above + UN_LAYER_STEP;
	below = ((struct un_layer *)lowers->pdata[at - 1])->index;
	return below - above < 2 ? 0 : above + (below - above) / 2;
}

static int refuse(struct un_setup *s, const char *path, const char *why)
{
	g_free(*s->ret_err);
	*s->ret_err = g_strdup_printf("lowerdir: %s: %s", path, why);
	return -EINVAL;
}

/* What the union has settled when it was mounted, and cannot settle again. */
static int check_fits(struct un_setup *s, const struct un_layer *l, bool acl)
{
	if (l->caps.acl && !acl)
		return refuse(
			s, l->path,
			"its file system has POSIX ACLs, and no layer had when this was mounted: "
			"they would be ignored");
	if (s->ls->index >= 0 && !l->caps.handles)
		return refuse(s, l->path,
			      "its file system has no file handles, which the index needs");
	if (s->ls->index >= 0 && l->twin)
		return refuse(
			s, l->path,
			"another lower is on a file system of the same uuid, and the index needs to "
			"tell them apart");
	return 0;
}

static bool has_acl(const struct un_layers *ls)
{
	for (struct un_layer *l = NULL; (l = un_layers_next(ls, l));)
		if (!l->data_only && l->caps.acl)
			return true;
	return false;
}

struct readiness {
	int (*fn)(void *data, struct un_layer *l);
	void *data;
};

static int open_more(struct un_setup *s, struct un_layer *l, const char *path,
		     const struct readiness *ready)
{
	bool acl = has_acl(s->ls);
	int r = un_setup_open_root(s, l, "lowerdir", path);

	if (r == 0)
		r = un_setup_check_more(s, l);
	if (r < 0)
		return r;
	if (!s->ls->no_clone)
		r = un_setup_clone_lower(s, l);
	if (r == 0) {
		un_setup_probe_more(s, l);
		r = check_fits(s, l, acl);
	}
	if (r == 0) {
		r = ready->fn(ready->data, l);
		if (r < 0)
			un_setup_fail(s, r, "lowerdir", path);
	}
	if (r < 0)
		un_setup_check_less(s->ls, l);
	return r;
}

struct un_layer *un_layers_add_lower(struct un_layers *ls, const char *path, unsigned at,
				     int (*fn)(void *data, struct un_layer *l), void *data,
				     char **ret_err)
{
	const struct readiness ready = { fn, data };
	const struct un_setup_request req = { .no_uuid = ls->no_uuid, .no_clone = ls->no_clone };
	struct un_setup s = { .req = &req, .ls = ls, .work_parent = -1, .ret_err = ret_err };
	g_autoptr(GPtrArray) lowers = un_layers_lowers(ls);
	unsigned slot = atomic_load(&ls->used), index = 0;
	struct un_layer *l = &ls->v[slot];

	*ret_err = NULL;
	if (at < 1 || at > lowers->len + 1)
		*ret_err =
			g_strdup_printf("lowerdir: %s: there is no place %u: there are %u lowers",
					path, at, lowers->len);
	else if (lowers->len + ls->n_data >= UN_MAX_LOWERS)
		*ret_err = g_strdup_printf(
			"lowerdir: %s: there are %d lowers, which is all there can be", path,
			UN_MAX_LOWERS);
	else
		index = index_at(lowers, at);
	if (!*ret_err && (!index || slot == UN_LAYERS_EVER))
		*ret_err = g_strdup_printf(
			"lowerdir: %s: too many layers have come and gone: mount anew", path);
	if (*ret_err)
		return NULL;
	un_setup_layer_init(l, index);
	if (open_more(&s, l, path, &ready) < 0) {
		un_setup_layer_close(l);
		g_free(l->path);
		*l = (struct un_layer){ 0 };
		return NULL;
	}
	atomic_store(&ls->used, slot + 1);
	un_layers_find_lowest(ls);
	return l;
}

void un_layers_remove_lower(struct un_layers *ls, struct un_layer *l)
{
	atomic_store(&l->gone, true);
	un_setup_check_less(ls, l);
	un_layers_find_lowest(ls);
	un_layer_release(l);
}

struct un_layer *un_layers_find_lower(const struct un_layers *ls, const char *path)
{
	g_autoptr(GPtrArray) lowers = un_layers_lowers(ls);
	un_autofd int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statx want, have;
	bool there = fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_INO, &want) == 0;

	for (unsigned i = 0; i < lowers->len; i++) {
		struct un_layer *l = lowers->pdata[i];

		if (!there && strcmp(l->path, path) == 0)
			return l;
		if (there && l->ops->stat(l, l->root, "", &have) == 0 &&
		    un_stx_dev(&have) == un_stx_dev(&want) && have.stx_ino == want.stx_ino)
			return l;
	}
	return NULL;
}
