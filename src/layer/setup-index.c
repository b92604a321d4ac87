/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The index directory at mount (fuse-unionfs-format(5), INDEX). The upper's root says over which
 * lower the index was made, the index which upper it belongs to. Entries are named after the lower file
 * they stand for.
 */
#include "setup-dir_i.h"
#include "setup_i.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "layer/marks.h"
#include "layer/origin.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#define INDEX_NAME "index"

/* ------------------------------------------------------------------------------------------------
 * Can there be one?
 */

/* Why there cannot be an index, or NULL. */
static const char *obstacle(const struct un_layers *ls)
{
	if (!ls->v[0].caps.xattr)
		return "upperdir has no extended attributes";
	if (!ls->v[0].caps.link)
		return "upperdir has no hard links";
	for (unsigned i = 0; i <= ls->n; i++)
		if (!ls->v[i].caps.handles)
			return i ? "a lower has no file handles" : "upperdir has no file handles";
	for (unsigned i = 1; i <= ls->n; i++)
		if (ls->v[i].twin)
			return "two lowers are on file systems of the same uuid";
	return NULL;
}

/* 1: @mark has the value @want, or is missing (@set: it is made); 0: it has another; or -errno. */
static int verify(struct un_layers *ls, int fd, enum un_mark mark, const uint8_t *want, ssize_t len,
		  bool set)
{
	struct un_layer *u = &ls->v[0];
	uint8_t have[UN_ORIGIN_MAX];
	ssize_t n;

	if (len <= 0)
		return len < 0 ? (int)len : 0;
	n = un_mark_get(UN_AT(u, fd, ""), mark, have, sizeof(have));
	if (n == -ENODATA) {
		int r = set ? un_mark_set(UN_AT(u, fd, ""), mark, want, (size_t)len) : 0;

		return r < 0 ? r : 1;
	}
	if (n < 0 && n != -ERANGE)
		return (int)n;
	return n == len && memcmp(have, want, (size_t)len) == 0;
}

static int verify_lower(struct un_layers *ls, bool set)
{
	uint8_t handle[UN_ORIGIN_MAX];
	g_autoptr(GPtrArray) lowers = un_layers_lowers(ls);
	struct un_layer *top = lowers->pdata[0];
	ssize_t n = un_origin_format(UN_AT(top, top->root, ""), handle);

	return verify(ls, ls->v[0].root, UN_MARK_ORIGIN, handle, n, set);
}

static int verify_upper(struct un_layers *ls, bool set)
{
	uint8_t handle[UN_ORIGIN_MAX];
	ssize_t n = un_origin_format_upper(UN_AT(&ls->v[0], ls->v[0].root, ""), handle);

	return verify(ls, ls->index, UN_MARK_UPPER, handle, n, set);
}

int un_layers_mark_index(struct un_layers *ls)
{
	int r = verify_lower(ls, true);

	if (r > 0)
		r = verify_upper(ls, true);
	return r > 0 ? 0 : r < 0 ? r : -ESTALE;
}

/* ------------------------------------------------------------------------------------------------
 * What is in it
 */

/* What the mark nlink says, "U-1" for instance: 1; 0: it says nothing that is understood; -ENODATA: there is none. */
static int read_nlink(struct un_layers *ls, const char *name, char *ret_base, long *ret_delta)
{
	char v[32], *end;
	ssize_t n = un_mark_get(UN_AT(&ls->v[0], ls->index, name), UN_MARK_NLINK, v, sizeof(v) - 1);

	if (n == -ENODATA)
		return -ENODATA;
	if (n < 3)
		return 0;
	v[n] = '\0';
	*ret_base = v[0];
	*ret_delta = strtol(v + 1, &end, 10);
	return !*end;
}

/* As un_origin_stat(), of a lower's file. */
static int stat_origin(struct un_layers *ls, const struct un_origin *origin, struct statx *ret)
{
	struct un_layer *lower = NULL;

	ret->stx_nlink = 0;
	for (unsigned i = 1; i <= ls->n && !lower; i++)
		if (un_origin_is_of(&ls->v[i], origin))
			lower = &ls->v[i];
	return lower ? un_origin_stat(lower, origin, ret) : -ENOENT;
}

/* Does some name still lead to the entry? When in doubt it does: that costs space, no data. */
static bool is_alive(struct un_layers *ls, const char *name, const struct un_origin *origin,
		     const struct statx *st)
{
	struct statx low;
	char base;
	long delta;
	int r = stat_origin(ls, origin, &low), n;

	if (r == -ESTALE)
		return false;
	n = read_nlink(ls, name, &base, &delta);
	if (n == -ENODATA)
		return st->stx_nlink > 1; /* made, and its count not written: nobody saw it */
	if (n == 0)
		return true;
	if (base == 'U')
		return (long)st->stx_nlink + delta > 0 || st->stx_nlink > 1;
	return base != 'L' || r < 0 || low.stx_nlink == 0 || (long)low.stx_nlink + delta > 0;
}

int un_layers_index_entry(struct un_layers *ls, const char *name, const struct statx *st,
			  struct un_index_entry *ret)
{
	uint8_t value[UN_ORIGIN_MAX];
	struct un_origin origin;
	struct statx low;
	char base;
	long delta;
	ssize_t n = un_origin_unhex(name, value);

	if (n < 0 || un_origin_parse(value, (size_t)n, &origin) < 0)
		return -EINVAL;
	*ret = (struct un_index_entry){ 0 };
	un_ignore(stat_origin(ls, &origin, &low));
	ret->lower_links = low.stx_nlink;
	ret->alive = is_alive(ls, name, &origin, st);
	n = read_nlink(ls, name, &base, &delta);
	ret->understood = n != 0 && (n < 0 || base == 'U' || base == 'L');
	ret->counted = n > 0 && (base == 'U' || (base == 'L' && low.stx_nlink > 0));
	if (ret->counted)
		ret->shown = (long)(base == 'U' ? st->stx_nlink : low.stx_nlink) + delta;
	return 0;
}

int un_layers_index_fits(struct un_layers *ls, bool *ret_lower, bool *ret_upper)
{
	int lower = 1, upper = 1;

	/* Without handles there are no such marks. */
	if (ls->n > 0 && ls->v[1].caps.handles && !ls->v[1].twin)
		lower = verify_lower(ls, false);
	if (ls->v[0].caps.handles)
		upper = verify_upper(ls, false);
	*ret_lower = lower != 0;
	*ret_upper = upper != 0;
	return lower < 0 ? lower : upper < 0 ? upper : 0;
}

static int check_entry(struct un_setup *s, const char *name)
{
	struct un_layers *ls = s->ls;
	struct un_layer *u = &ls->v[0];
	uint8_t value[UN_ORIGIN_MAX];
	struct un_origin origin;
	struct statx st;
	ssize_t n;
	int r;

	/*
	 * What a kernel staged here and did not come to finish; or a mount's whiteout, which it can do
	 * without if it lives (whiteout.h).
	 */
	if (name[0] == '#') {
		r = u->ops->unlink(u, ls->index, name, 0);
		if (r == -EISDIR)
			r = u->ops->unlink(u, ls->index, name, AT_REMOVEDIR);
		if (r < 0)
			un_log(LOG_WARNING, "workdir: %s: index/%s cannot be removed: %s",
			       s->req->work, name, g_strerror(-r));
		return 0;
	}
	n = un_origin_unhex(name, value);
	if (n < 0 || un_origin_parse(value, (size_t)n, &origin) < 0)
		return un_setup_refuse(s, -EINVAL, "workdir", s->req->work,
				       "index/%s is not an entry of an index", name);
	r = u->ops->stat(u, ls->index, name, &st);
	if (r < 0)
		return r == -ENOENT ? 0 : un_setup_fail(s, r, "workdir", s->req->work);
	/* Entries of a kernel with nfs_export, which are not ours to judge. */
	if (S_ISDIR(st.stx_mode) ||
	    (S_ISCHR(st.stx_mode) && st.stx_rdev_major == 0 && st.stx_rdev_minor == 0))
		return 0;
	if (!is_alive(ls, name, &origin, &st)) {
		un_debug("workdir: %s: index/%s: nothing leads to it any more", s->req->work, name);
		un_ignore(u->ops->unlink(u, ls->index, name, 0));
		return 0;
	}
	ls->index_used = true;
	return 0;
}

static int check_entries(struct un_setup *s)
{
	struct un_layer *u = &s->ls->v[0];
	g_autoptr(GPtrArray) names = NULL;
	un_autofd int fd = u->ops->open(u, s->ls->index, "", O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : un_setup_names(u, fd, &names);

	if (r < 0)
		return un_setup_refuse(s, r, "workdir", s->req->work, "cannot list index/");
	for (unsigned i = 0; i < names->len && r == 0; i++)
		r = check_entry(s, names->pdata[i]);
	return r;
}

/* ------------------------------------------------------------------------------------------------
 * All together
 */

/* There is none: said, and fatal only if it is dangerous to go on without what was asked for. */
static int give_up(struct un_setup *s, const char *why)
{
	un_log(s->req->index_asked ? LOG_WARNING : LOG_INFO,
	       "index: %s: changing a lower file that has several names breaks the link", why);
	un_close(s->ls->index);
	s->ls->index = -1;
	return 0;
}

static int other_lower(struct un_setup *s)
{
	if (s->req->index_asked)
		return un_setup_refuse(s, -ESTALE, "upperdir", s->req->upper,
				       "its index was made over another lower directory than %s",
				       s->ls->v[1].path);
	return give_up(s, "upperdir was used over another lower directory");
}

int un_setup_index(struct un_setup *s)
{
	struct un_layers *ls = s->ls;
	const char *why = obstacle(ls);
	int r;

	if (why)
		return give_up(s, why);
	/* By itself it leaves no trace until there is something to keep. */
	ls->index_asked = ls->index_marked = s->req->index_asked;
	r = verify_lower(ls, ls->index_asked);
	if (r == 0)
		return other_lower(s);
	if (r < 0)
		return give_up(s, g_strerror(-r));
	ls->index = un_setup_make_dir(&ls->v[0], s->work_parent, INDEX_NAME);
	if (ls->index < 0)
		return un_setup_refuse(s, ls->index, "workdir", s->req->work,
				       "index/ cannot be used");
	r = verify_upper(ls, ls->index_asked);
	if (r == 0 && s->req->index_asked)
		return un_setup_refuse(s, -ESTALE, "workdir", s->req->work,
				       "index/ belongs to another upperdir than %s", s->req->upper);
	if (r <= 0)
		return give_up(s,
			       r < 0 ? g_strerror(-r) : "workdir was used with another upperdir");
	return check_entries(s);
}
