/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Origin: the handle of the lower object that an upper one was copied up from, in the kernel's
 * format (fuse-unionfs-format(5), ORIGINS): version, magic, length, flags, handle type, 16 bytes of
 * uuid, fid.
 */
#pragma once

#include "layer/layer.h"

#define UN_ORIGIN_MAX (21 + 128)

struct un_origin {
	uint8_t type;
	uint8_t uuid[16];
	uint8_t fid_len;
	uint8_t fid[128];
};

/*
 * The value for the object @name in @dirfd of lower @l ("" for the descriptor itself).
 * Returns its length, 0 where the file system has no handles ("copied up, origin unknown"), or
 * -errno.
 */
ssize_t un_origin_format(const struct un_at *at, uint8_t ret[UN_ORIGIN_MAX]);

/* The same for an object of the upper: the value of the index's own mark. */
ssize_t un_origin_format_upper(const struct un_at *at, uint8_t ret[UN_ORIGIN_MAX]);

/* The name of its entry in the index: lower-case hexadecimal, 2 * @len + 1 bytes. */
void un_origin_hex(const uint8_t *value, size_t len, char *ret);
/* The value back from that name: its length, or -EINVAL. */
ssize_t un_origin_unhex(const char *hex, uint8_t ret[UN_ORIGIN_MAX]);

/* 0, or -EINVAL: not an origin this machine can use (invalid, foreign, newer, empty). */
int un_origin_parse(const uint8_t *value, size_t len, struct un_origin *ret);

/*
 * Is it of the file system of lower @l? No for one that cannot be told from another lower's: uuids are
 * copied with images, and some file systems have none.
 */
bool un_origin_is_of(const struct un_layer *l, const struct un_origin *origin);
/* The number of the btrfs subvolume of the layer's root as handles have it; 0: another file system. */
uint64_t un_origin_subvolume(struct un_layer *l);

/*
 * Attributes of the origin, which lies on the file system of layer @l, as far as they can be had: with the
 * privilege the handle is opened, which gives all, and then -ESTALE says that it is gone; without it only
 * the number, taken from handles of the well-known file systems, with stx_nlink 0. -ENOENT: not even that.
 */
int un_origin_stat(struct un_layer *l, const struct un_origin *origin, struct statx *ret);
