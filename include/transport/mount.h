/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a mountpoint to a mount and back, by mount(2) or fusermount3. What libfuse and fusermount3
 * print on the way becomes one sentence. Before any thread exists, except un_unmount().
 */
#pragma once

#include "transport/transport.h"
#include "util/label.h"

#include <stdbool.h>
#include <stdint.h>

struct un_mount;

/*
 * Finds out early what would make the mount fail: a @mountpoint that is no directory, /dev/fuse
 * missing or closed to us. It is made absolute; "/dev/fd/N" is a descriptor of /dev/fuse that the
 * caller has opened (and mounts). Changes nothing. NULL and a sentence in *ret_err on failure.
 */
struct un_mount *un_mount_new(const char *mountpoint, char **ret_err);
void un_mount_free(struct un_mount *m);

struct un_session_request {
	const char *fsname, *subtype; /* any text */
	const char *mount_opts;       /* comma separated */
	const char *labels[UN_LABELS]; /* NULL: none */
	bool auto_unmount;
	const struct fuse_lowlevel_ops *table;
	void *userdata;
};

/* fuse_session_new() with default_permissions. From now on libfuse talks through un_log(). */
struct fuse_session *un_mount_session(const struct un_session_request *req, char **ret_err);

/* fuse_session_mount(). 0, or -1 and a sentence; then nothing is mounted. */
int un_mount(struct un_mount *m, struct fuse_session *se, char **ret_err);

/* Where it is mounted: an absolute path, or /dev/fd/N. */
const char *un_mount_path(const struct un_mount *m);
/* The device number of what un_mount() has mounted, MAJOR << 32 | MINOR; 0: not known. */
uint64_t un_mount_device(const struct un_mount *m);
/*
 * Let the kernel read ahead @bytes in files of the mount, if that is more than it agreed to at INIT, before which this must
 * not be called. A warning where it cannot be set.
 */
void un_mount_read_ahead(const struct un_mount *m, unsigned bytes);
/* Was /dev/fd/N given: somebody else mounts, with options we do not know? */
bool un_mount_inherited(const struct un_mount *m);

/*
 * Unmount lazily: gone from the tree at once, the connection ends when nobody uses it any more. Only
 * the first call counts, and only what un_mount() mounted is unmounted, never what has come to the
 * same place since; also where it was moved to. @t, if given, must be served by other threads; where
 * unmounting is not in our power (no permission, a mount made by somebody else, covered by another one)
 * its workers are made to end instead.
 * @flush: syncfs first, for data that only the kernel has. Accepts NULL.
 */
void un_unmount(struct un_mount *m, struct un_transport *t, bool flush);

/*
 * Nobody serves @se any more: unmount if that has not happened (the workers may have ended by an
 * error), and free it, which closes the device. Free the transport first.
 */
void un_mount_end(struct un_mount *m, struct fuse_session *se);
