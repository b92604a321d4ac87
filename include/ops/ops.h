/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One FUSE request: decode, call the union, reply exactly once. */
#pragma once

#include "union/fs.h"
#include "transport/transport.h"

struct un_ops;

struct un_ops_config {
	double timeout; /* seconds the kernel may keep entries and attributes; <0 for ever */
	bool noxattrs;
	bool noacl;
	bool static_nlink;
	bool ino32;
	bool writeback;
	bool volatile_; /* FSYNC is answered ENOSYS */
	bool passthrough;       /* the kernel is asked for it ... */
	bool passthrough_asked; /* ... and so was the program */
	unsigned max_write;
	unsigned read_ahead; /* bytes; 0: what the kernel does by itself */
	unsigned max_background; /* requests that nobody waits for, at a time */
	/* Those in effect, "NAME=VALUE", for whoever asks; NULL at the end. Borrowed. */
	const char *const *options;
};

/* Borrows @fs. */
struct un_ops *un_ops_new(struct un_fs *fs, const struct un_ops_config *config);
void un_ops_free(struct un_ops *ops);

/* The table for fuse_session_new() (userdata: the struct un_ops) and the one for the transport. */
const struct fuse_lowlevel_ops *un_ops_table(void);
const struct un_transport_ops *un_ops_raw(void);

/* What un_transport_config.init_flags should hold. */
uint32_t un_ops_init_flags(const struct un_ops *ops);
/*
 * ... and init_flags2. @idmap: the mount may be idmapped; @permissions: the mount is known to have
 * default_permissions.
 */
uint32_t un_ops_init_flags2(const struct un_ops *ops, bool idmap, bool permissions);

/* After un_transport_new(), before un_transport_init(). */
void un_ops_attach(struct un_ops *ops, struct fuse_session *se, struct un_transport *transport);

/*
 * Files are passed through from now on, where they can be. To be called before un_transport_start(). 0;
 * -EOPNOTSUPP: the kernel does not offer it; -EPERM: the daemon may not.
 */
int un_ops_pass(struct un_ops *ops);

/* Before un_transport_start(), in the process that serves. 0, or -errno: a thread cannot be started. */
int un_ops_start(struct un_ops *ops);
/*
 * Let the kernel learn that opening asks nobody, before a user opens something. @path, @device: of the mount
 * (un_mount_device()); device 0: not known, then nothing is done. Waits for requests of its own, which the workers have to
 * serve. Where it fails, closing a file goes on to cost a request.
 */
void un_ops_open_first(struct un_ops *ops, const char *path, uint64_t device);
/* When no request is served any more, before un_ops_free(). */
void un_ops_stop(struct un_ops *ops);
