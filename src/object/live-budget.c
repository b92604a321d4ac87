/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which merged directories are watched, and which of them are given up when there are too many.
 *
 * Giving one up ends what was believed because it was watched: what is known of it is in doubt, as after a change, and
 * the kernel is told to ask again for all it has of it (UN_CHANGE_LEFT). It is watched again when somebody looks into
 * it. That costs, so where more directories are in use than can be watched none takes the place of another:
 * only what nobody has asked for in a while goes, and what finds no place is believed for a second.
 *
 * What the kernel answers by itself is no use that is seen here. A directory that everybody reads from the kernel's
 * caches is given up like one that nobody reads, comes back with the next request, and then is among the last to go.
 */
#include "live_i.h"

#include "object/children.h"
#include "object/fdcache.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/realdir.h"
#include "object/tell.h"
#include "watch/watch.h"

#include <string.h>

/* Not given up: what was used in the last seconds. */
#define IN_USE 2
/* Of those that are watched, at a time; the one who needs room waits while it is made (10 us for each). */
#define PART 16
#define AT_LEAST 4
#define AT_MOST 256
/* Between two times, if there was something to give up, and if there was not; microseconds. */
#define PAUSE 100000
#define PAUSE_IN_VAIN 1000000

UN_ROLE(un_budget_role);

struct un_live_budget {
	struct un_mutex lock; /* for an instant */
	GPtrArray *dirs UN_GUARDED_BY(
		un_budget_role); /* watched; un_dirinfo.budget_at is the place, plus 1 */
	guint hand UN_GUARDED_BY(un_budget_role);  /* where the next search begins */
	gint64 next UN_GUARDED_BY(un_budget_role); /* not before; microseconds */
};
UN_LOCKS(struct un_live_budget, lock, budget, un_budget_role);

void un_live_budget_init(struct un_fs *fs)
{
	struct un_live_budget *b = g_new0(struct un_live_budget, 1);

	un_mutex_init(&b->lock);
	budget_is_ours(b);
	b->dirs = g_ptr_array_new();
	fs->budget = b;
}

void un_live_budget_done(struct un_fs *fs)
{
	struct un_live_budget *b = fs->budget;

	if (!b)
		return;
	fs->budget = NULL;
	budget_is_ours(b);
	g_ptr_array_free(b->dirs, TRUE);
	un_mutex_done(&b->lock);
	g_free(b);
}

static void enter_locked(struct un_live_budget *b, struct un_inode *dir) UN_REQUIRES(un_budget_role)
{
	if (dir->d->budget_at)
		return;
	g_ptr_array_add(b->dirs, dir);
	dir->d->budget_at = b->dirs->len;
}

/* The last one takes its place. */
static void leave_locked(struct un_live_budget *b, struct un_inode *dir) UN_REQUIRES(un_budget_role)
{
	guint at = dir->d->budget_at;
	struct un_inode *last;

	if (!at)
		return;
	dir->d->budget_at = 0;
	last = g_ptr_array_remove_index_fast(b->dirs, at - 1);
	if (at <= b->dirs->len) {
		last = g_ptr_array_index(b->dirs, at - 1);
		last->d->budget_at = at;
	}
}

/* The seconds stay in its stamp, which only grows. */
static void not_timed(struct un_fs *fs, struct un_inode *dir)
{
	atomic_fetch_sub(&fs->timed_dirs, 1);
	atomic_fetch_add(&dir->d->changed, un_monotonic_seconds());
}

void un_live_set(struct un_fs *fs, struct un_inode *dir, enum un_watched now)
{
	struct un_live_budget *b = fs->budget;
	enum un_watched was;

	budget_lock(b);
	was = (enum un_watched)atomic_exchange(&dir->d->watched, now);
	if (now == UN_WATCHED)
		enter_locked(b, dir);
	else
		leave_locked(b, dir);
	budget_unlock(b);
	if (was == now)
		return;
	if (now == UN_WATCHED_TIMED)
		atomic_fetch_add(&fs->timed_dirs, 1);
	else if (was == UN_WATCHED_TIMED)
		not_timed(fs, dir);
}

void un_live_lost(struct un_fs *fs)
{
	struct un_live_budget *b = fs->budget;

	/* Before: who is about to say that one is watched looks at it afterwards (watch_once()). */
	atomic_fetch_add(&fs->lost, 1);
	budget_lock(b);
	/* They stay here: most are watched still, and can be given up. */
	for (guint i = 0; i < b->dirs->len; i++)
		atomic_store(&((struct un_inode *)b->dirs->pdata[i])->d->watched,
			     UN_WATCHED_NOT_YET);
	budget_unlock(b);
}

void un_live_unwatch(struct un_fs *fs, uint64_t id, struct un_realdir *rd)
{
	struct un_fd *fd;

	if (!fs->watch || rd->hollow || un_realdir_open(fs, rd, &fd) < 0)
		return;
	un_watch_remove(fs->watch, fd->fd, id);
	un_fdcache_put(fs->fds, fd);
}

/* Seconds since @dir was last used. */
static uint32_t age(const struct un_inode *dir, uint32_t now)
{
	int32_t n = (int32_t)(now - atomic_load_explicit(&dir->d->used, memory_order_relaxed));

	return n > 0 ? (uint32_t)n : 0;
}

/* So old are @n at least, or as many as may be given up at all. */
static uint32_t age_of_oldest_locked(struct un_live_budget *b, guint n, uint32_t now)
	UN_REQUIRES(un_budget_role)
{
	guint of[33] = { 0 }, older = 0;
	unsigned i;

	for (guint j = 0; j < b->dirs->len; j++)
		of[g_bit_storage(age(g_ptr_array_index(b->dirs, j), now))]++;
	for (i = G_N_ELEMENTS(of) - 1; i > 0 && older < n; i--)
		older += of[i];
	return MAX(IN_USE, 1u << i);
}

/* Node ids, so that no lock of ours is held while they are given up; NULL: not now. */
static GArray *oldest(struct un_live_budget *b)
{
	GArray *ids = NULL;
	gint64 now_us = g_get_monotonic_time();
	struct timespec ts;
	uint32_t now, from;
	guint n, look;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (uint32_t)ts.tv_sec;
	budget_lock(b);
	n = CLAMP(b->dirs->len / PART, AT_LEAST, AT_MOST);
	if (now_us >= b->next) {
		ids = g_array_new(FALSE, FALSE, sizeof(uint64_t));
		from = age_of_oldest_locked(b, n, now);
		for (look = b->dirs->len; look > 0 && ids->len < n; look--) {
			const struct un_inode *dir;

			b->hand = b->hand + 1 < b->dirs->len ? b->hand + 1 : 0;
			dir = g_ptr_array_index(b->dirs, b->hand);
			if (age(dir, now) >= from)
				g_array_append_val(ids, dir->id);
		}
		b->next = now_us + (ids->len ? PAUSE : PAUSE_IN_VAIN);
	}
	budget_unlock(b);
	return ids;
}

static void leave(struct un_fs *fs, struct un_inode *dir) UN_NS_WRITE
{
	for (unsigned i = 0; i < dir->d->n; i++)
		un_live_unwatch(fs, dir->id, dir->d->stack[i]);
	atomic_store(&dir->d->tried, 0);
	un_live_set(fs, dir, UN_WATCHED_NOT_YET);
	atomic_fetch_add(&dir->d->changed, 1);
	un_children_are_timed(dir);
	/*
	 * In this order: who has asked for this number before gives his answer no time to live, or has given it before the
	 * kernel is told; who asks for it later sees what was set above.
	 */
	atomic_fetch_add(&fs->live_seq, 1);
	atomic_fetch_add(&fs->given_up, 1);
	un_tell(fs, UN_CHANGE_LEFT, dir->id, NULL);
}

/* Whoever is busy in it uses it. */
static bool give_up(struct un_fs *fs, uint64_t id)
{
	struct un_inode *dir = un_inode_get(fs, id);
	bool done = false;

	if (!dir)
		return false;
	if (un_ns_try_write(dir)) {
		/* Or was, until events were lost (un_live_lost()). */
		done = !dir->d->dead && atomic_load(&dir->d->watched) != UN_WATCHED_TIMED;
		if (done)
			leave(fs, dir);
		un_ns_unlock(dir);
	}
	un_inode_put(fs, dir);
	return done;
}

bool un_live_make_room(struct un_fs *fs)
{
	g_autoptr(GArray) ids = NULL;
	bool any = false;

	/* Who cannot be told goes on believing. */
	if (!fs->gives_up)
		return false;
	ids = oldest(fs->budget);
	for (guint i = 0; ids && i < ids->len; i++)
		any = give_up(fs, g_array_index(ids, uint64_t, i)) || any;
	return any;
}
