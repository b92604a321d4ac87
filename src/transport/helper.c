/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The helper thread. Sleeps on a condition variable without a time limit unless something ticks:
 * an idle mount wakes nobody.
 */
#include "helper_i.h"

#include "transport/process.h"
#include "transport/transport.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"

#include <glib.h>
#include <time.h>

struct job {
	struct job *next;
	void (*fn)(void *data);
	void *data;
};

struct tick {
	bool (*fn)(void *data);
	void *data;
	unsigned seconds;
	bool asked;          /* for again, while it was running */
	struct timespec due; /* CLOCK_MONOTONIC */
};

struct un_helper {
	struct un_mutex lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool started UN_GUARDED_BY(lock);
	bool stopping UN_GUARDED_BY(lock);
	struct job *first, **last UN_GUARDED_BY(lock); /* first in, first out */
	GPtrArray *ticks UN_GUARDED_BY(lock);          /* struct tick */
};

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static void set_due(struct tick *t)
{
	clock_gettime(CLOCK_MONOTONIC, &t->due);
	t->due.tv_sec += t->seconds;
}

static struct tick *next_tick_locked(struct un_helper *h) UN_REQUIRES(h->lock);

static struct tick *next_tick_locked(struct un_helper *h)
{
	struct tick *next = NULL;

	for (guint i = 0; i < h->ticks->len; i++) {
		struct tick *t = g_ptr_array_index(h->ticks, i);

		if (!next || before(&t->due, &next->due))
			next = t;
	}
	return next;
}

static struct job *pop_job_locked(struct un_helper *h) UN_REQUIRES(h->lock);

static struct job *pop_job_locked(struct un_helper *h)
{
	struct job *job = h->first;

	if (job) {
		h->first = job->next;
		if (!h->first)
			h->last = &h->first;
	}
	return job;
}

static void run_job_locked(struct un_helper *h, struct job *job) UN_REQUIRES(h->lock);

static void run_job_locked(struct un_helper *h, struct job *job)
{
	un_mutex_unlock(&h->lock);
	job->fn(job->data);
	g_free(job);
	/* The device was for the replies of this job. */
	un_transport_use_device(-1);
	un_mutex_lock(&h->lock);
}

/*
 * @t stays in the list while it runs. Who asks for it meanwhile may have come after @fn looked, so
 * then "no more" is not the last word.
 */
static void run_tick_locked(struct un_helper *h, struct tick *t) UN_REQUIRES(h->lock);

static void run_tick_locked(struct un_helper *h, struct tick *t)
{
	bool again;

	t->asked = false;
	un_mutex_unlock(&h->lock);
	again = t->fn(t->data);
	un_transport_use_device(-1);
	un_mutex_lock(&h->lock);
	if (again || t->asked)
		set_due(t);
	else
		g_ptr_array_remove_fast(h->ticks, t);
}

static void *helper_main(void *arg)
{
	struct un_helper *h = arg;

	un_mutex_lock(&h->lock);
	for (;;) {
		struct job *job = pop_job_locked(h);
		struct tick *t;
		struct timespec now;

		if (job) {
			run_job_locked(h, job);
			continue;
		}
		if (h->stopping)
			break;
		t = next_tick_locked(h);
		if (!t) {
			pthread_cond_wait(&h->changed, &h->lock.m);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (before(&now, &t->due))
			un_ignore(pthread_cond_timedwait(&h->changed, &h->lock.m, &t->due));
		else
			run_tick_locked(h, t);
	}
	un_mutex_unlock(&h->lock);
	return NULL;
}

/* False: there is no thread and will be none. */
static bool start_locked(struct un_helper *h) UN_REQUIRES(h->lock);

static bool start_locked(struct un_helper *h)
{
	int r;

	if (h->stopping)
		return false;
	if (h->started)
		return true;
	r = un_process_thread(&h->thread, helper_main, h);
	if (r < 0) {
		un_log(LOG_ERR, "the helper thread cannot be started: %s", g_strerror(-r));
		return false;
	}
	h->started = true;
	return true;
}

struct un_helper *un_helper_new(void)
{
	struct un_helper *h = g_new0(struct un_helper, 1);
	pthread_condattr_t attr;

	un_mutex_init(&h->lock);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->changed, &attr);
	pthread_condattr_destroy(&attr);
	h->last = &h->first;
	h->ticks = g_ptr_array_new_with_free_func(g_free);
	return h;
}

void un_helper_defer(struct un_helper *h, void (*fn)(void *data), void *data)
{
	struct job *job;
	bool ok;

	un_mutex_lock(&h->lock);
	ok = start_locked(h);
	if (ok) {
		job = g_new0(struct job, 1);
		*job = (struct job){ .fn = fn, .data = data };
		*h->last = job;
		h->last = &job->next;
		pthread_cond_signal(&h->changed);
	}
	un_mutex_unlock(&h->lock);
	if (!ok) {
		int device = un_transport_keep_device();

		fn(data);
		un_transport_use_device(device);
	}
}

void un_helper_tick(struct un_helper *h, unsigned seconds, bool (*fn)(void *data), void *data)
{
	struct tick *t;

	un_mutex_lock(&h->lock);
	for (guint i = 0; i < h->ticks->len; i++) {
		t = g_ptr_array_index(h->ticks, i);
		if (t->fn == fn && t->data == data) {
			t->asked = true;
			goto out;
		}
	}
	if (!start_locked(h))
		goto out;
	t = g_new0(struct tick, 1);
	*t = (struct tick){ .fn = fn, .data = data, .seconds = seconds };
	set_due(t);
	g_ptr_array_add(h->ticks, t);
	pthread_cond_signal(&h->changed);
out:
	un_mutex_unlock(&h->lock);
}

void un_helper_stop(struct un_helper *h)
{
	bool join;

	un_mutex_lock(&h->lock);
	join = h->started && !h->stopping;
	h->stopping = true;
	pthread_cond_signal(&h->changed);
	un_mutex_unlock(&h->lock);
	if (join)
		pthread_join(h->thread, NULL);
}

void un_helper_free(struct un_helper *h)
{
	if (!h)
		return;
	un_helper_stop(h);
	g_ptr_array_unref(h->ticks);
	pthread_cond_destroy(&h->changed);
	un_mutex_done(&h->lock);
	g_free(h);
}
