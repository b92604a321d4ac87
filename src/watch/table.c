/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which directories are watched, as the kernel calls them, and under which keys; whom an event is told. */
#include "watch_i.h"

#include <string.h>

guint un_fid_hash(gconstpointer p)
{
	const struct un_fid *f = p;
	guint h = 2166136261u;

	for (uint32_t i = 0; i < f->len; i++)
		h = (h ^ f->bytes[i]) * 16777619u;
	return h;
}

static gboolean fid_equal(gconstpointer a, gconstpointer b)
{
	const struct un_fid *x = a, *y = b;

	return x->len == y->len && memcmp(x->bytes, y->bytes, x->len) == 0;
}

static void dir_free(gpointer p)
{
	struct un_watch_dir *d = p;

	g_array_unref(d->keys);
	g_free(d);
}

void un_watch_table_init(struct un_watch *w)
{
	watch_is_ours(w);
	w->dirs = g_hash_table_new_full(un_fid_hash, fid_equal, NULL, dir_free);
}

void un_watch_table_done(struct un_watch *w)
{
	watch_is_ours(w);
	g_hash_table_destroy(w->dirs);
}

static bool has_key(const struct un_watch_dir *d, uint64_t key, guint *ret_at)
{
	for (guint i = 0; i < d->keys->len; i++) {
		if (g_array_index(d->keys, uint64_t, i) != key)
			continue;
		*ret_at = i;
		return true;
	}
	return false;
}

static void drop_locked(struct un_watch *w, struct un_watch_dir *d) UN_REQUIRES(watch_role)
{
	*(d->inotify ? &w->by_inotify : &w->by_fanotify) -= 1;
	g_hash_table_remove(w->dirs, &d->fid);
}

static gboolean is_doubtful(gpointer key, gpointer value, gpointer data) UN_NO_TSA /* see below */
{
	struct un_watch_dir *d = value;
	struct un_watch *w = data;

	(void)key;
	if (d->since == atomic_load(&w->lost))
		return FALSE;
	*(d->inotify ? &w->by_inotify : &w->by_fanotify) -= 1;
	if (d->keys->len > 1)
		atomic_fetch_sub(&w->shared, 1);
	return TRUE;
}

/*
 * That a directory has gone, and its watch with it, may be among what was lost. The kernel does not say which have: so
 * when there is no room, those go that nobody has asked for since. What is still there is asked for again before it is
 * relied on (un_watch_fn), and comes back.
 */
static bool sweep_locked(struct un_watch *w) UN_REQUIRES(watch_role)
{
	if (w->swept == atomic_load(&w->lost))
		return false;
	w->swept = atomic_load(&w->lost);
	return g_hash_table_foreach_remove(w->dirs, is_doubtful, w) > 0;
}

static bool has_room_locked(const struct un_watch *w) UN_REQUIRES(watch_role)
{
	return w->by_fanotify + w->by_inotify + w->adding < w->config.budget;
}

bool un_watch_reserve(struct un_watch *w, const struct un_fid *fid)
{
	bool room;

	watch_lock(w);
	room = (fid && g_hash_table_contains(w->dirs, fid)) || has_room_locked(w) ||
	       (sweep_locked(w) && has_room_locked(w));
	if (room)
		w->adding++;
	watch_unlock(w);
	return room;
}

bool un_watch_is_known(struct un_watch *w, const struct un_fid *fid)
{
	bool is;

	watch_lock(w);
	is = g_hash_table_contains(w->dirs, fid);
	watch_unlock(w);
	return is;
}

void un_watch_unreserve(struct un_watch *w)
{
	watch_lock(w);
	w->adding--;
	watch_unlock(w);
}

void un_watch_enter(struct un_watch *w, const struct un_fid *fid, bool inotify, uint64_t key,
		    uint64_t lost)
{
	struct un_watch_dir *d;
	guint at;

	watch_lock(w);
	d = g_hash_table_lookup(w->dirs, fid);
	if (!d) {
		d = g_new0(struct un_watch_dir, 1);
		d->fid = *fid;
		d->inotify = inotify;
		d->keys = g_array_new(FALSE, FALSE, sizeof(uint64_t));
		g_hash_table_add(w->dirs, d);
		*(inotify ? &w->by_inotify : &w->by_fanotify) += 1;
	}
	d->since = lost;
	if (!has_key(d, key, &at)) {
		g_array_append_val(d->keys, key);
		if (d->keys->len == 2)
			atomic_fetch_add(&w->shared, 1);
	}
	watch_unlock(w);
}

enum un_watch_left un_watch_leave(struct un_watch *w, const struct un_fid *fid, uint64_t key)
{
	enum un_watch_left left = UN_WATCH_STAYS;
	struct un_watch_dir *d;
	guint at;

	watch_lock(w);
	d = g_hash_table_lookup(w->dirs, fid);
	if (!d) {
		left = UN_WATCH_UNKNOWN;
	} else if (has_key(d, key, &at)) {
		g_array_remove_index_fast(d->keys, at);
		if (d->keys->len == 1)
			atomic_fetch_sub(&w->shared, 1);
		if (d->keys->len == 0) {
			left = UN_WATCH_LAST;
			drop_locked(w, d);
		}
	}
	watch_unlock(w);
	return left;
}

void un_watch_tell(struct un_watch *w, const struct un_fid *fid, const char *name, unsigned what,
		   bool dir, bool own, bool gone)
{
	g_autoptr(GArray) keys = NULL;
	struct un_watch_dir *d;

	watch_lock(w);
	d = g_hash_table_lookup(w->dirs, fid);
	if (d && (!own || gone || d->keys->len > 1))
		keys = g_array_copy(d->keys);
	if (d && gone) {
		if (d->keys->len > 1)
			atomic_fetch_sub(&w->shared, 1);
		drop_locked(w, d);
	}
	watch_unlock(w);
	if (!keys && !own && !name && (what & UN_WATCH_ATTR)) {
		const struct un_watch_event some = { .what = UN_WATCH_SOME, .dir = true };

		atomic_fetch_add(&w->events, 1);
		w->config.fn(w->config.data, &some);
	}
	if (!keys || !what)
		return;
	if (!own || keys->len > 1)
		atomic_fetch_add(&w->events, 1);
	for (guint i = 0; i < keys->len; i++) {
		const struct un_watch_event e = {
			.key = g_array_index(keys, uint64_t, i),
			.name = name,
			.what = what,
			.dir = dir,
		};

		w->config.fn(w->config.data, &e);
	}
}

void un_watch_tell_lost(struct un_watch *w)
{
	const struct un_watch_event e = { .what = UN_WATCH_LOST };

	atomic_fetch_add(&w->lost, 1);
	w->config.fn(w->config.data, &e);
}
