/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The FUSE protocol on the wire, as far as libfuse 3.14 does not know it or drops it. Defined here
 * because the <linux/fuse.h> of the oldest supported system lacks half of it. No system calls.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct un_raw;

#define UN_WIRE_LOOKUP 1
#define UN_WIRE_FORGET 2
#define UN_WIRE_SETATTR 4
#define UN_WIRE_MKNOD 8
#define UN_WIRE_MKDIR 9
#define UN_WIRE_OPEN 14
#define UN_WIRE_READ 15
#define UN_WIRE_WRITE 16
#define UN_WIRE_RELEASE 18
#define UN_WIRE_FSYNC 20
#define UN_WIRE_SETXATTR 21
#define UN_WIRE_INIT 26
#define UN_WIRE_FSYNCDIR 30
#define UN_WIRE_CREATE 35
#define UN_WIRE_INTERRUPT 36
#define UN_WIRE_NOTIFY_REPLY 41
#define UN_WIRE_BATCH_FORGET 42
#define UN_WIRE_FALLOCATE 43
#define UN_WIRE_LSEEK 46
#define UN_WIRE_COPY_FILE_RANGE 47
#define UN_WIRE_SYNCFS 50
#define UN_WIRE_TMPFILE 51
#define UN_WIRE_STATX 52

/* A notification, in place of the error. */
#define UN_WIRE_NOTIFY_INVAL_ENTRY 3
#define UN_WIRE_NOTIFY_RETRIEVE 5

#define UN_WIRE_EXPIRE_ONLY (1U << 0) /* in flags of INVAL_ENTRY; older kernels take it for 0 ... */
#define UN_WIRE_HAS_EXPIRE_ONLY (1U << 3) /* ... unless they offer this in flags2 of INIT */
#define UN_WIRE_SETXATTR_EXT (1U << 29) /* in flags of INIT */
#define UN_WIRE_INIT_EXT (1U << 30)     /* flags2 of INIT counts */
#define UN_WIRE_OVER_IO_URING (1U << 9) /* in flags2 of INIT */
#define UN_WIRE_PASSTHROUGH (1U << 5)   /* in flags2 of INIT */
/*
 * What of layers that are stacks themselves may be passed through: none. One more, and nothing could be stacked on this
 * mount (FILESYSTEM_MAX_STACK_DEPTH is 2).
 */
#define UN_WIRE_STACK_DEPTH 1

struct un_wire_in {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid;
	uint16_t extlen, padding;
};

struct un_wire_out {
	uint32_t len;
	int32_t error; /* negative errno */
	uint64_t unique;
};

struct un_wire_init_in {
	uint32_t major, minor, max_readahead, flags;
	uint32_t flags2; /* from here on since 7.36 */
	uint32_t unused[11];
};

struct un_wire_init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write;
	uint32_t time_gran; /* from here on since 7.23 */
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint16_t request_timeout, unused[11];
};

struct un_wire_read_in { /* READ, READDIR, READDIRPLUS */
	uint64_t fh, offset;
	uint32_t size, read_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};

struct un_wire_create_in { /* CREATE and TMPFILE; the name follows */
	uint32_t flags, mode, umask, open_flags;
};

struct un_wire_mknod_in {
	uint32_t mode, rdev, umask, padding;
};

struct un_wire_mkdir_in {
	uint32_t mode, umask;
};

struct un_wire_write_in {
	uint64_t fh, offset;
	uint32_t size, write_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};

struct un_wire_setattr_in {
	uint32_t valid, padding;
	uint64_t fh, size, lock_owner, atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec, mode, unused4, uid, gid, unused5;
};

struct un_wire_setxattr_in { /* name and value follow */
	uint32_t size, flags;
	uint32_t setxattr_flags, padding; /* with SETXATTR_EXT only */
};
#define UN_WIRE_SETXATTR_IN_SHORT 8

struct un_wire_interrupt_in { /* the number of the INTERRUPT itself is the same but for bit 0 */
	uint64_t unique;
};

struct un_wire_inval_entry { /* the name and a NUL follow */
	uint64_t parent;
	uint32_t namelen, flags;
};

struct un_wire_retrieve {
	uint64_t notify_unique, nodeid, offset;
	uint32_t size, padding;
};

/* Of an ioctl of /dev/fuse: the file @fd may be passed through, by the id that it returns. */
struct un_wire_backing {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

/* FUSE over io_uring: what is in the buffer for headers, and in the command of an SQE. */
struct un_wire_ring {
	union {
		struct un_wire_in in;
		struct un_wire_out out;
		char room[128];
	} head;
	char op[128]; /* the first argument of the request */
	uint64_t flags, commit_id;
	uint32_t payload_size, padding;
	uint64_t reserved;
};

struct un_wire_ring_command {
	uint64_t flags, commit_id;
	uint16_t qid;
	uint8_t padding[6];
};
#define UN_WIRE_RING_REGISTER 1
#define UN_WIRE_RING_COMMIT_AND_FETCH 2

struct un_wire_attr {
	uint64_t ino, size, blocks, atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags;
};

struct un_wire_entry_out {
	uint64_t nodeid, generation, entry_valid, attr_valid;
	uint32_t entry_valid_nsec, attr_valid_nsec;
	struct un_wire_attr attr;
};

struct un_wire_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

/* In open_flags. */
#define UN_WIRE_OPEN_KEEP_CACHE (1U << 1)
#define UN_WIRE_OPEN_NOFLUSH (1U << 5)
#define UN_WIRE_OPEN_PASSTHROUGH (1U << 7)

struct un_wire_tmpfile_out { /* ... and of CREATE */
	struct un_wire_entry_out entry;
	struct un_wire_open_out open;
};

struct un_wire_statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};

struct un_wire_sx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};

struct un_wire_statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare0;
	uint64_t ino, size, blocks, attributes_mask;
	struct un_wire_sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};

struct un_wire_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct un_wire_statx stat;
};

/* "LOOKUP"; NULL for an opcode nobody has heard of. */
const char *un_wire_opcode_name(uint32_t opcode);

/*
 * All that un_transport_raw() promises, of the request in @buf, read before libfuse touches it.
 * @setxattr_ext: SETXATTR has the long form. A field whose bytes are missing is 0. False: not a request
 * (too short for a header, or its length is not @size), and *ret is as it was.
 */
bool un_wire_parse_raw(const void *buf, size_t size, bool setxattr_ext, struct un_raw *ret);

/* The unique number that an INTERRUPT names; 0: it is too short. */
uint64_t un_wire_interrupted(const void *buf, size_t size);

/*
 * Make a long SETXATTR the short one that libfuse expects, in place; returns the new size.
 * A request too short for that is left alone: libfuse refuses it.
 */
size_t un_wire_shrink_setxattr(void *buf, size_t size);

/* Flags of an INIT, by either side. */
struct un_wire_flags {
	uint32_t flags, flags2;
};

/* What the kernel offers. @body is what follows the header. False if it is too short. */
bool un_wire_parse_init(const void *body, size_t size, struct un_wire_flags *ret);

/*
 * Add the @wanted flags that were @offered to libfuse's successful answer @out of @size bytes (64,
 * or 8 or 24 for old kernels), and keep its max_write within @max_write. With PASSTHROUGH goes UN_WIRE_STACK_DEPTH.
 * Returns what was added.
 */
struct un_wire_flags un_wire_patch_init(void *out, size_t size, struct un_wire_flags offered,
					struct un_wire_flags wanted, uint32_t max_write);
