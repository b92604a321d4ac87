/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tell_i.h"

#include "device_i.h"
#include "pool_i.h"

#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

/* The thread sanitizer has one table of descriptors for all threads: callers tell by themselves there. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define ONE_TABLE true
#else
#define ONE_TABLE false
#endif

/* More than there are threads that could have something to tell. */
#define MOST 128u

static struct {
	struct un_pool *pool; /* NULL: callers tell by themselves */
	int session_fd;
	atomic_bool cannot;
} all;

static __thread int own_plus_1; /* the device of this thread; 0: none */

struct told {
	const struct iovec *iov;
	int count;
	ssize_t r; /* -errno; -EBADF: not told */
	bool done;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

/*
 * A thread begins: descriptors are its own from here on, so that it opens nothing and closes nothing of the others', and none
 * is left but the device. It must not log: a lost socket of syslog(3) would be opened anew, under a number that means
 * another one elsewhere.
 */
static void part(void *data)
{
	int fd;

	(void)data;
	if (unshare(CLONE_FILES) < 0) {
		atomic_store(&all.cannot, true);
		return;
	}
	fd = un_device_clone(all.session_fd);
	if (fd < 0)
		atomic_store(&all.cannot, true);
	if (fd > 3)
		un_ignore(close_range(3, (unsigned)fd - 1, 0));
	un_ignore(close_range(fd < 3 ? 3 : (unsigned)fd + 1, ~0u, 0));
	own_plus_1 = fd < 0 ? 0 : fd + 1;
}

static void tell(void *data)
{
	struct told *j = data;
	ssize_t r;

	do
		r = un_errno(writev(own_plus_1 - 1, j->iov, j->count));
	while (r == -EINTR);
	pthread_mutex_lock(&j->lock);
	j->r = r;
	j->done = true;
	pthread_cond_signal(&j->changed);
	pthread_mutex_unlock(&j->lock);
}

void un_tell_begin(int session_fd)
{
	/* Of none: is it known? */
	if (ONE_TABLE || close_range(~0u, ~0u, 0) < 0)
		return;
	all.session_fd = session_fd;
	all.pool = un_pool_new(&(struct un_pool_config){ .max = MOST, .start = part });
}

void un_tell_end(void)
{
	un_pool_free(all.pool);
	all.pool = NULL;
}

ssize_t un_tell(int fd, const struct iovec *iov, int count)
{
	struct told j = { .iov = iov, .count = count, .r = -EBADF };

	if (!all.pool || atomic_load_explicit(&all.cannot, memory_order_relaxed))
		return un_device_writev(fd, iov, count);
	pthread_mutex_init(&j.lock, NULL);
	pthread_cond_init(&j.changed, NULL);
	if (un_pool_run(all.pool, tell, &j)) {
		pthread_mutex_lock(&j.lock);
		while (!j.done)
			pthread_cond_wait(&j.changed, &j.lock);
		pthread_mutex_unlock(&j.lock);
	}
	pthread_cond_destroy(&j.changed);
	pthread_mutex_destroy(&j.lock);
	if (j.r == -EBADF)
		return un_device_writev(fd, iov, count);
	if (j.r < 0)
		errno = (int)-j.r;
	un_device_say(iov, j.r < 0 ? -1 : j.r);
	if (j.r < 0)
		errno = (int)-j.r;
	return j.r < 0 ? -1 : j.r;
}
