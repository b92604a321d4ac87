/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gets requests from the kernel and gives them to libfuse for decoding; knows no operation.
 *
 * libfuse (3.14 is the oldest supported) decodes and dispatches; reading, replying, threads and the
 * parts of the protocol that an old libfuse does not know are ours. Each worker reads its own clone
 * of /dev/fuse, and a reply must leave through the clone its request came from.
 */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fields of the request in hand that libfuse drops; valid only inside a handler, on its thread. */
struct un_raw {
	uint32_t opcode;
	uint64_t unique;
	uint64_t nodeid;
	uint32_t uid, gid, pid;
	uint32_t write_flags;    /* WRITE: bit 0 from the page cache, bit 2 kill set-id bits */
	uint32_t setattr_valid;  /* SETATTR: bit 11 kill set-id bits */
	uint32_t setxattr_flags; /* SETXATTR: bit 0 clear set-gid after setting an access ACL */
	uint32_t umask;          /* CREATE, MKNOD, MKDIR, TMPFILE */
};
const struct un_raw *un_transport_raw(void);

/* A request outside libfuse: answer it once, before its handler returns; consumed by the answer. */
struct un_raw_req;
struct un_wire_create_in;
void un_raw_reply(struct un_raw_req *req, int neg_errno, const void *payload, size_t size);

/* Which requests are taken before libfuse sees them. Bodies are the bytes after fuse_in_header. */
struct un_transport_ops {
	/* TMPFILE: answer fuse_entry_out + fuse_open_out. */
	void (*tmpfile)(void *data, struct un_raw_req *req, uint64_t dir,
			const struct un_wire_create_in *in);
	/* STATX: answer fuse_statx_out. */
	void (*statx)(void *data, struct un_raw_req *req, uint64_t node);
	/* On every worker, before its first request; may unshare(CLONE_FS) and so on. */
	void (*worker_start)(void *data);
};

/* Descriptors for each thread. */
#define UN_TRANSPORT_FDS 3

/* In the order of the words of the option. */
enum un_transport_uring {
	UN_TRANSPORT_URING_AUTO, /* where it can be had */
	UN_TRANSPORT_URING_ON,   /* or fail */
	UN_TRANSPORT_URING_OFF,
};
/* Descriptors that may be needed when there are more threads than @threads, and they have UN_TRANSPORT_FDS each. */
unsigned un_transport_spare_fds(enum un_transport_uring uring, unsigned threads,
				unsigned max_threads);

struct un_transport_config {
	unsigned threads; /* that are always there; at least 1 */
	unsigned
		max_threads; /* at most, while requests wait and all are busy; 0: no more than that */
	unsigned spin; /* microseconds that a worker keeps asking for the next request, see turns.c */
	bool clone_fd;
	enum un_transport_uring uring;
	unsigned max_write;  /* bytes */
	uint32_t init_flags; /* flags to add to the INIT reply if the kernel offered them */
	uint32_t init_flags2;
	const struct un_transport_ops *ops;
	void *data;
};

struct un_transport;

/*
 * @se is mounted (fuse_session_mount() has returned 0) but has served nothing. Takes over its
 * reading and writing (fuse_session_custom_io). No thread is started. NULL: out of memory or the
 * session refused; logged.
 */
struct un_transport *un_transport_new(struct fuse_session *se, const struct un_transport_config *c);

/*
 * Answer INIT on the calling thread. 0, or -errno when the kernel or libfuse refused. Call in the
 * process that will serve: threads do not survive a fork. -EOPNOTSUPP: un_transport_why_no_uring() says why.
 */
int un_transport_init(struct un_transport *t);

/*
 * Start the workers: requests are served from now on. 0, if only by some of them, or -errno if none could
 * be started. -EOPNOTSUPP as above.
 */
int un_transport_start(struct un_transport *t);
/* The sentence, until @t is freed; NULL: no io_uring was asked for, or it can be had. */
const char *un_transport_why_no_uring(const struct un_transport *t);
/* How requests come, known after un_transport_start(). */
const char *un_transport_kind(const struct un_transport *t);

/* Returns when the connection has ended (unmounted or aborted), and all workers with it. */
void un_transport_wait(struct un_transport *t);

void un_transport_free(struct un_transport *t);

/*
 * Run @fn(@data) soon on the transport's helper thread, where notifications that make the kernel
 * send requests (an inval_inode that flushes) may be waited for. Replies made there still leave
 * through the right device: call un_transport_keep_device() in the handler and pass what it returns
 * to un_transport_use_device() on the helper before replying, and to un_transport_drop_device() when the last reply
 * has left.
 */
void un_transport_defer(struct un_transport *t, void (*fn)(void *data), void *data);
/*
 * The same, at once, on one of many threads (pool.c): for what a client waits for, and nobody else. It may wait for
 * requests that workers serve, not for others of its kind. False: workers are about to stop, and @fn is not called.
 */
bool un_transport_run(struct un_transport *t, void (*fn)(void *data), void *data);
/* The same, if a thread is free or can be had at once; false: none, and @fn is not called. */
bool un_transport_try_run(struct un_transport *t, void (*fn)(void *data), void *data);
/*
 * The same on a thread of its own, for notifications that wait for the kernel's lock of a directory: who
 * has that lock may wait for an answer that another thread than a worker gives (src/transport/README.md, Notifications).
 * False: there is no such thread, and @fn is not called.
 */
bool un_transport_defer_waiting(struct un_transport *t, void (*fn)(void *data), void *data);
/* The same as un_transport_defer(), every @seconds while @fn returns true; starts when nothing of this kind is pending. */
void un_transport_tick(struct un_transport *t, unsigned seconds, bool (*fn)(void *data),
		       void *data);

/*
 * Room of @size for the data of the answer to the request in hand, from which the kernel takes it without
 * another copy. NULL: there is none, use your own. Only on the thread that has the request, until it has answered.
 */
void *un_transport_room(size_t size);
/* The answer that was given on this thread is to reach the kernel now, not when the handler returns. */
void un_transport_flush(void);

/* The device of the calling thread, or -1; it stays open until it is dropped, also when its thread ends. */
int un_transport_keep_device(void);
void un_transport_drop_device(int device);
/* Replies of the calling thread leave through @device (borrowed) from now on; -1: through the session's. */
void un_transport_use_device(int device);

/*
 * The kernel is to ask for the name before it uses it again; what is mounted on it stays. -EOPNOTSUPP: not before Linux 6.2; -ENOENT: the kernel has forgotten the name, or
 * the directory. Only where un_transport_defer_waiting() leads.
 */
int un_transport_expire(struct un_transport *t, uint64_t dir, const char *name);
/* Will it be done? Known once the kernel has said INIT. */
bool un_transport_can_expire(const struct un_transport *t);

/*
 * Passthrough, if init_flags2 asked for it: a number by which OPEN and CREATE may be answered, so that the kernel
 * reads and writes the regular file @file, which may be closed then, with the credentials of the calling thread.
 * -EOPNOTSUPP: the kernel does not offer it; -EPERM: that takes CAP_SYS_ADMIN in the initial user namespace;
 * -ELOOP: @file lies on a file system that is stacked on another; -ENOMEM, ...
 */
int un_transport_backing_open(struct un_transport *t, int file);
/* Files that were opened with it may go on. */
void un_transport_backing_close(struct un_transport *t, int id);
/* Could any file be passed through? 0 or -errno, as above. After un_transport_init(). */
int un_transport_try_backing(struct un_transport *t);

/* Requests received so far by opcode (0..63), for the statistics. */
#define UN_TRANSPORT_OPCODES 64
void un_transport_counts(struct un_transport *t, uint64_t counts[UN_TRANSPORT_OPCODES]);
