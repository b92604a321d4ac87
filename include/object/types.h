/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What callers describe a request with, at every storey. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/*
 * Who asks. Where the mount may be idmapped the kernel tells ids only with requests that make something,
 * and then those on the layer's side of the mapping; with others they are UN_NO_ID.
 */
#define UN_NO_ID ((uid_t)-1)
struct un_cred {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* 0: the kernel itself */
};

#define UN_ROOT_ID 1

/*
 * A notice to the kernel: the daemon has changed something that the kernel has cached and did not
 * ask to change. Called inside requests, possibly with locks held, so it must not wait for another
 * request.
 */
enum un_stale {
	UN_STALE_ATTRS,   /* attributes */
	UN_STALE_LISTING, /* the numbers in the listing of a directory as well */
};
typedef void (*un_stale_fn)(void *data, uint64_t id, enum un_stale what);

/* @mode with type; @umask applies unless a default ACL says otherwise. */
struct un_create {
	mode_t mode;
	mode_t umask;
	dev_t rdev;         /* devices */
	const char *target; /* symlinks */
};

enum un_setattr_valid {
	UN_SET_MODE = 1 << 0,
	UN_SET_UID = 1 << 1,
	UN_SET_GID = 1 << 2,
	UN_SET_SIZE = 1 << 3,
	UN_SET_ATIME = 1 << 4,
	UN_SET_MTIME = 1 << 5,
	UN_SET_ATIME_NOW = 1 << 6,
	UN_SET_MTIME_NOW = 1 << 7,
	UN_SET_KILL = 1 << 8, /* clear set-id bits as for a change by this caller */
	UN_SET_WRITTEN = 1 << 15, /* mtime: that of writes the kernel kept for a while, not set by hand */
};
struct un_setattr {
	unsigned valid;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	off_t size;
	struct timespec atime, mtime;
};

/*
 * Told when others have changed a layer, after the union knows: what the kernel has is to be dropped. Called
 * from any thread, without locks but for the ns of directories; must not wait for a request.
 */
enum un_change_what {
	UN_CHANGE_NAME,  /* @name in the directory @dir may be another object, or none */
	UN_CHANGE_GONE, /* the same, and it will not be what it was again: the kernel is to let that go */
	UN_CHANGE_ATTRS, /* attributes and extended attributes of the inode @dir */
	UN_CHANGE_SELF, /* what the names of the inode mean may be another one, and all of the below */
	UN_CHANGE_TREE, /* the same of a directory, and of all that is in it, at any depth */
	UN_CHANGE_DATA, /* the same, and its data, or the listing of a directory */
	UN_CHANGE_LEFT, /* of all names in the directory, and the attributes behind them: nobody watches it any more */
	UN_CHANGE_MISSING, /* there are names for un_known_missing_take() */
	UN_CHANGE_ALL,     /* of everything, but for what un_known_missing() has */
};
struct un_change {
	enum un_change_what what;
	uint64_t id;      /* of the directory, or the inode */
	const char *name; /* with UN_CHANGE_NAME, UN_CHANGE_GONE; else NULL */
};
/* See un_fs_on_later(). */
typedef void (*un_run_fn)(void *data, void (*fn)(void *arg), void *arg);
typedef void (*un_change_fn)(void *data, const struct un_change *c);
