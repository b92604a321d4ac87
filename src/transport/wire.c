/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "transport/wire.h"

#include "transport/transport.h"

#include <glib.h>
#include <string.h>

_Static_assert(sizeof(struct un_wire_in) == 40, "fuse_in_header");
_Static_assert(sizeof(struct un_wire_out) == 16, "fuse_out_header");
_Static_assert(sizeof(struct un_wire_init_in) == 64, "fuse_init_in");
_Static_assert(sizeof(struct un_wire_init_out) == 64, "fuse_init_out");
_Static_assert(offsetof(struct un_wire_init_out, flags2) == 32, "fuse_init_out");
_Static_assert(offsetof(struct un_wire_init_out, max_stack_depth) == 36, "fuse_init_out");
_Static_assert(sizeof(struct un_wire_backing) == 16, "fuse_backing_map");
_Static_assert(sizeof(struct un_wire_create_in) == 16, "fuse_create_in");
_Static_assert(sizeof(struct un_wire_write_in) == 40, "fuse_write_in");
_Static_assert(sizeof(struct un_wire_setattr_in) == 88, "fuse_setattr_in");
_Static_assert(sizeof(struct un_wire_setxattr_in) == 16, "fuse_setxattr_in");
_Static_assert(sizeof(struct un_wire_inval_entry) == 16, "fuse_notify_inval_entry_out");
_Static_assert(sizeof(struct un_wire_read_in) == 40, "fuse_read_in");
_Static_assert(sizeof(struct un_wire_retrieve) == 32, "fuse_notify_retrieve_out");
_Static_assert(sizeof(struct un_wire_ring) == 288, "fuse_uring_req_header");
_Static_assert(offsetof(struct un_wire_ring, commit_id) == 264, "fuse_uring_ent_in_out");
_Static_assert(sizeof(struct un_wire_ring_command) == 24, "fuse_uring_cmd_req");
_Static_assert(sizeof(struct un_wire_attr) == 88, "fuse_attr");
_Static_assert(sizeof(struct un_wire_entry_out) == 128, "fuse_entry_out");
_Static_assert(sizeof(struct un_wire_open_out) == 16, "fuse_open_out");
_Static_assert(sizeof(struct un_wire_tmpfile_out) == 144, "fuse_entry_out + fuse_open_out");
_Static_assert(sizeof(struct un_wire_statx_in) == 24, "fuse_statx_in");
_Static_assert(sizeof(struct un_wire_statx) == 256, "fuse_statx");
_Static_assert(sizeof(struct un_wire_statx_out) == 288, "fuse_statx_out");

const char *un_wire_opcode_name(uint32_t opcode)
{
	static const char *const names[] = {
		[1] = "LOOKUP",        [2] = "FORGET",         [3] = "GETATTR",
		[4] = "SETATTR",       [5] = "READLINK",       [6] = "SYMLINK",
		[8] = "MKNOD",         [9] = "MKDIR",          [10] = "UNLINK",
		[11] = "RMDIR",        [12] = "RENAME",        [13] = "LINK",
		[14] = "OPEN",         [15] = "READ",          [16] = "WRITE",
		[17] = "STATFS",       [18] = "RELEASE",       [20] = "FSYNC",
		[21] = "SETXATTR",     [22] = "GETXATTR",      [23] = "LISTXATTR",
		[24] = "REMOVEXATTR",  [25] = "FLUSH",         [26] = "INIT",
		[27] = "OPENDIR",      [28] = "READDIR",       [29] = "RELEASEDIR",
		[30] = "FSYNCDIR",     [31] = "GETLK",         [32] = "SETLK",
		[33] = "SETLKW",       [34] = "ACCESS",        [35] = "CREATE",
		[36] = "INTERRUPT",    [37] = "BMAP",          [38] = "DESTROY",
		[39] = "IOCTL",        [40] = "POLL",          [41] = "NOTIFY_REPLY",
		[42] = "BATCH_FORGET", [43] = "FALLOCATE",     [44] = "READDIRPLUS",
		[45] = "RENAME2",      [46] = "LSEEK",         [47] = "COPY_FILE_RANGE",
		[48] = "SETUPMAPPING", [49] = "REMOVEMAPPING", [50] = "SYNCFS",
		[51] = "TMPFILE",      [52] = "STATX",         [53] = "COPY_FILE_RANGE_64",
	};

	return opcode < G_N_ELEMENTS(names) ? names[opcode] : NULL;
}

/* False: not a request (too short, or its length is not @size). */
static bool parse_header(const void *buf, size_t size, struct un_wire_in *ret)
{
	struct un_wire_in in;

	if (size < sizeof(in))
		return false;
	memcpy(&in, buf, sizeof(in));
	if (in.len != size)
		return false;
	*ret = in;
	return true;
}

/* The 32 bits at @offset behind the header, or 0 if the request ends before. */
static uint32_t body_u32(const void *buf, size_t size, size_t offset)
{
	uint32_t v;

	offset += sizeof(struct un_wire_in);
	if (size < offset + sizeof(v))
		return 0;
	memcpy(&v, (const char *)buf + offset, sizeof(v));
	return v;
}

#define BODY(type, field) body_u32(buf, size, offsetof(struct type, field))

bool un_wire_parse_raw(const void *buf, size_t size, bool setxattr_ext, struct un_raw *ret)
{
	struct un_wire_in in;

	if (!parse_header(buf, size, &in))
		return false;

	*ret = (struct un_raw){
		.opcode = in.opcode,
		.unique = in.unique,
		.nodeid = in.nodeid,
		.uid = in.uid,
		.gid = in.gid,
		.pid = in.pid,
	};
	switch (in.opcode) {
	case UN_WIRE_WRITE:
		ret->write_flags = BODY(un_wire_write_in, write_flags);
		break;
	case UN_WIRE_SETATTR:
		ret->setattr_valid = BODY(un_wire_setattr_in, valid);
		break;
	case UN_WIRE_SETXATTR:
		if (setxattr_ext)
			ret->setxattr_flags = BODY(un_wire_setxattr_in, setxattr_flags);
		break;
	case UN_WIRE_CREATE:
	case UN_WIRE_TMPFILE:
		ret->umask = BODY(un_wire_create_in, umask);
		break;
	case UN_WIRE_MKNOD:
		ret->umask = BODY(un_wire_mknod_in, umask);
		break;
	case UN_WIRE_MKDIR:
		ret->umask = BODY(un_wire_mkdir_in, umask);
		break;
	default:
		break;
	}
	return true;
}

uint64_t un_wire_interrupted(const void *buf, size_t size)
{
	struct un_wire_interrupt_in in;

	if (size < sizeof(struct un_wire_in) + sizeof(in))
		return 0;
	memcpy(&in, (const char *)buf + sizeof(struct un_wire_in), sizeof(in));
	return in.unique;
}

size_t un_wire_shrink_setxattr(void *buf, size_t size)
{
	const size_t cut = sizeof(struct un_wire_setxattr_in) - UN_WIRE_SETXATTR_IN_SHORT;
	const size_t start = sizeof(struct un_wire_in) + UN_WIRE_SETXATTR_IN_SHORT;
	uint32_t len;

	if (size < start + cut)
		return size;
	memmove((char *)buf + start, (char *)buf + start + cut, size - start - cut);
	size -= cut;
	len = (uint32_t)size;
	memcpy((char *)buf + offsetof(struct un_wire_in, len), &len, sizeof(len));
	return size;
}

bool un_wire_parse_init(const void *body, size_t size, struct un_wire_flags *ret)
{
	struct un_wire_init_in in = { 0 };

	if (size < offsetof(struct un_wire_init_in, flags2))
		return false;
	memcpy(&in, body, MIN(size, sizeof(in)));
	ret->flags = in.flags;
	ret->flags2 = in.flags & UN_WIRE_INIT_EXT ? in.flags2 : 0;
	return true;
}

struct un_wire_flags un_wire_patch_init(void *out, size_t size, struct un_wire_flags offered,
					struct un_wire_flags wanted, uint32_t max_write)
{
	struct un_wire_flags added = { 0 };
	struct un_wire_init_out o = { 0 };

	size = MIN(size, sizeof(o));
	/* 8 bytes are for a protocol before 7.5, without flags. */
	if (size < offsetof(struct un_wire_init_out, time_gran))
		return added;
	memcpy(&o, out, size);

	added.flags = wanted.flags & offered.flags & ~o.flags & ~UN_WIRE_INIT_EXT;
	o.flags |= added.flags;
	if (size == sizeof(o) && (offered.flags & UN_WIRE_INIT_EXT)) {
		added.flags2 = wanted.flags2 & offered.flags2 & ~o.flags2;
		o.flags2 |= added.flags2;
		if (added.flags2 & UN_WIRE_PASSTHROUGH)
			o.max_stack_depth = UN_WIRE_STACK_DEPTH;
		if (o.flags2)
			o.flags |= UN_WIRE_INIT_EXT;
	}
	/* Our buffers were made for @max_write; the kernel must not send more than they hold. */
	o.max_write = MIN(o.max_write, max_write);
	memcpy(out, &o, size);
	return added;
}
