/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One name in one layer: what it adds to what was found, and where the search goes on. */
#include "place_i.h"

#include "layer/whiteout.h"
#include "redirect_i.h"

#include <glib.h>
#include <string.h>

/* ---- what was found ----------------------------------------------------------------------------- */

static void hit_done(const struct un_found *f, struct un_hit *h)
{
	if (f->d->unref)
		f->d->unref(f->d->ctx, h->dir);
	g_free(h->name);
}

void un_found_done(struct un_found *f)
{
	for (unsigned i = 0; i < f->n; i++)
		hit_done(f, &f->hits[i]);
	if (f->data) {
		hit_done(f, f->data);
		g_clear_pointer(&f->data, g_free);
	}
	if (f->hits != &f->one)
		g_free(f->hits);
	g_clear_pointer(&f->redirect, g_free);
	g_clear_pointer(&f->data_path, g_free);
	g_clear_pointer(&f->followed, g_ptr_array_unref);
	f->hits = NULL;
	f->n = 0;
}

static void fill_hit(const struct un_search *s, const struct un_where *w, const char *name,
		     const struct statx *st, struct un_hit *h)
{
	*h = (struct un_hit){ .pos = s->pos, .layer = w->layer, .dir = w->dir, .st = *st };
	if (s->d->ref)
		h->dir = s->d->ref(w->dir);
	if (strcmp(name, s->asked) != 0)
		h->name = g_strdup(name);
}

static struct un_hit *add_hit(struct un_search *s, const struct un_where *w, const char *name,
			      const struct statx *st)
{
	struct un_found *f = s->f;
	struct un_hit *h;

	if (f->n == 0) {
		f->hits = &f->one;
	} else if (f->n == 1) {
		f->hits = g_new(struct un_hit, 8);
		f->hits[0] = f->one;
	} else if (f->n >= 8 && (f->n & (f->n - 1)) == 0) {
		f->hits = g_renew(struct un_hit, f->hits, f->n * 2);
	}
	h = &f->hits[f->n++];
	fill_hit(s, w, name, st, h);
	return h;
}

/* ---- directories -------------------------------------------------------------------------------- */

int un_merge_directory(struct un_search *s, const struct un_where *w, const char *name,
		       const struct statx *st, const struct un_rest *rest, bool deeper,
		       struct un_hit *h)
{
	const struct un_merge_dir *d = s->d;
	bool opaque = false, xwhiteouts = false;
	unsigned marks;
	int r;

	/* In the lowest layer of all nothing is below, wherever a redirect leads. */
	if (un_stx_is_mountpoint(st) || (!deeper && w->layer->index == d->lowest))
		return 0;
	r = un_marks_scan(UN_AT(w->layer, w->fd, name), &marks);
	if (r < 0)
		return r;
	r = un_marks_opaque(UN_AT(w->layer, w->fd, name), marks, &xwhiteouts);
	if (r == 0 && deeper)
		r = un_merge_tar_opaque_in(w, name);
	if (r < 0)
		return r;
	opaque = r > 0;
	if (h) {
		h->opaque = opaque;
		h->xwhiteouts = xwhiteouts;
		h->impure = w->layer->index == 0 && (marks & UN_HAS(UN_MARK_IMPURE));
		h->origin = marks & UN_HAS(UN_MARK_ORIGIN);
	}
	/*
	 * `.wh.NAME` beside NAME: the one below is gone, this one is new. Or it was moved here, and has
	 * what is below under another name.
	 */
	if (!opaque && deeper && !(marks & UN_HAS(UN_MARK_REDIRECT))) {
		r = un_merge_tar_whiteout(w, name);
		if (r < 0)
			return r;
		opaque = r > 0;
	}
	if (opaque) {
		s->stop = true;
		return 0;
	}
	return marks & UN_HAS(UN_MARK_REDIRECT) ? un_merge_redirect(s, w, name, rest) : 0;
}

/* ---- files ---------------------------------------------------------------------------------------- */

/* Beside the bits of UN_HAS(). */
#define NOT_ASKED (1u << 30)

/* All marks of an object by one question. What a lower's daemon may not ask, there is none of. */
static int scan_marks(const struct un_search *s, const struct un_where *w, const char *name,
		      unsigned *marks)
{
	int r = un_marks_scan(UN_AT(w->layer, w->fd, name), marks);

	if (w->layer->index > 0 && (r == -EACCES || r == -EPERM)) {
		*marks = UN_HAS_ANY;
		return 0;
	}
	return r;
}

/* Has the file a metacopy mark? 1, 0 or -errno. */
static int is_metacopy(const struct un_search *s, const struct un_where *w, const char *name,
		       const struct statx *st, unsigned *marks)
{
	uint8_t v[4 + 64];
	ssize_t n;

	if (!S_ISREG(st->stx_mode))
		return 0;
	/* Asked of every one: blocks tell nothing (squashfs counts holes, bigalloc xattrs by clusters). */
	if (*marks & NOT_ASKED) {
		int r = scan_marks(s, w, name, marks);

		if (r < 0)
			return r;
	}
	if (!(*marks & UN_HAS(UN_MARK_METACOPY)))
		return 0;
	n = un_mark_get(UN_AT(w->layer, w->fd, name), UN_MARK_METACOPY, v, sizeof(v));
	if (n == -ENODATA || ((n == -EACCES || n == -EPERM) && w->layer->index > 0))
		return 0;
	/* The upper's owner may have closed it to himself; the mark is there, and that is enough. */
	if (n == -EACCES || n == -EPERM)
		return 1;
	if (n < 0)
		return n == -ERANGE ? -EIO : (int)n;
	/* Version 0, its own length, flags, a digest (fuse-unionfs-format(5), METACOPY FILES). */
	if (n > 0 && (n < 4 || v[0] != 0 || v[1] != n))
		return -EIO;
	return 1;
}

/* A file's place in the search: the object itself, or the data of a metacopy file above. */
static int look_file(struct un_search *s, const struct un_where *w, const char *name,
		     const struct statx *st, unsigned marks, const struct un_rest *rest)
{
	struct un_found *f = s->f;
	struct un_hit *h;
	int meta;

	s->stop = true;
	if (f->n > 0 && (!f->metacopy || !S_ISREG(st->stx_mode)))
		return 0;
	/* The data that belongs to the file above is that below what is mounted. */
	if (f->n > 0 && un_stx_is_covered(st))
		return -EXDEV;
	meta = is_metacopy(s, w, name, st, &marks);
	if (meta < 0)
		return meta;
	if (f->n == 0) {
		h = add_hit(s, w, name, st);
		h->origin = w->layer->index == 0 && (marks & UN_HAS(UN_MARK_ORIGIN));
		h->no_xattrs = S_ISREG(st->stx_mode) && marks == 0;
		f->metacopy = meta;
	} else if (!meta) {
		f->data = g_new(struct un_hit, 1);
		fill_hit(s, w, name, st, f->data);
	}
	if (!meta)
		return 0;
	s->stop = false;
	if (!(marks & UN_HAS(UN_MARK_REDIRECT)))
		return 0;
	return un_merge_redirect(s, w, name, rest);
}

/* ---- all of it ------------------------------------------------------------------------------------- */

/* Marks of regular files in the upper, and of empty ones anywhere; then: is it a whiteout? */
static int look_at_marks(const struct un_search *s, const struct un_where *w, const char *name,
			 const struct statx *st, unsigned *ret_marks)
{
	int r;

	/* A covering file carries no marks of ours, but may have xattrs. */
	if (un_stx_is_covered(st)) {
		*ret_marks = UN_HAS_ANY;
		return 0;
	}
	*ret_marks = NOT_ASKED;
	/* The format's own takes the name, whatever else it says. */
	if (un_merge_tar_name(name)) {
		r = un_merge_tar_mark(w, name, st);
		if (r != 0)
			return r;
	}
	if (!S_ISREG(st->stx_mode) || (w->layer->index > 0 && st->stx_size > 0))
		return un_whiteout_probe(UN_AT(w->layer, w->fd, name), st);
	r = scan_marks(s, w, name, ret_marks);
	if (r < 0)
		return r;
	return st->stx_size == 0 && (*ret_marks & UN_HAS(UN_MARK_WHITEOUT));
}

int un_merge_look(struct un_search *s, const struct un_where *w, const char *name,
		  const struct un_rest *rest, bool deeper)
{
	struct un_found *f = s->f;
	bool upper = w->layer->index == 0, missing;
	unsigned marks = 0;
	struct statx st;
	int r;

	if (w->fd < 0 || un_merge_tar_reserved(w, name))
		return 0;
	r = w->layer->ops->stat(w->layer, w->fd, name, &st);
	missing = r == -ENOENT || r == -ENAMETOOLONG;
	if (missing)
		r = deeper ? un_merge_tar_whiteout(w, name) : 0;
	else if (r == 0)
		r = look_at_marks(s, w, name, &st, &marks);
	if (r < 0)
		return r;
	if (r > 0) {
		/* One that is beside leaves the name free. */
		f->upper_whiteout = f->upper_whiteout || (f->n == 0 && upper && !missing);
		s->stop = true;
	}
	if (r > 0 || missing)
		return 0;
	/* A file of the upper, or one that our own mount covers: neither can be had. */
	if (!S_ISDIR(st.stx_mode) && un_stx_is_mountpoint(&st))
		return -EXDEV;
	if (!S_ISDIR(st.stx_mode))
		return look_file(s, w, name, &st, marks, rest);
	if (f->metacopy) {
		s->stop = true;
		return 0;
	}
	return un_merge_directory(s, w, name, &st, rest, deeper, add_hit(s, w, name, &st));
}
