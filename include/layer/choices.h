/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user may choose of layers: values as the command line has them, with the sense they have where
 * they take effect. This header includes no other: cli/ may use it (tests/rooms.py).
 */
#pragma once

/* Lowers, data-only layers among them. */
#define UN_MAX_LOWERS 500

/* fs-verity digests in metacopy files. */
enum un_verity {
	UN_VERITY_OFF,
	UN_VERITY_ON,      /* check one that a metacopy file has; write one if the data has it */
	UN_VERITY_REQUIRE, /* and neither read nor make a metacopy file without */
};

/* Where owner and mode are kept, if not in the inode. */
enum un_override {
	UN_OVERRIDE_NONE,
	UN_OVERRIDE_SECURITY, /* security.fuseoverlayfs.override_stat: takes root */
	UN_OVERRIDE_USER,     /* user.containers.override_stat */
};

/* What is done about changes that others make in layers. */
enum un_cache {
	UN_CACHE_AUTO,      /* they are watched for: what is remembered stays true */
	UN_CACHE_IMMUTABLE, /* there are none, by promise */
	UN_CACHE_NONE,      /* nothing is remembered: every access asks */
};
