/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "workers_i.h"

#include "device_i.h"

#include "transport/process.h"
#include "transport/wire.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/lock.h"
#include "util/log.h"

#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
/* A worker beyond the warm ones ends after so long without a request. */
#define LINGER_MS 5000u

UN_ROLE(workers_role);

struct un_workers {
	struct un_workers_config config;
	struct un_turns *turns;
	atomic_bool stopping;          /* all are to end */
	atomic_bool over;              /* no more are to be started: one has ended by an error */
	bool told_clone, told_refused; /* the keeper's: said once */
	struct un_mutex lock;
	GPtrArray *alive UN_GUARDED_BY(
		workers_role); /* struct un_worker; those that serve or are about to */
	GQueue ended UN_GUARDED_BY(workers_role); /* the same; to be joined */
	uint64_t counts[UN_TRANSPORT_OPCODES] UN_GUARDED_BY(
		workers_role); /* of those that are gone */
};
UN_LOCKS(struct un_workers, lock, workers, workers_role);

/* ---- serving ---------------------------------------------------------------------------------------- */

/* May it take long, or need others to be served meanwhile? */
static bool is_slow(uint32_t opcode)
{
	switch (opcode) {
	case UN_WIRE_FSYNC:
	case UN_WIRE_FSYNCDIR:
	case UN_WIRE_SYNCFS:
	case UN_WIRE_LSEEK:
	case UN_WIRE_FALLOCATE:
	case UN_WIRE_COPY_FILE_RANGE:
		return true;
	default:
		return false;
	}
}

static bool is_oneway(uint32_t opcode)
{
	return opcode == UN_WIRE_FORGET || opcode == UN_WIRE_BATCH_FORGET ||
	       opcode == UN_WIRE_INTERRUPT || opcode == UN_WIRE_RELEASE;
}

/* The size of a request in @buf, or -errno; -ENODEV: the connection has ended; 0: not needed any more. */
static ssize_t receive(struct un_worker *w, char *buf)
{
	struct un_workers *ws = w->all;

	while (!atomic_load_explicit(&ws->stopping, memory_order_relaxed)) {
		const struct un_wire_in *in = (const struct un_wire_in *)(const void *)buf;
		ssize_t n;

		if (!un_turn_ask(ws->turns, &w->turn))
			return 0;
		n = un_errno(read(w->fd, buf, ws->config.buf_size));
		if (n >= (ssize_t)sizeof(*in)) {
			const struct un_turn_request q = {
				.client = in->pid,
				.stream = in->opcode == UN_WIRE_READ ? in->nodeid : 0,
				.slow = is_slow(in->opcode),
				.oneway = is_oneway(in->opcode),
			};

			un_turn_taken(ws->turns, &w->turn, &q);
		}
		/* ENOENT: the caller gave up between the queue and us. */
		if (n > 0 || (n < 0 && n != -EINTR && n != -EAGAIN && n != -ENOENT))
			return n;
		un_turn_missed(ws->turns, &w->turn);
	}
	return 0;
}

static void end(struct un_workers *ws, struct un_worker *w)
{
	workers_lock(ws);
	g_ptr_array_remove_fast(ws->alive, w);
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++)
		ws->counts[op] += atomic_load_explicit(&w->counts[op], memory_order_relaxed);
	g_queue_push_tail(&ws->ended, w);
	workers_unlock(ws);
	un_turns_poke(ws->turns);
}

static void *worker_main(void *arg)
{
	struct un_worker *w = arg;
	struct un_workers *ws = w->all;
	ssize_t n;

	un_transport_use_device(w->fd);
	if (ws->config.start)
		ws->config.start(ws->config.data);

	while ((n = receive(w, w->buf)) > 0)
		ws->config.serve(ws->config.data, w->counts, w->buf, (size_t)n);
	if (ws->config.end)
		ws->config.end(ws->config.data);
	if (n < 0)
		atomic_store(&ws->over, true);
	if (n == -ENODEV || n == -ECONNABORTED)
		un_turns_stop(ws->turns); /* the others will find out as well */
	else if (n < 0)
		un_log(LOG_ERR, "a worker ends: reading /dev/fuse: %s", strerrordesc_np((int)-n));
	un_turns_leave(ws->turns, &w->turn);
	end(ws, w);
	return NULL;
}

/* ---- starting and ending ---------------------------------------------------------------------------- */

/*
 * The data of a WRITE starts on a page: the kernel copies whole pages, and a write(2) below can be
 * direct.
 */
#define BUFFER_OFFSET (PAGE - sizeof(struct un_wire_in) - sizeof(struct un_wire_write_in))

char *un_workers_buffer(const struct un_workers *ws)
{
	/* Not from the heap, which would keep it. */
	char *p = mmap(NULL, PAGE + ws->config.buf_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p + BUFFER_OFFSET;
}

void un_workers_buffer_free(const struct un_workers *ws, char *buf)
{
	if (buf)
		munmap(buf - BUFFER_OFFSET, PAGE + ws->config.buf_size);
}

static void worker_free(struct un_worker *w)
{
	const struct un_workers *ws = w->all;

	if (w->fd != ws->config.session_fd)
		un_device_close(w->fd);
	un_workers_buffer_free(ws, w->buf);
	free(w);
}

/* The first worker has the session's own descriptor. */
static int device_for(struct un_workers *ws, bool first)
{
	int fd = first || !ws->config.clone_fd ? -EBADF : un_device_clone(ws->config.session_fd);

	if (fd >= 0)
		return fd;
	if (fd != -EBADF && !ws->told_clone) {
		un_log(LOG_INFO, "threads share a device: /dev/fuse cannot be cloned: %s",
		       strerrordesc_np(-fd));
		ws->told_clone = true;
	}
	return ws->config.session_fd;
}

/* A worker tries a read where others may be faster: it must not be caught in it. */
static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static int worker_new(struct un_workers *ws, bool first, struct un_worker **ret)
{
	struct un_worker *w = NULL;

	if (posix_memalign((void **)&w, __alignof__(struct un_worker), sizeof(*w)))
		return -ENOMEM;
	memset(w, 0, sizeof(*w));
	w->all = ws;
	w->buf = un_workers_buffer(ws);
	if (!w->buf) {
		free(w);
		return -ENOMEM;
	}
	w->fd = device_for(ws, first);
	*ret = w;
	return 0;
}

static int start_one(struct un_workers *ws, bool first)
{
	struct un_worker *w;
	int r = worker_new(ws, first, &w);

	if (r < 0)
		return r;
	r = set_nonblocking(w->fd);
	if (r == 0)
		r = un_turns_join(ws->turns, &w->turn, w->fd);
	if (r < 0)
		goto fail;
	/* It may end before pthread_create(3) has returned. */
	workers_lock(ws);
	g_ptr_array_add(ws->alive, w);
	r = un_process_thread(&w->thread, worker_main, w);
	if (r < 0)
		g_ptr_array_remove_fast(ws->alive, w);
	workers_unlock(ws);
	if (r == 0)
		return 0;
	un_turns_leave(ws->turns, &w->turn);
fail:
	worker_free(w);
	return r;
}

struct un_workers *un_workers_new(const struct un_workers_config *c)
{
	struct un_workers *ws = g_new0(struct un_workers, 1);

	ws->config = *c;
	ws->turns = un_turns_new(&(struct un_turns_config){
		.warm = c->warm,
		.max = c->max,
		.spin_ns = c->spin_ns,
		.linger_ms = LINGER_MS,
		.device = c->session_fd,
	});
	un_mutex_init(&ws->lock);
	workers_is_ours(ws);
	ws->alive = g_ptr_array_new();
	g_queue_init(&ws->ended);
	return ws;
}

void un_workers_free(struct un_workers *ws)
{
	if (!ws)
		return;
	workers_is_ours(ws);
	g_ptr_array_unref(ws->alive);
	un_mutex_done(&ws->lock);
	un_turns_free(ws->turns);
	g_free(ws);
}

int un_workers_start(struct un_workers *ws)
{
	unsigned n = 0;
	int r = 0;

	for (; n < ws->config.warm && r == 0; n += r == 0)
		r = start_one(ws, n == 0);
	if (r < 0 && n)
		un_log(LOG_WARNING, "%u of %u threads started: %s", n, ws->config.warm,
		       strerrordesc_np(-r));
	return n ? 0 : r;
}

/* False: none is left. */
static bool reap(struct un_workers *ws)
{
	struct un_worker *w;
	bool left;

	for (;;) {
		workers_lock(ws);
		w = g_queue_pop_head(&ws->ended);
		left = ws->alive->len > 0;
		workers_unlock(ws);
		if (!w)
			return left;
		pthread_join(w->thread, NULL);
		worker_free(w);
	}
}

/* Where it is refused, those there are go on. */
static void start_more(struct un_workers *ws, unsigned n)
{
	for (; n > 0; n--) {
		int r = atomic_load(&ws->over) ? -ECANCELED : start_one(ws, false);

		if (r == 0)
			continue;
		un_turns_refused(ws->turns);
		if (!ws->told_refused && r != -ECANCELED)
			un_log(LOG_WARNING, "all threads are busy, and no other can be started: %s",
			       strerrordesc_np(-r));
		ws->told_refused = true;
		return;
	}
}

void un_workers_wait(struct un_workers *ws)
{
	while (reap(ws))
		start_more(ws, un_turns_watch(ws->turns));
}

void un_workers_stop(struct un_workers *ws)
{
	atomic_store(&ws->stopping, true);
	un_turns_stop(ws->turns);
}

void un_workers_counts(struct un_workers *ws, uint64_t counts[UN_TRANSPORT_OPCODES])
{
	workers_lock(ws);
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++) {
		counts[op] += ws->counts[op];
		for (guint i = 0; i < ws->alive->len; i++) {
			const struct un_worker *w = g_ptr_array_index(ws->alive, i);

			counts[op] += atomic_load_explicit(&w->counts[op], memory_order_relaxed);
		}
	}
	workers_unlock(ws);
}
