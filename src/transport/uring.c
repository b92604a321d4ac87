/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A ring belongs to one thread (SINGLE_ISSUER), and the kernel copies a request into an entry in that thread
 * while it is in io_uring_enter(2) (DEFER_TASKRUN): never while it is in a handler, whose system calls would
 * else be interrupted.
 *
 * A request that finds no entry waits in its queue until some entry of it commits; a newly registered entry does
 * not ask. Hence several reserves for each queue, and nudge() where they were used up.
 */
#include "uring-state_i.h"

#include "processor_i.h"

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
/* Requests of ours have numbers that the kernel does not use; even, as all requests of its own. */
#define NUDGE (1ull << 62)
#define FORBIDDEN " (by the sysctl kernel.io_uring_disabled, or a filter of system calls)"
/* So many requests will not block at the same time, however many processors there are. */
#define MOST_FDS 1024u

/* A device is a number. */
static _Atomic(struct un_uring *) the_one;

static struct un_entry *entry_of(int device)
{
	struct un_uring *u = atomic_load_explicit(&the_one, memory_order_acquire);
	const unsigned i = (unsigned)(UN_URING_FIRST_DEVICE - device);

	return u && device <= UN_URING_FIRST_DEVICE && i < u->n_entries ? &u->entries[i] : NULL;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

bool un_uring_answer(int device, const struct iovec *iov, int count)
{
	struct un_entry *e = entry_of(device);

	return e && un_entry_answer(e, iov, count);
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

/* False: the kernel does not have that file. */
static bool ask_for_file(struct un_uring *u, uint64_t node)
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

	return node && writev(u->config.device, iov, 2) >= 0;
}

/*
 * A request of ours from processor @qid: its answer takes along one of those that wait for an entry there. It has to be about
 * a regular file that the kernel has.
 */
static void nudge(struct un_uring *u, unsigned qid)
{
	bool ok = false;

	/* Nobody can be waiting on a processor that is not there. */
	if (un_place_on(qid))
		for (unsigned i = 0; i < u->n_queues && !ok; i++)
			ok = ask_for_file(u, u->queues[(qid + i) % u->n_queues].regular);
	un_place_anywhere();
}

/*
 * As many as there are to be, if no server is free. Nobody has looked for what waits, if there was none for a moment:
 * new ones are taken first, so if those from before are used up as well, there may have been such a moment.
 */
static void add_reserves(struct un_uring *u, unsigned qid)
{
	struct un_queue *q = &u->queues[qid];
	struct un_entry *e;
	unsigned n = 0;

	for (; un_queue_needs_reserve(q, u->config.max_threads) && (e = entry_new(u, qid)); n++) {
		q->reserves++;
		e->batch = q->batch + 1;
		un_ring_command(&u->ring, UN_WIRE_RING_REGISTER, e);
	}
	if (n > 0) {
		un_ring_submit(&u->ring);
		q->batch++;
		q->old += q->young;
		q->young = n;
	}
	if (q->dry && (q->reserves > 0 || q->busy < q->n_servers)) {
		q->dry = false;
		nudge(u, qid);
	}
}

/* One of the dispatcher's has got a request. True: there may have been a moment without any. */
static bool used(struct un_queue *q, const struct un_entry *e)
{
	const bool young = e->batch == q->batch;

	if (young)
		q->young--;
	else
		q->old--;
	return q->old == 0 && (!young || q->young == 0);
}

static void commit(struct un_uring *u, struct un_entry *e)
{
	struct un_queue *q = &u->queues[e->qid];

	e->batch = q->batch;
	q->young++;
	un_ring_command(&u->ring, UN_WIRE_RING_COMMIT_AND_FETCH, e);
}

/* What servers that are not needed any more have left. */
static void commit_given(struct un_uring *u)
{
	struct un_entry *e;

	do {
		uring_lock(u);
		e = g_queue_pop_head(&u->given);
		uring_unlock(u);
		if (e)
			commit(u, e);
	} while (e);
	un_ring_submit(&u->ring);
}

/* Nothing is to wait for this thread meanwhile. */
static void set_serving(struct un_uring *u, bool serving)
{
	uring_lock(u);
	u->serving = serving;
	uring_unlock(u);
	commit_given(u);
}

static void add_all(struct un_uring *u)
{
	for (unsigned q = 0; q < u->n_queues; q++)
		add_reserves(u, q);
}

static void answer_nudge(struct un_uring *u, struct un_entry *e)
{
	struct un_queue *q = &u->queues[e->qid];

	(void)used(q, e);
	un_server_process(u, e, u->counts);
	un_entry_wait(e);
	commit(u, e);
	un_ring_submit(&u->ring);
	if (un_ring_has(&u->ring, e))
		q->dry = true;
}

static void serve_itself(struct un_uring *u, struct un_entry *e)
{
	set_serving(u, true);
	un_server_process(u, e, u->counts);
	un_entry_wait(e);
	commit(u, e);
	set_serving(u, false);
}

/* The reserve comes first: the answer may end the connection, and what is registered at that moment is never told (6.18). */
static void arrived(struct un_uring *u, struct un_entry *e)
{
	struct un_queue *q = &u->queues[e->qid];
	int r;

	if (used(q, e))
		q->dry = true;
	q->n_servers++;
	q->busy++;
	q->reserves--;
	if (!un_ring_has(&u->ring, NULL))
		add_all(u);
	r = un_server_start(u, e);
	if (r == 0)
		return;
	q->busy--;
	q->n_servers--;
	q->reserves++;
	if (!u->told_refused)
		un_log(LOG_WARNING, "all threads are busy, and no other can be started: %s",
		       strerrordesc_np(-r));
	u->told_refused = true;
	serve_itself(u, e);
}

static void asked(struct un_uring *u)
{
	uint64_t n;

	un_ignore(read(u->ask, &n, sizeof(n)));
	un_ring_watch(&u->ring, u->ask);
	commit_given(u);
	un_servers_reap(u);
	add_all(u);
}

static int register_all(struct un_uring *u)
{
	for (unsigned q = 0; q < u->n_queues; q++) {
		add_reserves(u, q);
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
		if (e && un_entry_is_nudge(e))
			answer_nudge(u, e);
		else if (e)
			arrived(u, e);
		else
			asked(u);
	}
	if (r < 0 && !un_ring_is_end(r))
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
	u->servers = g_ptr_array_new();
	g_queue_init(&u->parked);
	g_queue_init(&u->ended);
	g_queue_init(&u->given);
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
	un_servers_join(u);
}

void un_uring_free(struct un_uring *u)
{
	if (!u)
		return;
	atomic_store(&the_one, NULL);
	uring_is_ours(u);
	g_ptr_array_unref(u->servers);
	g_queue_clear(&u->given);
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

unsigned un_uring_fds(unsigned max_threads)
{
	return (unsigned)MIN((uint64_t)un_place_count() * max_threads, MOST_FDS);
}

void un_uring_counts(struct un_uring *u, uint64_t sums[UN_TRANSPORT_OPCODES])
{
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++)
		sums[op] += atomic_load_explicit(&u->counts[op], memory_order_relaxed);
	un_servers_counts(u, sums);
}
