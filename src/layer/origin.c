/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer/origin.h"

#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>

#define VERSION 0
#define MAGIC 0xfb
#define FLAG_BIG_ENDIAN 1
#define FLAG_ANY_ENDIAN 2
#define FLAG_UPPER 4
#define HEADER 21

#define CPU_FLAGS (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? FLAG_BIG_ENDIAN : 0)

/* Handle types of exportfs (include/linux/exportfs.h) whose fid begins with what is read here. */
enum {
	FID_INO32_GEN = 0x01, /* ext4 and many: ino32, gen32; tmpfs: gen32, ino64 */
	FID_BTRFS = 0x4d,     /* objectid64, root objectid64, ... */
	FID_BTRFS_LAST = 0x4f,
	FID_INO64_GEN = 0x81, /* xfs: ino64, gen32 */
};

union handle {
	struct file_handle h;
	uint8_t room[sizeof(struct file_handle) + 128];
};

ssize_t un_origin_format(const struct un_at *at, uint8_t ret[UN_ORIGIN_MAX])
{
	union handle fh = { .h.handle_bytes = 128 };
	int r;

	if (!at->layer->caps.handles || at->layer->twin)
		return 0;
	r = at->layer->ops->handle(at->layer, at->dirfd, at->name, &fh.h);
	if (r < 0)
		/* The layer has handles: one that cannot be had now is a failure, not an object without. */
		return r == -EOVERFLOW ? 0 : r;
	if (fh.h.handle_type < 0 || fh.h.handle_type > 255)
		return 0;
	ret[0] = VERSION;
	ret[1] = MAGIC;
	ret[2] = (uint8_t)(HEADER + fh.h.handle_bytes);
	ret[3] = CPU_FLAGS;
	ret[4] = (uint8_t)fh.h.handle_type;
	memcpy(ret + 5, at->layer->uuid, 16);
	memcpy(ret + HEADER, fh.h.f_handle, fh.h.handle_bytes);
	return (ssize_t)(HEADER + fh.h.handle_bytes);
}

ssize_t un_origin_format_upper(const struct un_at *at, uint8_t ret[UN_ORIGIN_MAX])
{
	ssize_t n = un_origin_format(at, ret);

	if (n > 0)
		ret[3] |= FLAG_UPPER;
	return n;
}

void un_origin_hex(const uint8_t *value, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*ret++ = digits[value[i] >> 4];
		*ret++ = digits[value[i] & 15];
	}
	*ret = '\0';
}

ssize_t un_origin_unhex(const char *hex, uint8_t ret[UN_ORIGIN_MAX])
{
	size_t len = strlen(hex);

	if (len % 2 || len / 2 > UN_ORIGIN_MAX || strspn(hex, "0123456789abcdef") != len)
		return -EINVAL;
	for (size_t i = 0; i < len / 2; i++)
		ret[i] = (uint8_t)(g_ascii_xdigit_value(hex[2 * i]) << 4 |
				   g_ascii_xdigit_value(hex[2 * i + 1]));
	return (ssize_t)(len / 2);
}

int un_origin_parse(const uint8_t *value, size_t len, struct un_origin *ret)
{
	if (len <= HEADER || len > UN_ORIGIN_MAX)
		return -EINVAL;
	if (value[0] != VERSION || value[1] != MAGIC || value[2] > len || value[2] <= HEADER)
		return -EINVAL;
	if (value[3] & ~(FLAG_BIG_ENDIAN | FLAG_ANY_ENDIAN))
		return -EINVAL;
	if (!(value[3] & FLAG_ANY_ENDIAN) && (value[3] & FLAG_BIG_ENDIAN) != CPU_FLAGS)
		return -EINVAL;
	ret->type = value[4];
	memcpy(ret->uuid, value + 5, 16);
	ret->fid_len = (uint8_t)(value[2] - HEADER);
	memcpy(ret->fid, value + HEADER, ret->fid_len);
	return 0;
}

/* struct btrfs_fid: the object's number, then that of its subvolume. */
static uint64_t subvolume_in_fid(const struct un_origin *o)
{
	uint64_t q = 0;

	if (o->type >= FID_BTRFS && o->type <= FID_BTRFS_LAST && o->fid_len >= 16)
		memcpy(&q, o->fid + 8, sizeof(q));
	return q;
}

bool un_origin_is_of(const struct un_layer *l, const struct un_origin *o)
{
	return l->caps.handles && !l->twin && memcmp(l->uuid, o->uuid, sizeof(o->uuid)) == 0 &&
	       l->subvol == subvolume_in_fid(o);
}

uint64_t un_origin_subvolume(struct un_layer *l)
{
	uint8_t value[UN_ORIGIN_MAX];
	struct un_origin o;
	ssize_t n = un_origin_format(UN_AT(l, l->root, ""), value);

	return n > 0 && un_origin_parse(value, (size_t)n, &o) == 0 ? subvolume_in_fid(&o) : 0;
}

static uint64_t ino_in_fid(const struct un_origin *o)
{
	uint32_t w[3];
	uint64_t q;

	memcpy(w, o->fid, sizeof(w));
	memcpy(&q, o->fid, sizeof(q));
	if (o->type == FID_INO32_GEN && o->fid_len == 8)
		return w[0];
	if (o->type == FID_INO32_GEN && o->fid_len == 12)
		return w[1] | (uint64_t)w[2] << 32;
	if ((o->type == FID_INO64_GEN || o->type == FID_BTRFS) && o->fid_len >= 8)
		return q;
	return 0;
}

int un_origin_stat(struct un_layer *l, const struct un_origin *o, struct statx *ret)
{
	union handle fh = { 0 };
	un_autofd int fd = -1;

	memset(ret, 0, sizeof(*ret));
	ret->stx_ino = ino_in_fid(o);
	if (atomic_load_explicit(&l->no_handle_open, memory_order_relaxed))
		return ret->stx_ino ? 0 : -ENOENT;
	fh.h.handle_bytes = o->fid_len;
	fh.h.handle_type = o->type;
	memcpy(fh.h.f_handle, o->fid, o->fid_len);

	fd = l->ops->open_handle(l, &fh.h);
	if (fd < 0) {
		if (fd == -ESTALE)
			return -ESTALE;
		/* Not allowed in this mount; in that of another layer it may be. */
		if (fd == -EPERM)
			l->no_handle_open = true;
		return ret->stx_ino ? 0 : -ENOENT;
	}
	return l->ops->stat(l, fd, "", ret);
}
