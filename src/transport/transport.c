/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers that read /dev/fuse, and the ways for an answer to leave.
 *
 *   read() -> raw fields -> TMPFILE, STATX: config ops        -> un_raw_reply() --\
 *                        \-> the rest: fuse_session_process_buf() -> reply_writev() -> device
 *
 * (1) The kernel keeps a request with the device (the clone) that read it: device.c.
 * (2) libfuse edits a request in place: what it drops is read before it sees the request.
 * (3) INTERRUPT never reaches libfuse, which would answer it from within another request. No
 *     handler can be interrupted, and none has to be.
 * (4) No splice: without splice functions in the custom io libfuse copies.
 */
#include "transport_i.h"

#include "device_i.h"
#include "helper_i.h"
#include "offer_i.h"
#include "turns_i.h"
#include "uring_i.h"

#include "transport/process.h"
#include "transport/wire.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u
/* A SETXATTR needs this much whatever max_write is: a value and a name. */
#define MIN_BUFFER (128 * 1024u)
/* For each processor, with io_uring. */
#define MAX_SERVERS 32u

/* Written by its own thread only; on cache lines of its own. */
struct worker {
	struct un_transport *t;
	int fd; /* the session's, or a clone of our own */
	char *buf;
	pthread_t thread;
	struct un_turn turn;
	un_transport_counts_t counts;
} __attribute__((aligned(128)));

struct un_transport {
	struct fuse_session *se;
	int fd; /* the session's */
	struct un_transport_config config;
	struct un_helper *helper;
	struct un_helper *waiting; /* the same, for what waits for locks in the kernel */
	size_t buf_size;
	unsigned n_workers, n_started;
	struct worker **workers;
	struct un_turns *turns;
	struct un_offer offer; /* of io_uring */
	atomic_bool stopping;
	bool setxattr_ext; /* granted at our request: long on the wire, short for libfuse */
	bool can_expire;   /* INVAL_ENTRY knows UN_WIRE_EXPIRE_ONLY */
	bool init_answered;
	int init_error;
};

struct un_raw_req {
	uint64_t unique;
	int device;
};

static __thread struct {
	struct un_raw raw;
	/* INIT in hand */
	struct un_transport *init;
	struct un_wire_flags offered;
} self;

const struct un_raw *un_transport_raw(void)
{
	return &self.raw;
}

/* Answering. */

static void complete_init(struct un_transport *t, const struct un_wire_out *out, void *body,
			  size_t size)
{
	const struct un_wire_flags wanted = {
		t->config.init_flags,
		t->config.init_flags2 | (t->offer.uring ? UN_WIRE_OVER_IO_URING : 0)
	};
	struct un_wire_flags added;

	t->init_answered = true;
	t->init_error = out->error;
	if (out->error)
		return;
	added = un_wire_patch_init(body, size, self.offered, wanted, t->config.max_write);
	t->can_expire = self.offered.flags2 & UN_WIRE_HAS_EXPIRE_ONLY;
	t->setxattr_ext = added.flags & UN_WIRE_SETXATTR_EXT;
	t->offer.granted = added.flags2 & UN_WIRE_OVER_IO_URING;
	un_debug("INIT: offered %#x %#x, added %#x %#x", self.offered.flags, self.offered.flags2,
		 added.flags, added.flags2);
}

/* To where the request came from that @device stands for; else, if @device is none, to @fd. */
static ssize_t send_answer(int device, int fd, const struct iovec *iov, int count)
{
	ssize_t size = 0;

	if (!un_uring_answer(device, iov, count))
		return un_device_writev(device >= 0 ? device : fd, iov, count);
	for (int i = 0; i < count; i++)
		size += (ssize_t)iov[i].iov_len;
	un_device_say(iov, size);
	return size;
}

/* @fd is always the session's: libfuse does not know our devices. */
static ssize_t reply_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct un_wire_out *out = iov[0].iov_base;
	const bool init = self.init && out->unique == self.raw.unique;
	ssize_t r;

	if (init)
		complete_init(self.init, out, count > 1 ? iov[1].iov_base : NULL,
			      count > 1 ? iov[1].iov_len : 0);
	r = send_answer(un_transport_keep_device(), fd, iov, count);
	if (init && r < 0)
		self.init->init_error = -errno;
	return r;
}

/* libfuse wants one. We read by ourselves. */
static ssize_t refuse_read(int fd, void *buf, size_t size, void *userdata)
{
	errno = EIO;
	return -1;
}

void un_raw_reply(struct un_raw_req *req, int neg_errno, const void *payload, size_t size)
{
	struct un_wire_out out = {
		.len = (uint32_t)(sizeof(out) + (neg_errno ? 0 : size)),
		.error = neg_errno,
		.unique = req->unique,
	};
	struct iovec iov[2] = {
		{ &out, sizeof(out) },
		/* writev only reads */
		{ (void *)(uintptr_t)payload, size },
	};

	if (send_answer(req->device, -1, iov, !neg_errno && size ? 2 : 1) < 0 && errno != ENOENT &&
	    errno != ENODEV)
		un_log(LOG_ERR, "an answer cannot be written: %s", strerrordesc_np(errno));
	g_free(req);
}

/* Receiving. */

static void count_request(un_transport_counts_t counts, uint32_t opcode)
{
	_Atomic uint64_t *n;

	if (opcode >= UN_TRANSPORT_OPCODES)
		return;
	/* One writer: no locked instruction needed. */
	n = &counts[opcode];
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static void debug_request(const struct un_raw *raw, size_t size)
{
	const char *name = un_wire_opcode_name(raw->opcode);

	un_log(LOG_DEBUG, "%s(%u) %" PRIu64 " node %" PRIu64 ", uid %u pid %u, %zu bytes",
	       name ? name : "?", raw->opcode, raw->unique, raw->nodeid, raw->uid, raw->pid, size);
}

/* True if the request was for the config's ops. */
static bool take_raw(struct un_transport *t, const char *buf, size_t size)
{
	const struct un_transport_ops *ops = t->config.ops;
	const char *body = buf + sizeof(struct un_wire_in);
	struct un_raw_req *req;

	if (!ops || !((self.raw.opcode == UN_WIRE_TMPFILE && ops->tmpfile) ||
		      (self.raw.opcode == UN_WIRE_STATX && ops->statx)))
		return false;

	req = g_new0(struct un_raw_req, 1);
	req->unique = self.raw.unique;
	req->device = un_transport_keep_device();
	if (self.raw.opcode == UN_WIRE_STATX) {
		ops->statx(t->config.data, req, self.raw.nodeid);
	} else {
		struct un_wire_create_in in;

		if (size < sizeof(struct un_wire_in) + sizeof(in)) {
			un_raw_reply(req, -EINVAL, NULL, 0);
			return true;
		}
		memcpy(&in, body, sizeof(in));
		ops->tmpfile(t->config.data, req, self.raw.nodeid, in.mode, in.umask);
	}
	return true;
}

static void process(void *data, un_transport_counts_t counts, char *buf, size_t size)
{
	struct un_transport *t = data;
	struct fuse_buf fb = { .mem = buf };

	if (!un_wire_parse_raw(buf, size, t->setxattr_ext, &self.raw)) {
		un_log(LOG_ERR, "a malformed request of %zu bytes is ignored", size);
		return;
	}
	count_request(counts, self.raw.opcode);
	if (un_log_debugging())
		debug_request(&self.raw, size);
	if (self.raw.opcode == UN_WIRE_INTERRUPT || take_raw(t, buf, size))
		return;
	if (self.raw.opcode == UN_WIRE_SETXATTR && t->setxattr_ext)
		size = un_wire_shrink_setxattr(buf, size);

	if (self.raw.opcode == UN_WIRE_INIT && !t->init_answered) {
		const size_t h = sizeof(struct un_wire_in);

		self.offered = (struct un_wire_flags){ 0 };
		un_ignore(un_wire_parse_init(buf + h, size - h, &self.offered));
		self.init = t;
	}
	fb.size = size;
	fuse_session_process_buf(t->se, &fb);
	self.init = NULL;
}

/* May it take long, or need others to be served meanwhile (an LSEEK makes the kernel write back)? */
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

/* The size of a request in @buf, or -errno; -ENODEV is the regular end. */
static ssize_t receive(struct worker *w, char *buf)
{
	struct un_transport *t = w->t;

	while (!atomic_load_explicit(&t->stopping, memory_order_relaxed)) {
		const struct un_wire_in *in = (const struct un_wire_in *)(const void *)buf;
		ssize_t n;

		un_turn_ask(t->turns, &w->turn);
		n = un_errno(read(w->fd, buf, t->buf_size));
		if (n >= (ssize_t)sizeof(*in)) {
			const struct un_turn_request q = {
				.client = in->pid,
				.stream = in->opcode == UN_WIRE_READ ? in->nodeid : 0,
				.slow = is_slow(in->opcode),
				.oneway = is_oneway(in->opcode),
			};

			un_turn_taken(t->turns, &w->turn, &q);
		}
		/* ENOENT: the caller gave up between the queue and us. */
		if (n >= 0 || (n != -EINTR && n != -EAGAIN && n != -ENOENT))
			return n;
		un_turn_missed(t->turns, &w->turn);
	}
	return -ENODEV;
}

/*
 * The data of a WRITE starts on a page: the kernel copies whole pages, and a write(2) below can be
 * direct.
 */
static char *request_buffer(struct worker *w)
{
	return w->buf + PAGE - sizeof(struct un_wire_in) - sizeof(struct un_wire_write_in);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct un_transport *t = w->t;
	char *buf = request_buffer(w);
	ssize_t n;

	un_transport_use_device(w->fd);
	if (t->config.ops && t->config.ops->worker_start)
		t->config.ops->worker_start(t->config.data);

	if (t->offer.used) {
		n = un_uring_serve_rest(t->offer.uring, w->counts, buf);
	} else {
		while ((n = receive(w, buf)) >= 0)
			process(t, w->counts, buf, (size_t)n);
		un_turns_leave(t->turns, &w->turn);
	}
	if (n != -ENODEV && n != -ECONNABORTED)
		un_log(LOG_ERR, "a worker ends: reading /dev/fuse: %s", strerrordesc_np((int)-n));
	return NULL;
}

/* Setting up. */

static struct worker *worker_new(struct un_transport *t)
{
	struct worker *w = NULL;
	void *buf = NULL;

	if (posix_memalign((void **)&w, __alignof__(struct worker), sizeof(*w)))
		return NULL;
	memset(w, 0, sizeof(*w));
	if (posix_memalign(&buf, PAGE, PAGE + t->buf_size)) {
		free(w);
		return NULL;
	}
	w->t = t;
	w->fd = t->fd;
	w->buf = buf;
	return w;
}

struct un_transport *un_transport_new(struct fuse_session *se, const struct un_transport_config *c)
{
	/* Members of newer versions (clone_fd) have to be NULL. */
	const struct fuse_custom_io io = { .writev = reply_writev, .read = refuse_read };
	struct un_transport *t;
	int r;

	r = fuse_session_custom_io(se, &io, fuse_session_fd(se));
	if (r) {
		un_log(LOG_ERR, "libfuse refuses the transport: %s", strerrordesc_np(abs(r)));
		return NULL;
	}
	t = g_new0(struct un_transport, 1);
	t->se = se;
	t->fd = fuse_session_fd(se);
	t->config = *c;
	t->buf_size = MAX(c->max_write + PAGE, MIN_BUFFER) + PAGE;
	t->n_workers = c->threads;
	t->workers = g_new0(struct worker *, t->n_workers);
	t->helper = un_helper_new();
	t->waiting = un_helper_new();
	t->turns = un_turns_new(t->n_workers, (uint64_t)c->spin * 1000);
	for (unsigned i = 0; i < t->n_workers; i++) {
		t->workers[i] = worker_new(t);
		if (!t->workers[i]) {
			un_log(LOG_ERR, "no memory for the buffers of %u threads", t->n_workers);
			un_transport_free(t);
			return NULL;
		}
	}
	return t;
}

static int prepare_uring(struct un_transport *t)
{
	const struct un_transport_ops *ops = t->config.ops;
	const struct un_uring_config config = {
		.device = t->fd,
		.device_buffer = t->buf_size,
		.max_write = t->config.max_write,
		.max_threads = MAX_SERVERS,
		.process = process,
		.thread_start = ops ? ops->worker_start : NULL,
		.start_data = t->config.data,
		.data = t,
	};

	return un_offer_prepare(&t->offer, t->config.uring, &config);
}

int un_transport_init(struct un_transport *t)
{
	struct worker *w = t->workers[0];
	char *buf = request_buffer(w);
	ssize_t n = prepare_uring(t);

	if (n < 0)
		return (int)n;
	un_transport_use_device(t->fd);
	while (!t->init_answered && !fuse_session_exited(t->se)) {
		/* An inherited descriptor may be non-blocking, and that is shared. */
		struct pollfd p = { .fd = t->fd, .events = POLLIN };

		un_ignore(poll(&p, 1, -1));
		n = un_errno(read(t->fd, buf, t->buf_size));
		if (n >= 0)
			process(t, w->counts, buf, (size_t)n);
		else if (n != -EINTR && n != -EAGAIN && n != -ENOENT)
			break;
	}
	un_transport_use_device(-1);

	if (n < 0 && !t->init_answered)
		return (int)n;
	if (t->init_error)
		return t->init_error;
	return fuse_session_exited(t->se) ? -EPROTO : 0;
}

static void open_clones(struct un_transport *t)
{
	/* The first worker has the session's own descriptor. */
	for (unsigned i = 1; t->config.clone_fd && i < t->n_workers; i++) {
		int fd = un_device_clone(t->fd);

		if (fd < 0) {
			un_log(LOG_INFO,
			       "the threads share one device: /dev/fuse cannot be cloned: %s",
			       strerrordesc_np(-fd));
			return;
		}
		t->workers[i]->fd = fd;
	}
}

/* A worker tries a read where others may be faster: it must not be caught in it. */
static int start_worker(struct un_transport *t, struct worker *w)
{
	int flags = fcntl(w->fd, F_GETFL), r;

	if (flags < 0 || fcntl(w->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	r = t->offer.used ? 0 : un_turns_join(t->turns, &w->turn, w->fd);
	if (r < 0)
		return r;
	r = un_process_thread(&w->thread, worker_main, w);
	if (r < 0 && !t->offer.used)
		un_turns_leave(t->turns, &w->turn);
	return r;
}

int un_transport_start(struct un_transport *t)
{
	int r = un_offer_start(&t->offer);

	if (r < 0)
		return r;
	/* One is enough for what nobody waits for. */
	const unsigned n = t->offer.used ? 1 : t->n_workers;

	if (!t->offer.used)
		open_clones(t);
	while (t->n_started < n) {
		r = start_worker(t, t->workers[t->n_started]);
		if (r < 0)
			break;
		t->n_started++;
	}
	if (r < 0 && t->n_started)
		un_log(LOG_WARNING, "%u of %u threads started: %s", t->n_started, n,
		       strerrordesc_np(-r));
	return t->n_started ? 0 : r;
}

void un_transport_wait(struct un_transport *t)
{
	un_offer_say(&t->offer);
	for (unsigned i = 0; i < t->n_started; i++)
		pthread_join(t->workers[i]->thread, NULL);
	if (t->offer.uring)
		un_uring_join(t->offer.uring);
	un_helper_stop(t->waiting);
	un_helper_stop(t->helper);
}

void un_transport_stop(struct un_transport *t)
{
	atomic_store(&t->stopping, true);
	un_turns_stop(t->turns);
	if (t->offer.uring)
		un_uring_stop(t->offer.uring);
}

void un_transport_free(struct un_transport *t)
{
	if (!t)
		return;
	un_helper_free(t->waiting);
	un_helper_free(t->helper);
	for (unsigned i = 0; i < t->n_workers; i++) {
		struct worker *w = t->workers[i];

		if (!w)
			continue;
		if (w->fd != t->fd)
			un_close(w->fd);
		free(w->buf);
		free(w);
	}
	g_free(t->workers);
	un_turns_free(t->turns);
	un_offer_done(&t->offer);
	g_free(t);
}

void un_transport_defer(struct un_transport *t, void (*fn)(void *data), void *data)
{
	const int device = un_transport_keep_device();

	if (!un_uring_lend()) {
		un_helper_defer(t->helper, fn, data);
		return;
	}
	/* Others serve meanwhile. */
	fn(data);
	un_transport_use_device(device);
	un_uring_unlend();
}

bool un_transport_defer_waiting(struct un_transport *t, void (*fn)(void *data), void *data)
{
	return un_helper_try_defer(t->waiting, fn, data);
}

int un_transport_expire(struct un_transport *t, uint64_t dir, const char *name)
{
	const size_t len = strlen(name);
	struct un_wire_inval_entry entry = {
		.parent = dir,
		.namelen = (uint32_t)len,
		.flags = UN_WIRE_EXPIRE_ONLY,
	};
	struct un_wire_out out = {
		.len = (uint32_t)(sizeof(out) + sizeof(entry) + len + 1),
		.error = UN_WIRE_NOTIFY_INVAL_ENTRY,
	};
	const struct iovec iov[3] = {
		{ &out, sizeof(out) },
		{ &entry, sizeof(entry) },
		/* writev only reads */
		{ (void *)(uintptr_t)name, len + 1 },
	};

	if (!t->can_expire)
		return -EOPNOTSUPP;
	return un_device_writev(t->fd, iov, 3) < 0 ? -errno : 0;
}

bool un_transport_can_expire(const struct un_transport *t)
{
	return t->can_expire;
}

void un_transport_tick(struct un_transport *t, unsigned seconds, bool (*fn)(void *data), void *data)
{
	un_helper_tick(t->helper, seconds, fn, data);
}

void un_transport_counts(struct un_transport *t, uint64_t counts[UN_TRANSPORT_OPCODES])
{
	memset(counts, 0, UN_TRANSPORT_OPCODES * sizeof(counts[0]));
	for (unsigned i = 0; i < t->n_workers; i++)
		for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++)
			counts[op] += atomic_load_explicit(&t->workers[i]->counts[op],
							   memory_order_relaxed);
	if (t->offer.uring)
		un_uring_counts(t->offer.uring, counts);
}

const char *un_transport_why_no_uring(const struct un_transport *t)
{
	return t->offer.error;
}

const char *un_transport_kind(const struct un_transport *t)
{
	return t->offer.used ? "io_uring" : "/dev/fuse";
}
