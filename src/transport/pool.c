/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One queue, and threads that take from it. No job waits behind one that runs, unless the pool is full:
 * each job in the queue has an idle or a starting thread.
 */
#include "pool_i.h"

#include "transport/process.h"
#include "transport/transport.h"
#include "util/lock.h"
#include "util/log.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <time.h>

/* So long an idle thread waits for the next job. */
#define LINGER_SECONDS 5

struct job {
	void (*fn)(void *data);
	void *data;
};

UN_ROLE(pool_role);

struct un_pool {
	struct un_pool_config config;
	struct un_mutex lock;
	pthread_cond_t more;                   /* a job, or the end */
	pthread_cond_t fewer;                  /* a thread has ended */
	GQueue jobs UN_GUARDED_BY(pool_role);  /* struct job */
	GQueue ended UN_GUARDED_BY(pool_role); /* pthread_t, to be joined */
	unsigned n UN_GUARDED_BY(pool_role);   /* threads that have not ended */
	unsigned free
		UN_GUARDED_BY(pool_role); /* of these, without a job: they will look at the queue */
	bool stopping UN_GUARDED_BY(pool_role);
	bool told UN_GUARDED_BY(pool_role); /* that no thread can be started */
};
UN_LOCKS(struct un_pool, lock, pool, pool_role);

struct un_pool *un_pool_new(const struct un_pool_config *c)
{
	struct un_pool *p = g_new0(struct un_pool, 1);
	pthread_condattr_t attr;

	p->config = *c;
	un_mutex_init(&p->lock);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->more, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&p->fewer, NULL);
	pool_is_ours(p);
	g_queue_init(&p->jobs);
	g_queue_init(&p->ended);
	return p;
}

/* Those have left the lock for good, or are about to: this does not wait for long. */
static void join_ended_locked(struct un_pool *p) UN_REQUIRES(p->lock, pool_role)
{
	pthread_t *thread;

	while ((thread = g_queue_pop_head(&p->ended))) {
		pool_unlock(p);
		pthread_join(*thread, NULL);
		g_free(thread);
		pool_lock(p);
	}
}

/* The next job; NULL: none came, and the thread is to end. */
static struct job *next_locked(struct un_pool *p) UN_REQUIRES(p->lock, pool_role)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LINGER_SECONDS;
	while (g_queue_is_empty(&p->jobs) && !p->stopping)
		if (pthread_cond_timedwait(&p->more, &p->lock.m, &until) == ETIMEDOUT)
			break;
	return g_queue_pop_head(&p->jobs);
}

static void *thread_main(void *arg)
{
	struct un_pool *p = arg;
	pthread_t *self = g_new(pthread_t, 1);
	struct job *job;

	*self = pthread_self();
	if (p->config.start)
		p->config.start(p->config.data);
	pool_lock(p);
	while ((job = next_locked(p))) {
		p->free--;
		pool_unlock(p);
		job->fn(job->data);
		g_free(job);
		/* The device was for the replies of this job. */
		un_transport_use_device(-1);
		pool_lock(p);
		p->free++;
	}
	p->free--;
	p->n--;
	g_queue_push_tail(&p->ended, self);
	pthread_cond_broadcast(&p->fewer);
	pool_unlock(p);
	return NULL;
}

static bool start_locked(struct un_pool *p) UN_REQUIRES(p->lock, pool_role)
{
	pthread_t thread;
	int r;

	join_ended_locked(p);
	/* Looked at again: the lock was let go. */
	if (p->stopping || p->n >= p->config.max)
		return false;
	r = un_process_thread(&thread, thread_main, p);
	if (r < 0) {
		if (!p->told)
			un_log(LOG_WARNING, "no more than %u threads can be started: %s", p->n,
			       strerrordesc_np(-r));
		p->told = true;
		return false;
	}
	p->n++;
	p->free++;
	return true;
}

static bool add(struct un_pool *p, void (*fn)(void *data), void *data, bool queue)
{
	struct job *job;
	bool ok;

	pool_lock(p);
	ok = !p->stopping && (p->free > p->jobs.length || start_locked(p));
	/* In a queue that nobody looks at, it would wait for ever. */
	ok = ok || (queue && !p->stopping && p->n > 0);
	if (ok) {
		job = g_new(struct job, 1);
		*job = (struct job){ .fn = fn, .data = data };
		g_queue_push_tail(&p->jobs, job);
		pthread_cond_signal(&p->more);
	}
	pool_unlock(p);
	return ok;
}

bool un_pool_run(struct un_pool *p, void (*fn)(void *data), void *data)
{
	return add(p, fn, data, false);
}

bool un_pool_queue(struct un_pool *p, void (*fn)(void *data), void *data)
{
	return add(p, fn, data, true);
}

void un_pool_stop(struct un_pool *p)
{
	pool_lock(p);
	p->stopping = true;
	pthread_cond_broadcast(&p->more);
	while (p->n > 0)
		un_cond_wait(&p->fewer, &p->lock);
	join_ended_locked(p);
	pool_unlock(p);
}

void un_pool_free(struct un_pool *p)
{
	if (!p)
		return;
	un_pool_stop(p);
	pthread_cond_destroy(&p->fewer);
	pthread_cond_destroy(&p->more);
	un_mutex_done(&p->lock);
	g_free(p);
}
