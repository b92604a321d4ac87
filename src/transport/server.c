/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server is a thread with an entry: serves its request, answers, waits for the next. Entries cannot be taken back from the
 * kernel, nor does one outlive the thread that has submitted it. So who is not needed any more answers by
 * way of the dispatcher, whose the entry is from then on, and waits a while for another one.
 */
#include "uring-state_i.h"

#include "transport/process.h"
#include "transport/wire.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What serves the rest may take so long, then others help. */
#define BEHIND_US 5000
/* A thread that has used much memory gives it back after so long without a request. */
#define IDLE_S 1
/* Who has had a request in hand for so long was one of many who waited for something. */
#define LONG_US 2000
/* One without an entry ends after so long. */
#define LINGER_S 5

struct un_server {
	struct un_uring *u;
	struct un_ring ring;
	struct un_entry *entry; /* NULL: parked */
	pthread_cond_t called;  /* it has one again, or is to end */
	pthread_t thread;
	unsigned cpu;
	struct un_place place;
	int64_t since;  /* us: it has had its request */
	bool nudge;     /* its request is one of ours */
	bool committed; /* the answer has left before its handler returned */
	char *rest;     /* buffer for help_with_rest(), from the first time on */
	un_transport_counts_t counts;
};

static __thread struct un_server *self;
static __thread struct un_entry *in_hand;

static struct un_queue *queue_of(const struct un_server *s)
{
	return &s->u->queues[s->entry->qid];
}

/* ---- for handlers ----------------------------------------------------------------------------------- */

void *un_uring_room(size_t size)
{
	return in_hand && in_hand->free && size <= in_hand->payload_size ? in_hand->payload : NULL;
}

void un_uring_flush(void)
{
	struct un_server *s = self;

	if (!s || s->committed || atomic_load(&s->entry->unique) != 0)
		return;
	un_entry_wait(s->entry);
	in_hand = NULL;
	queue_of(s)->busy--;
	un_ring_command(&s->ring, UN_WIRE_RING_COMMIT_AND_FETCH, s->entry);
	un_ring_submit(&s->ring);
	s->committed = true;
}

static void ask_for_reserve(struct un_uring *u, const struct un_queue *q)
{
	if (q->reserves < UN_QUEUE_RESERVES / 2 && un_queue_needs_reserve(q, u->config.max_threads))
		un_uring_ask(u);
}

bool un_uring_lend(void)
{
	struct un_server *s = self;

	if (!s)
		return false;
	queue_of(s)->lent++;
	ask_for_reserve(s->u, queue_of(s));
	return true;
}

void un_uring_unlend(void)
{
	queue_of(self)->lent--;
}

/* ---- serving ---------------------------------------------------------------------------------------- */

void un_server_process(struct un_uring *u, struct un_entry *e, un_transport_counts_t counts)
{
	size_t size = 0;
	char *buf = un_entry_request(e, &size);

	if (!buf) {
		un_log(LOG_ERR, "a malformed request is refused");
		un_entry_fail(e, -EIO);
	} else if (un_entry_is_nudge(e)) {
		un_entry_fail(e, 0);
	} else {
		in_hand = e;
		un_transport_use_device(UN_URING_FIRST_DEVICE - (int)(e - u->entries));
		u->config.process(u->config.data, counts, buf, size);
		in_hand = NULL;
	}
}

/*
 * To forget a file may take longer than to make and remove it (the last close of it writes to the disk), so
 * where one thread does not keep up, each request takes some along.
 */
static void help_with_rest(struct un_server *s)
{
	struct un_uring *u = s->u;
	const int64_t since = atomic_load_explicit(&u->rest_since, memory_order_relaxed);
	ssize_t n;

	if (since == 0 || g_get_monotonic_time() - since < BEHIND_US)
		return;
	if (!s->rest)
		s->rest = malloc(u->config.device_buffer);
	n = s->rest ? read(u->config.device, s->rest, u->config.device_buffer) : -1;
	if (n < 0)
		return;
	un_transport_use_device(u->config.device);
	u->config.process(u->config.data, s->counts, s->rest, (size_t)n);
}

/* The answer may be another thread's to give. */
static void wait_for_answer(struct un_entry *e)
{
	const bool lent = atomic_load(&e->unique) != 0 && un_uring_lend();

	un_entry_wait(e);
	if (lent)
		un_uring_unlend();
}

static void answer(struct un_server *s)
{
	struct un_yield *y = &queue_of(s)->yield;
	int64_t since;

	un_ring_command(&s->ring, UN_WIRE_RING_COMMIT_AND_FETCH, s->entry);
	if (s->nudge) {
		un_ring_submit(&s->ring);
		if (un_ring_has(&s->ring, s->entry)) {
			queue_of(s)->dry = true;
			un_uring_ask(s->u);
		}
		return;
	}
	/* Where the thread is on the queue's processor the caller is to stay there as well. */
	since = s->place.bound ? un_yield_begin(y) : 0;
	if (since == 0)
		return; /* it leaves together with the wait for the next */
	un_ring_submit(&s->ring);
	un_yield_end(y, since);
}

/* For the next request; false: there will be none. */
static bool wait_for_request(struct un_server *s)
{
	struct un_entry *e = s->entry;
	struct un_entry *which;
	int r;

	do {
		r = un_ring_wait(&s->ring, e->large ? IDLE_S : 0, &which);
		if (r == -ETIME)
			un_entry_trim(e);
	} while (r == -ETIME || r == -EINTR || r == -EAGAIN);
	if (r < 0 && !un_ring_is_end(r))
		un_log(LOG_ERR, "a thread ends: io_uring: %s", strerrordesc_np(-r));
	if (r < 0 || which != e)
		return false;
	queue_of(s)->busy++;
	ask_for_reserve(s->u, queue_of(s));
	return true;
}

/* ---- threads that are not needed -------------------------------------------------------------------- */

/* Others of its queue are free, and this one was one of those that many slow requests took. @busy: those that are not. */
static bool is_surplus(const struct un_server *s, unsigned busy)
{
	return !s->nudge && busy + 1 < queue_of(s)->n_servers &&
	       g_get_monotonic_time() - s->since >= LONG_US;
}

/* The answered entry becomes the dispatcher's. False: it is otherwise engaged. */
static bool give(struct un_server *s)
{
	struct un_uring *u = s->u;
	struct un_queue *q = queue_of(s);
	bool ok;

	uring_lock(u);
	ok = !u->serving && !u->over;
	if (ok) {
		q->n_servers--;
		q->reserves++;
		g_queue_push_tail(&u->given, s->entry);
		s->entry = NULL;
		g_queue_push_head(&u->parked, s);
	}
	uring_unlock(u);
	if (ok)
		un_uring_ask(u);
	return ok;
}

/* Until there is an entry with a request. False: it is to end. */
static bool park(struct un_server *s)
{
	struct un_uring *u = s->u;
	struct timespec until;
	bool ok;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LINGER_S;
	uring_lock(u);
	while (!s->entry && !u->over &&
	       pthread_cond_timedwait(&s->called, &u->lock.m, &until) != ETIMEDOUT)
		;
	ok = s->entry != NULL;
	if (!ok)
		g_queue_remove(&u->parked, s);
	uring_unlock(u);
	return ok;
}

/* One that is parked takes over the request in @e. */
static bool call_parked(struct un_uring *u, struct un_entry *e)
{
	struct un_server *s;

	uring_lock(u);
	s = g_queue_pop_head(&u->parked);
	if (s) {
		s->entry = e;
		pthread_cond_signal(&s->called);
	}
	uring_unlock(u);
	return s != NULL;
}

/* ---- threads ---------------------------------------------------------------------------------------- */

/* Answer, and wait for the next request; false: there will be none. */
static bool next(struct un_server *s)
{
	if (!s->committed) {
		wait_for_answer(s->entry);
		help_with_rest(s);
		un_queue_knows(queue_of(s), s->entry);
		/* First not busy, then the look: of several that are done at the same time one stays. */
		if (is_surplus(s, --queue_of(s)->busy) && give(s))
			return park(s);
		answer(s);
	}
	s->committed = false;
	return wait_for_request(s);
}

static void take_place(struct un_server *s)
{
	if (s->cpu != s->entry->qid && s->place.bound) {
		un_place_anywhere();
		s->place.bound = false;
	}
	s->cpu = s->entry->qid;
	un_place_for(&s->place, s->cpu, un_entry_data_size(s->entry));
}

static void *server_main(void *arg)
{
	struct un_server *s = arg;
	struct un_uring *u = s->u;

	self = s;
	if (un_ring_enable(&s->ring) < 0)
		un_log(LOG_ERR, "a thread has no io_uring");
	un_ring_watch(&s->ring, u->stop);
	u->config.thread_start(u->config.data);
	do {
		s->since = g_get_monotonic_time();
		s->nudge = un_entry_is_nudge(s->entry);
		take_place(s);
		un_server_process(u, s->entry, s->counts);
	} while (next(s));
	u->config.thread_end(u->config.data);
	uring_lock(u);
	g_queue_push_tail(&u->ended, s);
	uring_unlock(u);
	un_uring_ask(u);
	return NULL;
}

static void server_free(struct un_server *s)
{
	un_ring_close(&s->ring);
	pthread_cond_destroy(&s->called);
	free(s->rest);
	free(s);
}

int un_server_start(struct un_uring *u, struct un_entry *e)
{
	struct un_server *s = NULL;
	int r;

	if (call_parked(u, e))
		return 0;
	if (posix_memalign((void **)&s, 128, sizeof(*s)))
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	s->u = u;
	s->entry = e;
	r = un_ring_open(&s->ring, u->config.device, 4);
	if (r < 0) {
		free(s);
		return r;
	}
	un_cond_init(&s->called);
	uring_lock(u);
	r = un_process_thread(&s->thread, server_main, s);
	if (r == 0)
		g_ptr_array_add(u->servers, s);
	uring_unlock(u);
	if (r < 0)
		server_free(s);
	return r;
}

static void sum(uint64_t sums[UN_TRANSPORT_OPCODES], un_transport_counts_t counts)
{
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++)
		sums[op] += atomic_load_explicit(&counts[op], memory_order_relaxed);
}

void un_servers_reap(struct un_uring *u)
{
	struct un_server *s;

	for (;;) {
		uring_lock(u);
		s = g_queue_pop_head(&u->ended);
		if (s) {
			g_ptr_array_remove_fast(u->servers, s);
			sum(u->gone, s->counts);
		}
		uring_unlock(u);
		if (!s)
			return;
		pthread_join(s->thread, NULL);
		server_free(s);
	}
}

void un_servers_join(struct un_uring *u)
{
	struct un_server *s;

	uring_lock(u);
	u->over = true;
	for (guint i = 0; i < u->servers->len; i++)
		pthread_cond_signal(
			&((struct un_server *)g_ptr_array_index(u->servers, i))->called);
	while (u->servers->len > 0) {
		s = g_ptr_array_index(u->servers, 0);
		uring_unlock(u);
		pthread_join(s->thread, NULL);
		uring_lock(u);
		g_queue_remove(&u->ended, s);
		g_ptr_array_remove_fast(u->servers, s);
		sum(u->gone, s->counts);
		server_free(s);
	}
	uring_unlock(u);
}

void un_servers_counts(struct un_uring *u, uint64_t sums[UN_TRANSPORT_OPCODES])
{
	uring_lock(u);
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++)
		sums[op] += u->gone[op];
	for (guint i = 0; i < u->servers->len; i++)
		sum(sums, ((struct un_server *)g_ptr_array_index(u->servers, i))->counts);
	uring_unlock(u);
}
