/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may be watched by fanotify is, the rest by inotify. */
#include "watch_i.h"

#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUDGET_MIN 1024u

/* A tenth of what a user may have: others of his want some, too. */
static unsigned fair_budget(bool fanotify)
{
	const char *path = fanotify ? "/proc/sys/fs/fanotify/max_user_marks"
				    : "/proc/sys/fs/inotify/max_user_watches";
	g_autofree char *text = NULL;
	guint64 n = 0;

	if (g_file_get_contents(path, &text, NULL, NULL))
		n = g_ascii_strtoull(text, NULL, 10);
	return (unsigned)CLAMP(n / 10, BUDGET_MIN, G_MAXINT32);
}

static void add_to_poll(struct un_watch *w, int fd)
{
	struct epoll_event e = { .events = EPOLLIN };

	if (fd >= 0)
		un_ignore(epoll_ctl(w->poll, EPOLL_CTL_ADD, fd, &e));
}

/* One descriptor to poll for both; where that is refused, the one of fanotify alone. */
static void join(struct un_watch *w)
{
	w->poll = -1;
	if (w->fanotify >= 0 && w->inotify >= 0)
		w->poll = un_errno(epoll_create1(EPOLL_CLOEXEC));
	if (w->poll >= 0) {
		add_to_poll(w, w->fanotify);
		add_to_poll(w, w->inotify);
	} else if (w->fanotify >= 0) {
		un_close(w->inotify);
		w->inotify = -1;
	}
}

struct un_watch *un_watch_new(const struct un_watch_config *c)
{
	struct un_watch *w = g_new0(struct un_watch, 1);

	w->config = *c;
	w->fanotify = c->no_fanotify ? -ENOSYS : un_fanotify_open();
	w->inotify = un_inotify_open();
	if (w->fanotify < 0 && w->inotify < 0) {
		errno = -w->fanotify;
		g_free(w);
		return NULL;
	}
	if (!w->config.budget)
		w->config.budget = fair_budget(w->fanotify >= 0);
	join(w);
	un_mutex_init(&w->reading);
	un_mutex_init(&w->lock);
	for (unsigned i = 0; i < UN_WATCH_STRIPES; i++)
		un_mutex_init(&w->changing[i]);
	un_watch_table_init(w);
	return w;
}

void un_watch_free(struct un_watch *w)
{
	if (!w)
		return;
	un_close(w->poll);
	un_close(w->fanotify);
	un_close(w->inotify);
	un_watch_table_done(w);
	for (unsigned i = 0; i < UN_WATCH_STRIPES; i++)
		un_mutex_done(&w->changing[i]);
	un_mutex_done(&w->lock);
	un_mutex_done(&w->reading);
	g_free(w);
}

/*
 * By what fanotify calls the directory (@fid), or, where it has no name for it, by the kernel's own number of it, whoever opened
 * it; nobody is asked for that.
 */
static struct un_mutex *stripe_of(struct un_watch *w, int dirfd, const struct un_fid *fid)
{
	struct statx st = { 0 };
	uint64_t n;

	if (fid) {
		n = un_fid_hash(fid);
	} else {
		un_ignore(statx(dirfd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st));
		n = st.stx_ino ^ (uint64_t)st.stx_dev_minor << 32;
	}
	n *= 0x9e3779b97f4a7c15ull;
	return &w->changing[(n >> 40) % UN_WATCH_STRIPES];
}

/* By fanotify, or -errno. */
static int add_marked(struct un_watch *w, int dirfd, const struct un_fid *fid, uint64_t key)
{
	uint64_t lost = atomic_load(&w->lost);
	int r;

	if (!un_watch_reserve(w, fid))
		return -ENOSPC;
	r = un_fanotify_mark(w->fanotify, dirfd, true);
	if (r == 0)
		un_watch_enter(w, fid, false, key, lost);
	un_watch_unreserve(w);
	return r;
}

static int add_by_inotify(struct un_watch *w, int dirfd, uint64_t key)
{
	uint64_t lost = atomic_load(&w->lost);
	bool room = un_watch_reserve(w, NULL);
	struct un_fid fid;
	int r;

	atomic_store(&w->has_inotify, true);
	/* To be told whether it is there already is to set it. */
	r = un_inotify_add(w->inotify, dirfd, &fid);
	if (r == 0 && !room && !un_watch_is_known(w, &fid)) {
		un_inotify_remove(w->inotify, &fid);
		r = -ENOSPC;
	}
	if (r == 0)
		un_watch_enter(w, &fid, true, key, lost);
	if (room)
		un_watch_unreserve(w);
	return r;
}

int un_watch_add(struct un_watch *w, int dirfd, uint64_t key)
{
	struct un_mutex *changing;
	struct un_fid fid;
	int r = w->fanotify >= 0 ? un_fanotify_fid(dirfd, &fid) : -ENOSYS;

	changing = stripe_of(w, dirfd, r == 0 ? &fid : NULL);
	un_mutex_lock(changing);
	if (r == 0)
		r = add_marked(w, dirfd, &fid, key);
	/* What may not be read may not be watched, in neither way. */
	if (r < 0 && r != -EACCES && r != -ENOSPC && w->inotify >= 0)
		r = add_by_inotify(w, dirfd, key);
	un_mutex_unlock(changing);
	return r;
}

/* @marked: what fanotify calls it, or NULL. */
static void remove_locked(struct un_watch *w, int dirfd, const struct un_fid *marked, uint64_t key)
{
	enum un_watch_left left = UN_WATCH_UNKNOWN;
	struct un_fid fid;

	if (marked)
		left = un_watch_leave(w, marked, key);
	/* Of what is not known any more since events were lost, the kernel may have a mark still. */
	if (left == UN_WATCH_LAST || (marked && left == UN_WATCH_UNKNOWN && atomic_load(&w->lost)))
		un_ignore(un_fanotify_mark(w->fanotify, dirfd, false));
	if (left != UN_WATCH_UNKNOWN || !atomic_load(&w->has_inotify))
		return;
	/* To be told the number of a watch is to set it. */
	if (un_inotify_add(w->inotify, dirfd, &fid) == 0 &&
	    un_watch_leave(w, &fid, key) != UN_WATCH_STAYS)
		un_inotify_remove(w->inotify, &fid);
}

void un_watch_remove(struct un_watch *w, int dirfd, uint64_t key)
{
	struct un_fid fid;
	const struct un_fid *marked =
		w->fanotify >= 0 && un_fanotify_fid(dirfd, &fid) == 0 ? &fid : NULL;
	struct un_mutex *changing = stripe_of(w, dirfd, marked);

	un_mutex_lock(changing);
	remove_locked(w, dirfd, marked, key);
	un_mutex_unlock(changing);
}

static bool has_events(int fd)
{
	int n = 0;

	return fd >= 0 && ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

bool un_watch_pending(struct un_watch *w)
{
	if (has_events(w->fanotify) || (atomic_load(&w->has_inotify) && has_events(w->inotify)))
		return true;
	/* In this order: they are telling before the queue is empty, until all is told. */
	return atomic_load(&w->telling);
}

void un_watch_process(struct un_watch *w)
{
	un_mutex_lock(&w->reading);
	atomic_store(&w->telling, true);
	if (w->fanotify >= 0)
		un_fanotify_read(w);
	if (w->inotify >= 0 && atomic_load(&w->has_inotify))
		un_inotify_read(w);
	atomic_store(&w->telling, false);
	un_mutex_unlock(&w->reading);
}

int un_watch_fd(const struct un_watch *w)
{
	return w->poll >= 0 ? w->poll : w->fanotify >= 0 ? w->fanotify : w->inotify;
}

void un_watch_stats(struct un_watch *w, struct un_watch_stats *ret)
{
	*ret = (struct un_watch_stats){
		.budget = w->config.budget, .events = w->events, .own = w->own, .lost = w->lost
	};
	watch_lock(w);
	ret->by_fanotify = w->by_fanotify;
	ret->by_inotify = w->by_inotify;
	watch_unlock(w);
}
