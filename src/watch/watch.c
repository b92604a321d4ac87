/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may be watched by fanotify is, the rest by inotify. */
#include "watch_i.h"

#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
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
	un_mutex_done(&w->lock);
	un_mutex_done(&w->reading);
	g_free(w);
}

static bool is_full(struct un_watch *w)
{
	bool full;

	watch_lock(w);
	full = w->by_fanotify + w->by_inotify >= w->config.budget;
	watch_unlock(w);
	return full;
}

int un_watch_add(struct un_watch *w, int dirfd, uint64_t key)
{
	struct un_fid fid;
	int r;

	if (is_full(w))
		return -ENOSPC;
	r = w->fanotify >= 0 ? un_fanotify_fid(dirfd, &fid) : -ENOSYS;
	if (r == 0)
		r = un_fanotify_mark(w->fanotify, dirfd, true);
	if (r == 0)
		return un_watch_enter(w, &fid, false, key);
	/* What may not be read may not be watched, in neither way. */
	if (r == -EACCES || r == -ENOSPC || w->inotify < 0)
		return r;
	atomic_store(&w->has_inotify, true);
	r = un_inotify_add(w->inotify, dirfd, &fid);
	return r < 0 ? r : un_watch_enter(w, &fid, true, key);
}

void un_watch_remove(struct un_watch *w, int dirfd, uint64_t key)
{
	struct un_fid fid;
	bool inotify;

	if (w->fanotify >= 0 && un_fanotify_fid(dirfd, &fid) == 0 &&
	    un_watch_leave(w, &fid, key, &inotify)) {
		un_ignore(un_fanotify_mark(w->fanotify, dirfd, false));
		return;
	}
	/* To be told the number of a watch is to set it. */
	if (w->inotify >= 0 && un_inotify_add(w->inotify, dirfd, &fid) == 0 &&
	    un_watch_leave(w, &fid, key, &inotify))
		un_inotify_remove(w->inotify, &fid);
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
	if (w->inotify >= 0)
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
