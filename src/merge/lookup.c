/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "merge_i.h"

#include "util/err.h"

#include <glib.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

bool un_merge_hidden_name(const struct un_where *w, const char *name)
{
	if (strncmp(name, UN_WH, strlen(UN_WH)) != 0)
		return false;
	/* In a lower all such names are the format's own. */
	if (w->layer->index > 0)
		return true;
	/* In an upper they are ordinary files, but for what fuse-overlayfs leaves beside its mark. */
	return w->opaque && (strcmp(name, UN_WH_OPAQUE) == 0 || strcmp(name, ".wh..opq") == 0);
}

void un_found_done(struct un_found *f)
{
	if (f->hits != &f->one)
		g_free(f->hits);
	f->hits = NULL;
	f->n = 0;
}

static struct un_hit *add_hit(struct un_found *f, unsigned pos, const struct statx *st)
{
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
	*h = (struct un_hit){ .pos = pos, .st = *st };
	return h;
}

/* One more name to look at: does `.wh.NAME` in this lower hide what is below? 1, 0 or -errno. */
static int tar_whiteout(const struct un_where *w, const char *name)
{
	char wh[NAME_MAX + 1];
	struct statx st;
	int r;

	if (w->layer->index == 0 || strlen(name) + strlen(UN_WH) > NAME_MAX)
		return 0;
	snprintf(wh, sizeof(wh), "%s%s", UN_WH, name);
	r = w->layer->ops->stat(w->layer, w->fd, wh, &st);
	return r == 0 ? 1 : r == -ENOENT || r == -ENAMETOOLONG ? 0 : r;
}

/*
 * `.wh..wh..opq` in the directory @name. Two components at once: @name was seen to be a directory
 * and not a mountpoint, and opening it first would cost two more system calls per directory.
 */
static int tar_opaque(const struct un_where *w, const char *name)
{
	char path[NAME_MAX + 1 + sizeof(UN_WH_OPAQUE) + 1];
	struct statx st;
	int r;

	snprintf(path, sizeof(path), "%s/%s", name, UN_WH_OPAQUE);
	r = w->layer->ops->stat(w->layer, w->fd, path, &st);
	/* EACCES: a directory this daemon may not search; nobody will see anything in it. */
	return r == 0 ? 1 : r == -ENOENT || r == -EACCES || r == -ENOTDIR ? 0 : r;
}

/*
 * A directory was found: read its marks. @deeper: something may be below, which is when most of
 * them matter. Returns 1 if the search ends here, 0 if it goes on, or -errno.
 */
static int directory_marks(const struct un_merge_dir *d, const struct un_where *w, const char *name,
			   bool deeper, struct un_hit *h)
{
	unsigned marks;
	int r;

	if (un_stx_is_mountpoint(&h->st))
		return 0;
	/* In the lowest layer of all nothing is below, wherever a redirect leads. */
	if (!deeper && w->layer->index == d->lowest)
		return 0;
	r = un_marks_scan(w->layer, d->dialect, w->fd, name, &marks);
	if (r < 0)
		return r;
	if (marks & UN_HAS(UN_MARK_REDIRECT))
		return -EPERM;
	h->impure = w->layer->index == 0 && (marks & UN_HAS(UN_MARK_IMPURE));
	h->origin = marks & UN_HAS(UN_MARK_ORIGIN);
	r = un_marks_opaque(w->layer, d->dialect, w->fd, name, marks, &h->xwhiteouts);
	if (r == 0 && deeper && w->layer->index > 0)
		r = tar_opaque(w, name);
	if (r > 0)
		h->opaque = true;
	return r;
}

/*
 * Data of a metacopy file is a hole, so only a file with less data than its size says can be one (a
 * block may be the xattrs' own). Reading wrong data is what must not happen, also where nothing is
 * below, since a redirect may lead elsewhere: EPERM until metacopy files are followed.
 */
static int refuse_metacopy(const struct un_merge_dir *d, const struct un_where *w, const char *name,
			   const struct statx *st, bool deeper)
{
	uint64_t xattr_block = MAX(st->stx_blksize, 4096u);
	ssize_t n;
	char c;

	if (!S_ISREG(st->stx_mode) || (st->stx_size == 0 && !deeper))
		return 0;
	if (st->stx_size && st->stx_blocks * 512 >= st->stx_size + xattr_block)
		return 0;
	n = un_mark_get(w->layer, d->dialect, w->fd, name, UN_MARK_METACOPY, &c, 1);
	if (n >= 0 || n == -ERANGE)
		return -EPERM;
	return n == -ENODATA || n == -EACCES || n == -EPERM ? 0 : (int)n;
}

/* One position. Returns 1 if the search ends, 0 to go on, or -errno. */
static int look(const struct un_merge_dir *d, const struct un_where *w, unsigned pos,
		const char *name, struct un_found *f)
{
	bool deeper = pos + 1 < d->n;
	struct statx st;
	int r;

	if (w->fd < 0 || un_merge_hidden_name(w, name))
		return 0;
	r = w->layer->ops->stat(w->layer, w->fd, name, &st);
	if (r == -ENOENT || r == -ENAMETOOLONG)
		return deeper ? tar_whiteout(w, name) : 0;
	if (r < 0)
		return r;
	r = un_whiteout_probe(w->layer, d->dialect, w->fd, name, &st);
	if (r < 0)
		return r;
	if (r > 0) {
		if (f->n == 0 && w->layer->index == 0)
			f->upper_whiteout = true;
		return 1;
	}
	if (!S_ISDIR(st.stx_mode)) {
		if (f->n > 0)
			return 1;
		r = refuse_metacopy(d, w, name, &st, deeper);
		if (r < 0)
			return r;
		add_hit(f, pos, &st);
		return 1;
	}
	r = directory_marks(d, w, name, deeper, add_hit(f, pos, &st));
	return r == 0 && deeper ? tar_whiteout(w, name) : r;
}

int un_merge_lookup(const struct un_merge_dir *d, const char *name, unsigned from, bool first_only,
		    struct un_found *ret)
{
	*ret = (struct un_found){ 0 };
	for (unsigned pos = from; pos < d->n; pos++) {
		struct un_where w;
		int r = d->open(d->ctx, pos, &w);

		if (r == 0) {
			r = look(d, &w, pos, name, ret);
			d->close(d->ctx, pos, &w);
		}
		if (r < 0) {
			un_found_done(ret);
			return r;
		}
		if (r > 0 || (first_only && ret->n > 0))
			break;
	}
	return 0;
}

int un_merge_lower_positive(const struct un_merge_dir *d, const char *name, bool has_upper)
{
	for (unsigned pos = has_upper ? 1 : 0; pos < d->n; pos++) {
		struct un_where w;
		struct statx st;
		int r = d->open(d->ctx, pos, &w), hidden = 0;

		if (r < 0)
			return r;
		if (w.fd < 0 || un_merge_hidden_name(&w, name))
			r = -ENOENT;
		else
			r = w.layer->ops->stat(w.layer, w.fd, name, &st);
		if (r == 0) {
			r = un_whiteout_probe(w.layer, d->dialect, w.fd, name, &st);
			d->close(d->ctx, pos, &w);
			return r < 0 ? r : !r;
		}
		if (r == -ENOENT && w.fd >= 0 && pos + 1 < d->n)
			hidden = tar_whiteout(&w, name);
		d->close(d->ctx, pos, &w);
		if (hidden)
			return hidden < 0 ? hidden : 0;
		if (r != -ENOENT && r != -ENAMETOOLONG)
			return r;
	}
	return 0;
}
