/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which files of a directory come next, by its listing, and asking the disk for them. */
#include "ahead_i.h"

#include "layer/layer.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/realdir.h"
#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

/* Others between two that are read: some are empty, or the kernel has them already. */
#define SKIPPED 8
/* Of more names it would take too long to find those that come next, other than by the listing's order. */
#define SORTED_MAX 8192
/* Of each file, and of all of a window. The layer's own read-ahead does the rest. */
#define EACH_BYTES ((uint64_t)1 << 20)
#define ALL_BYTES ((uint64_t)8 << 20)
/* Of these the beginning is nothing. */
#define HUGE_BYTES ((uint64_t)64 << 20)
/* If so many are in memory, the others are not looked at. */
#define SAMPLE 3

/* ---- which ---------------------------------------------------------------------------------------------- */

static int compare(enum un_order o, const struct un_entry *a, const struct un_entry *b)
{
	if (o == UN_ORDER_NAME)
		return strcmp(a->name, b->name);
	if (o == UN_ORDER_INODE && a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->cookie == b->cookie ? 0 : a->cookie < b->cookie ? -1 : 1;
}

/* How many files come after @a, up to @b; more than @most: anything. 0: @b comes before @a, or is that. */
static size_t distance(const struct un_listing *l, enum un_order o, const struct un_entry *a,
		       const struct un_entry *b, size_t most)
{
	const struct un_entry *e;
	size_t n = 0;

	if (compare(o, a, b) >= 0)
		return 0;
	for (size_t at = o == UN_ORDER_LISTED ? un_listing_after(l, a->cookie) : 0;
	     n <= most && (e = un_listing_at(l, &at)); at++) {
		if (e->type == DT_REG && compare(o, a, e) < 0 && compare(o, e, b) <= 0)
			n++;
		if (o == UN_ORDER_LISTED && e == b)
			break;
	}
	return n;
}

/* Its listing in order, or NULL. Others may have changed the layers since: it will do. */
static const struct un_listing *listing(struct un_inode *dir) UN_NS_READ
{
	const struct un_listing *l = dir->d->dead ? NULL : dir->d->listing;

	return l && un_listing_settled(l) ? l : NULL;
}

static bool can_be(enum un_order o, const struct un_listing *l)
{
	return o == UN_ORDER_LISTED || un_listing_shown(l) <= SORTED_MAX;
}

static enum un_order order_locked(struct un_inode *dir, const char *a, const char *b) UN_NS_READ
{
	const struct un_listing *l = listing(dir);
	const struct un_entry *x = l ? un_listing_find(l, a) : NULL;
	const struct un_entry *y = l ? un_listing_find(l, b) : NULL;
	enum un_order best = UN_ORDER_UNKNOWN;
	size_t least = SKIPPED + 1;

	if (!x || !y)
		return best;
	for (enum un_order o = UN_ORDER_LISTED; o <= UN_ORDER_NAME; o++) {
		size_t n = can_be(o, l) ? distance(l, o, x, y, SKIPPED) : 0;

		if (n > 0 && n < least) {
			best = o;
			least = n;
		}
	}
	return best;
}

enum un_order un_window_order(struct un_inode *dir, const char *a, const char *b)
{
	enum un_order o;

	un_ns_read(dir);
	o = order_locked(dir, a, b);
	un_ns_unlock(dir);
	return o;
}

bool un_window_goes_on(struct un_inode *dir, enum un_order o, const char *end, const char *name,
		       char *ret)
{
	const struct un_listing *l;
	const struct un_entry *x, *y;
	bool on = false, ahead;

	un_ns_read(dir);
	l = listing(dir);
	x = l ? un_listing_find(l, name) : NULL;
	y = l ? un_listing_find(l, end) : NULL;
	if (x && y && can_be(o, l)) {
		ahead = compare(o, x, y) <= 0;
		on = distance(l, o, ahead ? x : y, ahead ? y : x, UN_WINDOW) <= UN_WINDOW;
		g_strlcpy(ret, ahead ? end : name, NAME_MAX + 1);
	}
	un_ns_unlock(dir);
	return on;
}

/* Those that come next are kept in @v, in order. */
static unsigned keep(const struct un_entry **v, unsigned n, enum un_order o,
		     const struct un_entry *e)
{
	unsigned at = n;

	if (n == UN_WINDOW && compare(o, e, v[n - 1]) > 0)
		return n;
	if (n == UN_WINDOW)
		at = --n;
	for (; at > 0 && compare(o, e, v[at - 1]) < 0; at--)
		v[at] = v[at - 1];
	v[at] = e;
	return n + 1;
}

static bool choose_locked(struct un_inode *dir, enum un_order o, const char *after,
			  struct un_window *ret) UN_NS_READ
{
	const struct un_listing *l = listing(dir);
	const struct un_entry *from = l && *after ? un_listing_find(l, after) : NULL, *e;
	const struct un_entry *v[UN_WINDOW];
	size_t at = 0;

	if (!l || (*after && !from) || !can_be(o, l))
		return false;
	if (from && o == UN_ORDER_LISTED)
		at = un_listing_after(l, from->cookie);
	for (; (e = un_listing_at(l, &at)); at++) {
		if (e->type != DT_REG || e->pos >= dir->d->n || (from && compare(o, from, e) >= 0))
			continue;
		ret->n = keep(v, ret->n, o, e);
		if (ret->n == UN_WINDOW && o == UN_ORDER_LISTED)
			break;
	}
	ret->end = ret->n < UN_WINDOW;
	for (unsigned i = 0; i < ret->n; i++) {
		ret->files[i].rd = un_realdir_ref(dir->d->stack[v[i]->pos]);
		ret->files[i].name = g_strdup(v[i]->name);
	}
	return true;
}

bool un_window_choose(struct un_inode *dir, enum un_order o, const char *after,
		      struct un_window *ret)
{
	bool ok;

	*ret = (struct un_window){ 0 };
	un_ns_read(dir);
	ok = choose_locked(dir, o, after, ret);
	un_ns_unlock(dir);
	return ok;
}

/* ---- asking --------------------------------------------------------------------------------------------- */

/* Nothing else is opened: what may have come to the name of a file, and what has no data of its own on the disk. */
static bool is_worth(const struct statx *st)
{
	return S_ISREG(st->stx_mode) && !un_stx_is_covered(st) && st->stx_blocks > 0 &&
	       st->stx_size > 0 && st->stx_size <= HUGE_BYTES;
}

/* -errno of whatever is in the way. *ret_look: looking at its data moves no time of access. */
static int open_file(struct un_fs *fs, const struct un_window *w, unsigned i, uint64_t *ret_size,
		     bool *ret_look)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	struct un_layer *l = w->files[i].rd->layer;
	struct un_fd *dir;
	struct statx st;
	int fd, r = un_realdir_open(fs, w->files[i].rd, &dir);

	if (r < 0)
		return r;
	fd = l->ops->stat(l, dir->fd, w->files[i].name, &st);
	if (fd == 0)
		fd = is_worth(&st)
			     ? l->ops->open(l, dir->fd, w->files[i].name, flags | O_NOATIME, 0)
			     : -EINVAL;
	*ret_look = fd >= 0;
	*ret_size = st.stx_size;
	/* Who does not own it may not say so. */
	if (fd == -EPERM)
		fd = l->ops->open(l, dir->fd, w->files[i].name, flags, 0);
	un_fdcache_put(fs->fds, dir);
	return fd;
}

enum look {
	LOOK_NOTHING, /* it is no file to be asked for */
	LOOK_WARM,
	LOOK_COLD,
	LOOK_UNKNOWN,
};

static enum look look_at(struct un_fs *fs, const struct un_window *w, unsigned i)
{
	struct un_layer *l = w->files[i].rd->layer;
	uint64_t size;
	bool look;
	char byte;
	int r;
	un_autofd int fd = open_file(fs, w, i, &size, &look);

	if (fd < 0)
		return LOOK_NOTHING;
	r = l->ops->is_cached(l, fd);
	if (r >= 0)
		return r ? LOOK_WARM : LOOK_COLD;
	/* This has the disk begin, which may be quick enough to look like memory. */
	if (!look)
		return LOOK_UNKNOWN;
	return l->ops->pread_cached(l, fd, &byte, 1, 0) == -EAGAIN ? LOOK_COLD : LOOK_WARM;
}

/*
 * Is there anything to be asked for? By a few of them, the furthest first: who reads may have got to the first ones by
 * himself meanwhile.
 */
static enum look sample(struct un_fs *fs, const struct un_window *w)
{
	unsigned seen = 0;

	for (unsigned i = w->n; i > 0 && seen < SAMPLE; i -= (i + SAMPLE) / (SAMPLE + 1)) {
		enum look found = look_at(fs, w, i - 1);

		if (found == LOOK_COLD || found == LOOK_UNKNOWN)
			return found;
		seen += found == LOOK_WARM;
	}
	return LOOK_WARM;
}

static uint64_t ask(struct un_fs *fs, const struct un_window *w, unsigned i)
{
	struct un_layer *l = w->files[i].rd->layer;
	uint64_t size;
	bool look;
	un_autofd int fd = open_file(fs, w, i, &size, &look);

	if (fd < 0)
		return 0;
	size = MIN(size, EACH_BYTES);
	un_ignore(l->ops->will_need(l, fd, 0, (off_t)size));
	return size;
}

static void cut(struct un_fs *fs, struct un_window *w, unsigned n)
{
	for (unsigned i = n; i < w->n; i++) {
		un_realdir_put(fs, w->files[i].rd);
		g_free(w->files[i].name);
	}
	w->end = w->end && n == w->n;
	w->n = n;
}

void un_window_ask(struct un_fs *fs, struct un_window *w)
{
	enum look found = sample(fs, w);
	uint64_t bytes = 0;
	unsigned n = 0;

	w->cold = found == LOOK_COLD;
	if (found == LOOK_WARM)
		return;
	for (; n < w->n && bytes < ALL_BYTES; n++)
		bytes += ask(fs, w, n);
	cut(fs, w, n);
}

void un_window_done(struct un_fs *fs, struct un_window *w)
{
	cut(fs, w, 0);
}
