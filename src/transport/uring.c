/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A ring belongs to one thread (SINGLE_ISSUER), and the kernel copies a request into an entry in that thread
 * while it is in io_uring_enter(2) (DEFER_TASKRUN): never while it is in a handler, whose system calls would
 * else be interrupted.
 *
 * A request that finds no entry waits in its queue until some entry of it commits; a newly registered entry does
 * not ask. Hence several reserves for each queue, and nudge() where they were used up.
 */
#include "uring_i.h"

#include "entry_i.h"
#include "processor_i.h"
#include "queue_i.h"
#include "ring_i.h"

#include "transport/process.h"
#include "transport/wire.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/lock.h"
#include "util/log.h"

#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

/* So long FORGETs gather before they are taken. */
#define GATHER_MS 4
/* So long they may take, then others help. */
#define BEHIND_US 5000
/* A thread that has used much memory gives it back after so long without a request. */
#define IDLE_S 1
/* Requests of ours have numbers that the kernel does not use; even, as all requests of its own. */
#define NUDGE (1ull << 62)
#define FORBIDDEN " (by the sysctl kernel.io_uring_disabled, or a filter of system calls)"
/* Devices below this one are entries. */
#define FIRST_DEVICE (-2)

UN_ROLE(uring_role);

struct server {
	struct un_uring *u;
	struct un_ring ring;
	struct un_entry *entry;
	pthread_t thread;
	struct un_place place;
	bool committed; /* the answer has left before its handler returned */
	char *rest;     /* buffer for help_with_rest(), from the first time on */
	un_transport_counts_t counts;
};

struct un_uring {
	struct un_uring_config config;
	unsigned n_queues, max_entries;
	struct un_queue *queues;
	struct un_entry *entries;
	_Atomic unsigned n_entries;
	int stop; /* eventfd, readable when all are to end */
	int ask;  /* eventfd: a queue needs a reserve */
	bool started;
	struct un_ring ring; /* the dispatcher's */
	pthread_t dispatcher;
	sem_t registered;
	bool told_refused; /* the dispatcher's: said once */
	int result;
	uint64_t nudges; /* so far */
	/* When the thread that serves the rest began with what it is at, us; 0: it waits. */
	_Atomic int64_t rest_since;
	un_transport_counts_t counts;
	struct un_mutex lock;
	GPtrArray *servers UN_GUARDED_BY(uring_role); /* grows only; the dispatcher adds */
};
UN_LOCKS(struct un_uring, lock, uring, uring_role);

/* A device is a number. */
static _Atomic(struct un_uring *) the_one;
static __thread struct server *self;
static __thread struct un_entry *in_hand;

static struct un_entry *entry_of(int device)
{
	struct un_uring *u = atomic_load_explicit(&the_one, memory_order_acquire);
	const unsigned i = (unsigned)(FIRST_DEVICE - device);

	return u && device <= FIRST_DEVICE && i < u->n_entries ? &u->entries[i] : NULL;
}

static int device_of(const struct un_uring *u, const struct un_entry *e)
{
	return FIRST_DEVICE - (int)(e - u->entries);
}

/* ---- answers ---------------------------------------------------------------------------------------- */

bool un_uring_answer(int device, const struct iovec *iov, int count)
{
	struct un_entry *e = entry_of(device);

	return e && un_entry_answer(e, iov, count);
}

void *un_uring_room(size_t size)
{
	return in_hand && in_hand->free && size <= in_hand->payload_size ? in_hand->payload : NULL;
}

static void commit(struct un_ring *ring, struct un_entry *e)
{
	un_ring_command(ring, UN_WIRE_RING_COMMIT_AND_FETCH, e);
}

void un_uring_flush(void)
{
	struct server *s = self;

	if (!s || s->committed || atomic_load(&s->entry->unique) != 0)
		return;
	un_entry_wait(s->entry);
	in_hand = NULL;
	s->u->queues[s->entry->qid].busy--;
	commit(&s->ring, s->entry);
	un_ring_submit(&s->ring);
	s->committed = true;
}

static void ask_for_reserve(struct un_uring *u, const struct un_queue *q)
{
	const uint64_t one = 1;

	if (q->reserves < UN_QUEUE_RESERVES / 2 && un_queue_needs_reserve(q, u->config.max_threads))
		un_ignore(write(u->ask, &one, sizeof(one)));
}

bool un_uring_lend(void)
{
	struct server *s = self;
	struct un_queue *q;

	if (!s)
		return false;
	q = &s->u->queues[s->entry->qid];
	q->lent++;
	ask_for_reserve(s->u, q);
	return true;
}

void un_uring_unlend(void)
{
	self->u->queues[self->entry->qid].lent--;
}

/* Process what the kernel has left in @e. */
static void serve(struct un_uring *u, struct un_entry *e, un_transport_counts_t counts)
{
	size_t size = 0;
	char *buf = un_entry_request(e, &size);

	if (!buf) {
		un_log(LOG_ERR, "a malformed request is refused");
		un_entry_fail(e, -EIO);
	} else if (((struct un_wire_in *)(void *)buf)->opcode == UN_WIRE_NOTIFY_REPLY) {
		un_entry_fail(e, 0);
	} else {
		in_hand = e;
		un_transport_use_device(device_of(u, e));
		u->config.process(u->config.data, counts, buf, size);
		in_hand = NULL;
	}
}

/* ---- servers ---------------------------------------------------------------------------------------- */

static bool is_end(int r)
{
	return r == -ENOTCONN || r == -ECONNABORTED || r == -ECANCELED || r == -ENODEV;
}

/*
 * To forget a file may take longer than to make and remove it (the last close of it writes to the disk), so
 * where one thread does not keep up, each request takes some along.
 */
static void help_with_rest(struct server *s)
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

/* Where the thread is on the queue's processor the caller is to stay there as well. */
static void answer(struct server *s)
{
	struct un_yield *y = &s->u->queues[s->entry->qid].yield;
	int64_t since;

	commit(&s->ring, s->entry);
	since = s->place.bound ? un_yield_begin(y) : 0;
	if (since == 0)
		return; /* it leaves together with the wait for the next */
	un_ring_submit(&s->ring);
	un_yield_end(y, since);
}

/* Answer, and wait for the next request; false: there will be none. */
static bool next(struct server *s)
{
	struct un_entry *e = s->entry;
	struct un_queue *q = &s->u->queues[e->qid];
	struct un_entry *which;
	int r;

	if (!s->committed) {
		wait_for_answer(e);
		help_with_rest(s);
		q->busy--;
		answer(s);
	}
	s->committed = false;
	do {
		r = un_ring_wait(&s->ring, e->large ? IDLE_S : 0, &which);
		if (r == -ETIME)
			un_entry_trim(e);
	} while (r == -ETIME || r == -EINTR || r == -EAGAIN);
	if (r < 0 && !is_end(r))
		un_log(LOG_ERR, "a thread ends: io_uring: %s", strerrordesc_np(-r));
	if (r < 0 || which != e)
		return false;
	q->busy++;
	ask_for_reserve(s->u, q);
	return true;
}

static void *server_main(void *arg)
{
	struct server *s = arg;
	struct un_uring *u = s->u;

	self = s;
	if (un_ring_enable(&s->ring) < 0)
		un_log(LOG_ERR, "a thread has no io_uring");
	un_ring_watch(&s->ring, u->stop);
	u->config.thread_start(u->config.data);
	do {
		un_place_for(&s->place, s->entry->qid, un_entry_data_size(s->entry));
		serve(u, s->entry, s->counts);
	} while (next(s));
	u->config.thread_end(u->config.data);
	return NULL;
}

static void server_free(struct server *s)
{
	un_ring_close(&s->ring);
	free(s->rest);
	free(s);
}

/* A thread whose first request is the one in @e. -errno: there is none, and @e is as it was. */
static int server_start(struct un_uring *u, struct un_entry *e)
{
	struct server *s = NULL;
	int r;

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
	r = un_process_thread(&s->thread, server_main, s);
	if (r < 0) {
		server_free(s);
		return r;
	}
	uring_lock(u);
	g_ptr_array_add(u->servers, s);
	uring_unlock(u);
	return 0;
}

/* ---- the dispatcher --------------------------------------------------------------------------------- */

static struct un_entry *entry_new(struct un_uring *u, unsigned qid)
{
	struct un_entry *e = &u->entries[u->n_entries];

	if (u->n_entries == u->max_entries ||
	    !un_entry_init(e, qid, un_entry_payload_size(u->config.max_write)))
		return NULL;
	atomic_fetch_add_explicit(&u->n_entries, 1, memory_order_release);
	return e;
}

/*
 * A request from processor @qid, which takes along those that wait for an entry there. @node is of a regular file that
 * the kernel has: others are refused.
 */
static void nudge(struct un_uring *u, unsigned qid, uint64_t node)
{
	struct un_wire_retrieve body = {
		.notify_unique = NUDGE + 2 * u->nudges++,
		.nodeid = node,
	};
	struct un_wire_out out = {
		.len = sizeof(out) + sizeof(body),
		.error = UN_WIRE_NOTIFY_RETRIEVE,
	};
	const struct iovec iov[2] = { { &out, sizeof(out) }, { &body, sizeof(body) } };

	/* Nobody can be waiting on a processor that is not there. */
	if (un_place_on(qid))
		un_ignore(writev(u->config.device, iov, 2));
	un_place_anywhere();
}

/* As many as there are to be, if no server is free. @node: as for nudge(), or 0. */
static void add_reserves(struct un_uring *u, unsigned qid, uint64_t node)
{
	struct un_queue *q = &u->queues[qid];
	const unsigned had = q->reserves;
	struct un_entry *e;

	while (un_queue_needs_reserve(q, u->config.max_threads) && (e = entry_new(u, qid))) {
		q->reserves++;
		un_ring_command(&u->ring, UN_WIRE_RING_REGISTER, e);
	}
	if (q->reserves == had)
		return;
	un_ring_submit(&u->ring);
	if (node && had == 0)
		nudge(u, qid, node);
}

/* Of the regular file that the request is about, if it can be about no other. */
static uint64_t regular_node(const struct un_entry *e)
{
	const struct un_wire_in *in = &e->ring->head.in;

	return un_entry_data_size(e) > 0 || in->opcode == UN_WIRE_FALLOCATE ? in->nodeid : 0;
}

static bool is_nudge(const struct un_entry *e)
{
	return e->ring->head.in.opcode == UN_WIRE_NOTIFY_REPLY;
}

/* The reserve comes first: the answer may end the connection, and what is registered at that moment is never told (6.18). */
static void arrived(struct un_uring *u, struct un_entry *e)
{
	struct un_queue *q = &u->queues[e->qid];
	int r;

	if (!is_nudge(e)) {
		q->reserves--;
		q->n_servers++;
		q->busy++;
		add_reserves(u, e->qid, regular_node(e));
		r = server_start(u, e);
		if (r == 0)
			return;
		q->busy--;
		q->n_servers--;
		q->reserves++;
		if (!u->told_refused)
			un_log(LOG_WARNING, "all threads are busy, and no other can be started: %s",
			       strerrordesc_np(-r));
		u->told_refused = true;
	}
	serve(u, e, u->counts);
	un_entry_wait(e);
	commit(&u->ring, e);
}

/* Threads wait for others: there have to be others. */
static void asked(struct un_uring *u)
{
	uint64_t n;

	un_ignore(read(u->ask, &n, sizeof(n)));
	un_ring_watch(&u->ring, u->ask);
	for (unsigned q = 0; q < u->n_queues; q++)
		add_reserves(u, q, 0);
}

static int register_all(struct un_uring *u)
{
	for (unsigned q = 0; q < u->n_queues; q++) {
		add_reserves(u, q, 0);
		if (u->queues[q].reserves == 0)
			return -ENOMEM;
	}
	return un_ring_failed(&u->ring);
}

/*
 * The kernel has agreed to io_uring and waits for it: a registration that fails tells it that there will be
 * none.
 */
static void refuse(struct un_uring *u)
{
	struct un_entry nobody = { .qid = UINT16_MAX };

	un_ring_command(&u->ring, UN_WIRE_RING_REGISTER, &nobody);
	un_ring_submit(&u->ring);
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static void *dispatcher_main(void *arg)
{
	struct un_uring *u = arg;
	struct un_entry *e;
	int r = un_ring_enable(&u->ring);

	if (r == 0)
		r = register_all(u);
	if (r < 0)
		refuse(u);
	u->result = r;
	sem_post(&u->registered);
	if (r < 0)
		return NULL;

	un_ring_watch(&u->ring, u->stop);
	un_ring_watch(&u->ring, u->ask);
	u->config.thread_start(u->config.data);
	for (;;) {
		r = un_ring_wait(&u->ring, 0, &e);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r < 0 || (!e && is_readable(u->stop)))
			break;
		if (e)
			arrived(u, e);
		else
			asked(u);
	}
	if (r < 0 && !is_end(r))
		un_log(LOG_ERR, "io_uring fails: %s", strerrordesc_np(-r));
	u->config.thread_end(u->config.data);
	return NULL;
}

/* ---- from outside ----------------------------------------------------------------------------------- */

struct un_uring *un_uring_new(const struct un_uring_config *config, char **ret_why)
{
	const unsigned n = un_place_count();
	struct un_uring *u;
	int r;

	if (n == 0) {
		*ret_why = g_strdup("/sys does not tell the number of processors");
		return NULL;
	}
	u = g_new0(struct un_uring, 1);
	u->config = *config;
	u->n_queues = n;
	un_yield_find_out();
	/* Lent ones do not count: there may be as many more. */
	u->max_entries = n * (UN_QUEUE_RESERVES + 4 * config->max_threads);
	u->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	u->ask = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = un_ring_open(&u->ring, config->device, n * UN_QUEUE_RESERVES + 4);
	if (r < 0 || u->stop < 0 || u->ask < 0) {
		*ret_why = r < 0 ? g_strdup_printf("io_uring_setup: %s%s", strerrordesc_np(-r),
						   r == -EPERM ? FORBIDDEN : "")
				 : g_strdup("no eventfd can be had");
		if (r == 0)
			un_ring_close(&u->ring);
		un_close(u->stop);
		un_close(u->ask);
		g_free(u);
		return NULL;
	}
	u->queues = g_new0(struct un_queue, n);
	u->entries = g_new0(struct un_entry, u->max_entries);
	un_mutex_init(&u->lock);
	sem_init(&u->registered, 0, 0);
	uring_is_ours(u);
	u->servers = g_ptr_array_new_with_free_func((GDestroyNotify)server_free);
	atomic_store_explicit(&the_one, u, memory_order_release);
	return u;
}

int un_uring_start(struct un_uring *u)
{
	int r = un_process_thread(&u->dispatcher, dispatcher_main, u);

	if (r < 0) {
		if (un_ring_enable(&u->ring) == 0)
			refuse(u);
		return r;
	}
	while (sem_wait(&u->registered) < 0)
		;
	if (u->result < 0)
		pthread_join(u->dispatcher, NULL);
	u->started = u->result == 0;
	return u->result;
}

int un_uring_serve_rest(struct un_uring *u, un_transport_counts_t counts, char *buf)
{
	const size_t size = u->config.device_buffer;

	/* Others may take what this thread has been woken for. */
	un_ignore(fcntl(u->config.device, F_SETFL, fcntl(u->config.device, F_GETFL) | O_NONBLOCK));
	for (;;) {
		struct pollfd p[2] = { { .fd = u->stop, .events = POLLIN },
				       { .fd = u->config.device, .events = POLLIN } };
		ssize_t n;

		un_ignore(poll(p, 2, -1));
		atomic_store(&u->rest_since, g_get_monotonic_time());
		do {
			n = un_errno(read(u->config.device, buf, size));
			if (n >= 0)
				u->config.process(u->config.data, counts, buf, (size_t)n);
		} while (n >= 0 || n == -EINTR || n == -ENOENT);
		atomic_store(&u->rest_since, 0);
		if (n != -EAGAIN) {
			/* All know by themselves, if only the kernel has told each. */
			un_uring_stop(u);
			return (int)n;
		}
		if (poll(p, 1, GATHER_MS) > 0)
			return -ENODEV;
	}
}

void un_uring_stop(struct un_uring *u)
{
	const uint64_t one = 1;

	un_ignore(write(u->stop, &one, sizeof(one)));
}

void un_uring_join(struct un_uring *u)
{
	if (!u->started)
		return;
	pthread_join(u->dispatcher, NULL);
	u->started = false;
	uring_is_ours(u);
	for (guint i = 0; i < u->servers->len; i++)
		pthread_join(((struct server *)g_ptr_array_index(u->servers, i))->thread, NULL);
}

void un_uring_free(struct un_uring *u)
{
	if (!u)
		return;
	atomic_store(&the_one, NULL);
	uring_is_ours(u);
	g_ptr_array_unref(u->servers);
	un_ring_close(&u->ring);
	for (unsigned i = 0; i < u->n_entries; i++)
		un_entry_done(&u->entries[i]);
	un_close(u->stop);
	un_close(u->ask);
	sem_destroy(&u->registered);
	un_mutex_done(&u->lock);
	g_free(u->entries);
	g_free(u->queues);
	g_free(u);
}

static void sum(uint64_t sums[UN_TRANSPORT_OPCODES], un_transport_counts_t counts)
{
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++)
		sums[op] += atomic_load_explicit(&counts[op], memory_order_relaxed);
}

void un_uring_counts(struct un_uring *u, uint64_t sums[UN_TRANSPORT_OPCODES])
{
	sum(sums, u->counts);
	uring_lock(u);
	for (guint i = 0; i < u->servers->len; i++)
		sum(sums, ((struct server *)g_ptr_array_index(u->servers, i))->counts);
	uring_unlock(u);
}
