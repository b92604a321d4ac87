/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The helper thread. Sleeps on a condition variable without a time limit unless something ticks:
 * an idle mount wakes nobody.
 */
#include "helper_i.h"

#include "device_i.h"

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

UN_ROLE(helper_role);

struct un_helper {
	struct un_mutex lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool started UN_GUARDED_BY(helper_role);
	bool stopping UN_GUARDED_BY(helper_role);
	struct job *first UN_GUARDED_BY(helper_role); /* first in, first out */
	struct job **last UN_GUARDED_BY(helper_role);
	GPtrArray *ticks UN_GUARDED_BY(helper_role); /* struct tick */
};
UN_LOCKS(struct un_helper, lock, helper, helper_role);

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static void set_due(struct tick *t)
{
	clock_gettime(CLOCK_MONOTONIC, &t->due);
	t->due.tv_sec += t->seconds;
}

static struct tick *next_tick_locked(struct un_helper *h) UN_REQUIRES(h->lock, helper_role)
{
	struct tick *next = NULL;

	for (guint i = 0; i < h->ticks->len; i++) {
		struct tick *t = g_ptr_array_index(h->ticks, i);

		if (!next || before(&t->due, &next->due))
			next = t;
	}
	return next;
}

static struct job *pop_job_locked(struct un_helper *h) UN_REQUIRES(h->lock, helper_role)
{
	struct job *job = h->first;

	if (job) {
		h->first = job->next;
		if (!h->first)
			h->last = &h->first;
	}
	return job;
}

static void run_job_locked(struct un_helper *h, struct job *job) UN_REQUIRES(h->lock, helper_role)
{
	helper_unlock(h);
	job->fn(job->data);
	g_free(job);
	/* The device was for the replies of this job. */
	un_transport_use_device(-1);
	helper_lock(h);
}

/*
 * @t stays in the list while it runs. Who asks for it meanwhile may have come after @fn looked, so
 * then "no more" is not the last word.
 */
static void run_tick_locked(struct un_helper *h, struct tick *t) UN_REQUIRES(h->lock, helper_role)
{
	bool again;

	t->asked = false;
	helper_unlock(h);
	again = t->fn(t->data);
	un_transport_use_device(-1);
	helper_lock(h);
	if (again || t->asked)
		set_due(t);
	else
		g_ptr_array_remove_fast(h->ticks, t);
}

static void *helper_main(void *arg)
{
	struct un_helper *h = arg;

	helper_lock(h);
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
			un_cond_wait(&h->changed, &h->lock);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (before(&now, &t->due))
			un_ignore(pthread_cond_timedwait(&h->changed, &h->lock.m, &t->due));
		else
			run_tick_locked(h, t);
	}
	helper_unlock(h);
	return NULL;
}

/* Start the thread if it does not run yet. False: there is none and will be none. */
static bool start_locked(struct un_helper *h) UN_REQUIRES(h->lock, helper_role)
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
	helper_is_ours(h);
	h->last = &h->first;
	h->ticks = g_ptr_array_new_with_free_func(g_free);
	return h;
}

bool un_helper_try_defer(struct un_helper *h, void (*fn)(void *data), void *data)
{
	struct job *job;
	bool ok;

	helper_lock(h);
	ok = start_locked(h);
	if (ok) {
		job = g_new0(struct job, 1);
		*job = (struct job){ .fn = fn, .data = data };
		*h->last = job;
		h->last = &job->next;
		pthread_cond_signal(&h->changed);
	}
	helper_unlock(h);
	return ok;
}

void un_helper_defer(struct un_helper *h, void (*fn)(void *data), void *data)
{
	if (!un_helper_try_defer(h, fn, data)) {
		/* Kept for nobody: it is the caller's still. */
		int device = un_device_of_thread();

		fn(data);
		un_transport_use_device(device);
	}
}

void un_helper_tick(struct un_helper *h, unsigned seconds, bool (*fn)(void *data), void *data)
{
	struct tick *t;

	helper_lock(h);
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
	helper_unlock(h);
}

void un_helper_stop(struct un_helper *h)
{
	bool join;

	helper_lock(h);
	join = h->started && !h->stopping;
	h->stopping = true;
	pthread_cond_signal(&h->changed);
	helper_unlock(h);
	if (join)
		pthread_join(h->thread, NULL);
}

void un_helper_free(struct un_helper *h)
{
	if (!h)
		return;
	un_helper_stop(h);
	helper_is_ours(h);
	g_ptr_array_unref(h->ticks);
	pthread_cond_destroy(&h->changed);
	un_mutex_done(&h->lock);
	g_free(h);
}
