/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker does with a request, and the ways for an answer to leave.
 *
 *   read() -> raw fields -> TMPFILE, STATX: config ops        -> un_raw_reply() --\
 *                        \-> the rest: fuse_session_process_buf() -> reply_writev() -> device
 *
 * (1) The kernel keeps a request with the device (the clone) that read it: device.c.
 * (2) libfuse edits a request in place: what it drops is read before it sees the request.
 * (3) INTERRUPT never reaches libfuse, which would answer it from within another request. What it names
 *     is noted, and handlers that last ask for it: interrupt_i.h.
 * (4) No splice: without splice functions in the custom io libfuse copies.
 */
#include "transport_i.h"

#include "device_i.h"
#include "helper_i.h"
#include "interrupt_i.h"
#include "killed_i.h"
#include "offer_i.h"
#include "pool_i.h"
#include "tell_i.h"
#include "uring_i.h"
#include "workers_i.h"

#include "transport/process.h"
#include "transport/wire.h"
#include "util/cancel.h"
#include "util/caps.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#include <glib.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
/* A SETXATTR needs this much whatever max_write is: a value and a name. */
#define MIN_BUFFER (128 * 1024u)
/* Threads that wait for requests to be served; beyond, one waits for the other. */
#define POOL_MAX 64u
/* Interrupted callers of whom nothing can be known are given up after so long, in us. */
#define GRACE (30 * G_USEC_PER_SEC)

struct un_transport {
	struct fuse_session *se;
	int fd; /* the session's */
	struct un_transport_config config;
	struct un_helper *helper;
	struct un_helper *waiting; /* the same, for what waits for locks in the kernel */
	size_t buf_size;
	struct un_workers *workers;
	struct un_pool *pool; /* for what may have to wait for requests */
	struct un_interrupts *interrupts;
	struct un_offer offer;              /* of io_uring, in place of the workers */
	un_transport_counts_t rest_counted; /* beside it */
	bool setxattr_ext; /* granted at our request: long on the wire, short for libfuse */
	bool can_expire;   /* INVAL_ENTRY knows UN_WIRE_EXPIRE_ONLY */
	bool passthrough;  /* granted at our request */
	bool init_answered;
	atomic_bool stopping; /* by us: the connection may live on, but nobody serves it */
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
	struct un_in_hand hand; /* joined while the thread serves requests */
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
		t->config.init_flags2 | (t->offer.uring ? UN_WIRE_OVER_IO_URING : 0),
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
	t->passthrough = added.flags2 & UN_WIRE_PASSTHROUGH;
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
	r = out->unique ? send_answer(un_device_of_thread(), fd, iov, count)
			: un_tell(fd, iov, count);
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
	req->device = un_device_of_thread();
	if (self.raw.opcode == UN_WIRE_STATX) {
		ops->statx(t->config.data, req, self.raw.nodeid);
	} else {
		struct un_wire_create_in in;

		if (size < sizeof(struct un_wire_in) + sizeof(in)) {
			un_raw_reply(req, -EINVAL, NULL, 0);
			return true;
		}
		memcpy(&in, body, sizeof(in));
		ops->tmpfile(t->config.data, req, self.raw.nodeid, &in);
	}
	return true;
}

/* The request in self.raw. */
static void serve(struct un_transport *t, char *buf, size_t size)
{
	struct fuse_buf fb = { .mem = buf };

	if (take_raw(t, buf, size))
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

static void process(void *data, un_transport_counts_t counts, char *buf, size_t size)
{
	struct un_transport *t = data;
	struct un_later *later;

	if (!un_wire_parse_raw(buf, size, t->setxattr_ext, &self.raw)) {
		un_log(LOG_ERR, "a malformed request of %zu bytes is ignored", size);
		return;
	}
	count_request(counts, self.raw.opcode);
	if (un_log_debugging())
		debug_request(&self.raw, size);
	if (self.raw.opcode == UN_WIRE_INTERRUPT) {
		un_interrupts_note(t->interrupts, un_wire_interrupted(buf, size));
		return;
	}
	un_in_hand_begin(&self.hand, self.raw.unique, self.raw.pid);
	serve(t, buf, size);
	later = un_cancel_take();
	un_in_hand_end(&self.hand);
	/* Over io_uring the answer leaves when this returns. Not behind other jobs: those may wait for it. */
	if (later && !un_pool_run(t->pool, un_later_run, later))
		un_later_run(later);
}

/* Setting up. */

static void worker_start(void *data)
{
	struct un_transport *t = data;

	/* Of a ring, started with all that this process had. */
	un_ignore(un_caps_reduce());
	un_in_hand_join(t->interrupts, &self.hand);
	if (t->config.ops && t->config.ops->worker_start)
		t->config.ops->worker_start(t->config.data);
}

static void worker_end(void *data)
{
	(void)data;
	un_in_hand_leave(&self.hand);
}

static struct un_workers *workers_new(struct un_transport *t)
{
	const struct un_workers_config c = {
		.warm = t->config.threads,
		.max = MAX(t->config.max_threads, t->config.threads),
		.spin_ns = (uint64_t)t->config.spin * 1000,
		.clone_fd = t->config.clone_fd,
		.session_fd = t->fd,
		.buf_size = t->buf_size,
		.start = worker_start,
		.end = worker_end,
		.serve = process,
		.data = t,
	};

	return un_workers_new(&c);
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
	t->helper = un_helper_new();
	t->waiting = un_helper_new();
	un_tell_begin(t->fd);
	t->pool = un_pool_new(&(struct un_pool_config){ .max = POOL_MAX });
	t->interrupts = un_interrupts_new(un_killed, GRACE);
	t->workers = workers_new(t);
	return t;
}

static int prepare_uring(struct un_transport *t)
{
	const struct un_uring_config config = {
		.device = t->fd,
		.device_buffer = t->buf_size,
		.max_write = t->config.max_write,
		.max_threads = MAX(t->config.max_threads, 1),
		.process = process,
		.thread_start = worker_start,
		.thread_end = worker_end,
		.data = t,
	};

	return un_offer_prepare(&t->offer, t->config.uring, &config);
}

int un_transport_init(struct un_transport *t)
{
	/* Of no worker: those have not been started. */
	un_transport_counts_t counts = { 0 };
	char *buf = un_workers_buffer(t->workers);
	ssize_t n = buf ? 0 : -ENOMEM;
	int r = prepare_uring(t);

	if (r < 0) {
		un_workers_buffer_free(t->workers, buf);
		return r;
	}
	un_transport_use_device(t->fd);
	un_in_hand_join(t->interrupts, &self.hand);
	while (buf && !t->init_answered && !fuse_session_exited(t->se)) {
		/* An inherited descriptor may be non-blocking, and that is shared. */
		struct pollfd p = { .fd = t->fd, .events = POLLIN };

		un_ignore(poll(&p, 1, -1));
		n = un_errno(read(t->fd, buf, t->buf_size));
		if (n >= 0)
			process(t, counts, buf, (size_t)n);
		else if (n != -EINTR && n != -EAGAIN && n != -ENOENT)
			break;
	}
	un_in_hand_leave(&self.hand);
	un_transport_use_device(-1);
	un_workers_buffer_free(t->workers, buf);

	if (n < 0 && !t->init_answered)
		return (int)n;
	if (t->init_error)
		return t->init_error;
	return fuse_session_exited(t->se) ? -EPROTO : 0;
}

int un_transport_start(struct un_transport *t)
{
	int r = un_offer_start(&t->offer);

	return r < 0 || t->offer.used ? r : un_workers_start(t->workers);
}

/* What does not come over io_uring; on the calling thread, which has nothing else to do. */
static void serve_rest(struct un_transport *t)
{
	char *buf = un_workers_buffer(t->workers);
	int r = -ENOMEM;

	un_in_hand_join(t->interrupts, &self.hand);
	if (buf)
		r = un_uring_serve_rest(t->offer.uring, t->rest_counted, buf);
	un_in_hand_leave(&self.hand);
	if (r != -ENODEV && r != -ECONNABORTED)
		un_log(LOG_ERR, "reading /dev/fuse: %s", strerrordesc_np(-r));
	un_workers_buffer_free(t->workers, buf);
	un_uring_join(t->offer.uring);
}

void un_transport_wait(struct un_transport *t)
{
	un_offer_say(&t->offer);
	if (t->offer.used)
		serve_rest(t);
	else
		un_workers_wait(t->workers);
	un_pool_stop(t->pool);
	un_helper_stop(t->waiting);
	un_helper_stop(t->helper);
}

void un_transport_stop(struct un_transport *t)
{
	atomic_store(&t->stopping, true);
	/* What waits for the kernel waits for requests, which are served until it is done. */
	un_pool_stop(t->pool);
	un_helper_stop(t->waiting);
	un_helper_stop(t->helper);
	un_workers_stop(t->workers);
	if (t->offer.uring)
		un_uring_stop(t->offer.uring);
}

void un_transport_free(struct un_transport *t)
{
	if (!t)
		return;
	un_pool_free(t->pool);
	un_helper_free(t->waiting);
	un_helper_free(t->helper);
	un_tell_end();
	un_workers_free(t->workers);
	un_offer_done(&t->offer);
	un_interrupts_free(t->interrupts);
	g_free(t);
}

bool un_transport_run(struct un_transport *t, void (*fn)(void *data), void *data)
{
	int device;

	if (un_pool_queue(t->pool, fn, data))
		return true;
	if (atomic_load(&t->stopping))
		return false;
	/* Keeping it for the job has not made it any less the caller's. */
	device = un_device_of_thread();
	fn(data);
	un_transport_use_device(device);
	return true;
}

bool un_transport_try_run(struct un_transport *t, void (*fn)(void *data), void *data)
{
	return un_pool_run(t->pool, fn, data);
}

void un_transport_defer(struct un_transport *t, void (*fn)(void *data), void *data)
{
	un_helper_defer(t->helper, fn, data);
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
	return un_tell(t->fd, iov, 3) < 0 ? -errno : 0;
}

bool un_transport_can_expire(const struct un_transport *t)
{
	return t->can_expire;
}

int un_transport_backing_open(struct un_transport *t, int file)
{
	return t->passthrough ? un_device_backing_open(t->fd, file) : -EOPNOTSUPP;
}

void un_transport_backing_close(struct un_transport *t, int id)
{
	un_device_backing_close(t->fd, id);
}

int un_transport_try_backing(struct un_transport *t)
{
	un_autofd int any = -1;
	int id;

	if (!t->passthrough)
		return -EOPNOTSUPP;
	any = memfd_create("fuse-unionfs", MFD_CLOEXEC);
	id = any < 0 ? -errno : un_transport_backing_open(t, any);
	if (id >= 0)
		un_transport_backing_close(t, id);
	return MIN(id, 0);
}

void un_transport_tick(struct un_transport *t, unsigned seconds, bool (*fn)(void *data), void *data)
{
	un_helper_tick(t->helper, seconds, fn, data);
}

void un_transport_counts(struct un_transport *t, uint64_t counts[UN_TRANSPORT_OPCODES])
{
	memset(counts, 0, UN_TRANSPORT_OPCODES * sizeof(counts[0]));
	un_workers_counts(t->workers, counts);
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++)
		counts[op] += atomic_load_explicit(&t->rest_counted[op], memory_order_relaxed);
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
