/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who reads the files of a directory one after the other? Two in a row that were not in memory tell the order; from then
 * on the next ones are asked for, half a window before they are needed. A thread that reads in some order is thought to
 * go on so in the next directory: with the first file there, or as soon as it lists it.
 *
 * Nothing is done for what is in memory: after a few windows in a row of which nothing had to be asked for, in whatever
 * directories, it takes two cold files again.
 */
#include "union/ahead.h"
#include "ahead_i.h"

#include "object/fdcache.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Directories at a time; the one that was left alone longest makes room. */
#define STREAMS 16
/* So many seconds without a file it is over. */
#define LINGER 5u
/* At a time: as many may wait for a layer that does not answer. */
#define JOBS 4
/* With fewer descriptors there is something better to do with each. */
#define FDS_FEW 256
/* Windows in a row. */
#define WARM_MAX 3
/* Of all memory, so much has to be free or easily made so: one part in ... */
#define MEMORY_PART 32

struct stream {
	uint64_t dir;  /* its id; 0: unused */
	uint32_t pid;  /* who read last */
	uint32_t used; /* monotonic seconds */
	unsigned seq;  /* the same, in order */
	enum un_order order;
	/* Order unknown: read last; else the last asked for, "": none yet. */
	char last[NAME_MAX + 1];
	unsigned left; /* of those asked for, about so many are still to be read */
	unsigned warm; /* windows in a row of which all was in memory, here and before */
	bool busy;     /* there is a job */
	bool end;      /* all were asked for */
};

UN_ROLE(ahead_role);

struct un_ahead {
	struct un_fs *fs;
	atomic_uint until; /* there may be streams until then; 0: there is none */
	struct un_mutex lock;
	struct stream streams[STREAMS] UN_GUARDED_BY(ahead_role);
	unsigned seq UN_GUARDED_BY(ahead_role);
	unsigned jobs UN_GUARDED_BY(ahead_role);
};
UN_LOCKS(struct un_ahead, lock, ahead, ahead_role);

struct un_ahead_job {
	struct un_ahead *ahead;
	struct un_inode *dir; /* a reference */
	enum un_order order;
	char last[NAME_MAX + 1];
	char name[NAME_MAX + 1]; /* read just now; "": the directory is listed */
};

struct un_ahead *un_ahead_new(struct un_fs *fs)
{
	struct un_ahead *a = g_new0(struct un_ahead, 1);

	a->fs = fs;
	un_mutex_init(&a->lock);
	return a;
}

void un_ahead_free(struct un_ahead *a)
{
	if (!a)
		return;
	un_mutex_done(&a->lock);
	g_free(a);
}

/* ---- streams ------------------------------------------------------------------------------------------ */

static bool is_over(const struct stream *s, uint32_t now)
{
	return s->dir == 0 || now - s->used > LINGER;
}

static struct stream *find_locked(struct un_ahead *a, uint64_t dir, uint32_t now)
	UN_REQUIRES(a->lock, ahead_role)
{
	for (unsigned i = 0; i < STREAMS; i++)
		if (a->streams[i].dir == dir && !is_over(&a->streams[i], now))
			return &a->streams[i];
	return NULL;
}

static void used_locked(struct un_ahead *a, struct stream *s, uint32_t pid, uint32_t now)
	UN_REQUIRES(a->lock, ahead_role)
{
	s->pid = pid;
	s->used = now;
	s->seq = ++a->seq;
}

/* What @pid has read last, elsewhere; or NULL. */
static const struct stream *last_of_locked(struct un_ahead *a, uint32_t pid, uint32_t now)
	UN_REQUIRES(a->lock, ahead_role)
{
	const struct stream *last = NULL;

	for (unsigned i = 0; i < STREAMS; i++) {
		const struct stream *s = &a->streams[i];

		if (s->pid == pid && !is_over(s, now) && (!last || s->seq - last->seq < INT_MAX))
			last = s;
	}
	return last;
}

/* A new one, which goes on in the order of @like, if that is not NULL. */
static struct stream *begin_locked(struct un_ahead *a, uint64_t dir, uint32_t pid,
				   const struct stream *like, uint32_t now)
	UN_REQUIRES(a->lock, ahead_role)
{
	struct stream *s = &a->streams[0], new = { .dir = dir };

	if (like) {
		new.order = like->order;
		new.warm = like->warm;
	}
	for (unsigned i = 1; i < STREAMS && !is_over(s, now); i++)
		if (is_over(&a->streams[i], now) || s->seq - a->streams[i].seq < INT_MAX)
			s = &a->streams[i];
	*s = new;
	used_locked(a, s, pid, now);
	return s;
}

/* @name "": it is being listed. NULL: others have as much in hand as may be. */
static struct un_ahead_job *job_locked(struct un_ahead *a, struct stream *s, struct un_inode *dir,
				       const char *name) UN_REQUIRES(a->lock, ahead_role)
{
	struct un_ahead_job *j;

	if (s->busy || a->jobs == JOBS)
		return NULL;
	j = g_new0(struct un_ahead_job, 1);
	*j = (struct un_ahead_job){ .ahead = a, .dir = un_inode_ref(dir), .order = s->order };
	g_strlcpy(j->last, s->last, sizeof(j->last));
	g_strlcpy(j->name, name, sizeof(j->name));
	s->busy = true;
	a->jobs++;
	return j;
}

static struct un_ahead_job *read_locked(struct un_ahead *a, struct un_inode *dir, const char *name,
					uint32_t pid, bool cold, uint32_t now)
	UN_REQUIRES(a->lock, ahead_role)
{
	struct stream *s = find_locked(a, dir->id, now);

	if (!s) {
		if (!cold)
			return NULL;
		s = begin_locked(a, dir->id, pid, last_of_locked(a, pid, now), now);
		g_strlcpy(s->last, name, sizeof(s->last));
		return s->order == UN_ORDER_UNKNOWN ? NULL : job_locked(a, s, dir, name);
	}
	used_locked(a, s, pid, now);
	if (s->order == UN_ORDER_UNKNOWN)
		return cold && strcmp(s->last, name) != 0 ? job_locked(a, s, dir, name) : NULL;
	if (s->left > 0)
		s->left--;
	return s->end || s->left > UN_WINDOW / 2 ? NULL : job_locked(a, s, dir, name);
}

struct un_ahead_job *un_ahead_read(struct un_ahead *a, struct un_inode *inode, uint32_t pid,
				   bool cold)
{
	uint32_t until = a ? atomic_load_explicit(&a->until, memory_order_relaxed) : 0, now;
	struct un_ahead_job *j;
	char name[NAME_MAX + 1];
	struct un_inode *dir;

	if (!a || (!cold && until == 0))
		return NULL;
	now = un_monotonic_seconds();
	if (!cold && now > until) {
		atomic_store(&a->until, 0);
		return NULL;
	}
	if (!un_name_any(inode, &dir, name))
		return NULL;
	atomic_store_explicit(&a->until, now + LINGER, memory_order_relaxed);
	ahead_lock(a);
	j = read_locked(a, dir, name, pid, cold, now);
	ahead_unlock(a);
	un_inode_put(a->fs, dir);
	return j;
}

struct un_ahead_job *un_ahead_listed(struct un_ahead *a, struct un_inode *dir, uint32_t pid)
{
	struct un_ahead_job *j = NULL;
	const struct stream *last;
	uint32_t now;

	if (!a || atomic_load_explicit(&a->until, memory_order_relaxed) == 0 || dir->type != DT_DIR)
		return NULL;
	now = un_monotonic_seconds();
	ahead_lock(a);
	last = last_of_locked(a, pid, now);
	if (last && last->order != UN_ORDER_UNKNOWN && !find_locked(a, dir->id, now))
		j = job_locked(a, begin_locked(a, dir->id, pid, last, now), dir, "");
	ahead_unlock(a);
	return j;
}

/* ---- jobs --------------------------------------------------------------------------------------------- */

/* Where it is, others need it more. Not known: it is not. */
static bool memory_is_short(void)
{
	g_autofree char *info = NULL;
	const char *all, *free;

	if (!g_file_get_contents("/proc/meminfo", &info, NULL, NULL))
		return false;
	all = strstr(info, "MemTotal:");
	free = strstr(info, "MemAvailable:");
	return all && free &&
	       strtoull(free + strlen("MemAvailable:"), NULL, 10) <
		       strtoull(all + strlen("MemTotal:"), NULL, 10) / MEMORY_PART;
}

static void free_job(struct un_ahead_job *j)
{
	un_inode_put(j->ahead->fs, j->dir);
	g_free(j);
}

/* What became of it; @order UN_ORDER_UNKNOWN: nothing, and it begins again with the name read last. */
static void finish(struct un_ahead_job *j, enum un_order order, const struct un_window *w)
{
	struct un_ahead *a = j->ahead;
	struct stream *s;

	ahead_lock(a);
	a->jobs--;
	s = find_locked(a, j->dir->id, un_monotonic_seconds());
	if (s && s->busy) {
		s->busy = false;
		s->warm = w->cold ? 0 : s->warm + (w->n > 0);
		if (s->warm >= WARM_MAX)
			order = UN_ORDER_UNKNOWN;
		s->order = order;
		s->end = order != UN_ORDER_UNKNOWN && w->end;
		s->left = order != UN_ORDER_UNKNOWN ? s->left + w->n : 0;
		if (order == UN_ORDER_UNKNOWN)
			g_strlcpy(s->last, j->name, sizeof(s->last));
		else if (w->n > 0)
			g_strlcpy(s->last, w->files[w->n - 1].name, sizeof(s->last));
	}
	ahead_unlock(a);
	free_job(j);
}

void un_ahead_drop(struct un_ahead_job *j)
{
	const struct un_window none = { 0 };

	finish(j, UN_ORDER_UNKNOWN, &none);
}

void un_ahead_run(void *data)
{
	struct un_ahead_job *j = data;
	struct un_fs *fs = j->ahead->fs;
	enum un_order order = j->order;
	struct un_window w = { 0 };
	char after[NAME_MAX + 1] = "";

	if (un_fdcache_budget(fs->fds) < FDS_FEW || memory_is_short()) {
		order = UN_ORDER_UNKNOWN;
	} else if (order == UN_ORDER_UNKNOWN) {
		order = un_window_order(j->dir, j->last, j->name);
		g_strlcpy(after, j->name, sizeof(after));
	} else if (j->name[0] && !un_window_goes_on(j->dir, order, j->last, j->name, after)) {
		/* Another order, or none. */
		order = UN_ORDER_UNKNOWN;
	}
	if (order != UN_ORDER_UNKNOWN && !un_window_choose(j->dir, order, after, &w))
		order = UN_ORDER_UNKNOWN;
	un_window_ask(fs, &w);
	finish(j, order, &w);
	un_window_done(fs, &w);
}
