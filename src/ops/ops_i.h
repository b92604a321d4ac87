/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "union/union.h"
#include "ops/ops.h"

#include "transport/wire.h"

#include <stdatomic.h>

struct un_ahead;
struct un_notifier;
struct un_passing;

struct un_ops {
	struct un_fs *fs; /* borrowed */
	struct fuse_session *se;
	struct un_transport *transport;
	struct un_ops_config config;
	double timeout;
	struct un_ahead *ahead;
	struct un_notifier *notifier; /* notify.c; NULL: nothing is watched */
	int64_t started;              /* g_get_monotonic_time() */
	struct un_ctl_kept *kept;
	struct un_passing *passing; /* pass.c; NULL: no passthrough, and opening asks nobody */
	_Atomic(const char *) first_open; /* first-open.c: the name, while it is asked for */
	atomic_bool closing; /* the helper thread looks after descriptors for reading */
	atomic_bool ticking; /* ... after writable ones, and does other housekeeping */
};

/* The handlers, by file. */
void un_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void un_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void un_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);

/* Accepts that there is none. */
void un_ops_pass_done(struct un_ops *ops);

/* Is it what un_ops_open_first() looks for, which no layer has? */
bool un_first_open_is(struct un_ops *ops, uint64_t parent, const char *name);
void un_first_open_reply(fuse_req_t req);

void un_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void un_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int valid,
		   struct fuse_file_info *fi);
void un_op_readlink(fuse_req_t req, fuse_ino_t ino);
void un_op_statfs(fuse_req_t req, fuse_ino_t ino);
void un_raw_statx(void *data, struct un_raw_req *req, uint64_t node);

void un_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void un_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi);
void un_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi);
void un_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

void un_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void un_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void un_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void un_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi);
void un_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void un_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void un_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void un_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		  const char *newname, unsigned flags);
void un_raw_tmpfile(void *data, struct un_raw_req *req, uint64_t dir,
		    const struct un_wire_create_in *in);

void un_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void un_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void un_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void un_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void un_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		 struct fuse_file_info *fi);
void un_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void un_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		     struct fuse_file_info *fi);
void un_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void un_op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off,
			   struct fuse_file_info *fi_in, fuse_ino_t out, off_t out_off,
			   struct fuse_file_info *fi_out, size_t size, int flags);

void un_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void un_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void un_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		    size_t size, int flags);
void un_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

void un_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
		 unsigned flags, const void *in, size_t in_size, size_t out_size);
