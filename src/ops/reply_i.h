/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "ops_i.h"

struct un_wire_attr;

/* For handlers: the struct of the mount, and the caller of the request. */
struct un_ops *un_ops_of(fuse_req_t req);
struct un_cred un_cred_of(fuse_req_t req);
/* The inode of a request: a reference, or NULL after having answered -ESTALE. */
struct un_inode *un_node(fuse_req_t req, fuse_ino_t ino);

/* A request begins that does not ask for an inode by un_node(): what others have changed so far is seen. */
void un_ops_begin(struct un_ops *ops);
/* Has nobody changed a layer since the request in hand began? */
bool un_ops_is_current(const struct un_ops *ops);
/* What is not watched is true for a second. */
#define UN_UNWATCHED 1.0
/* Seconds that the kernel may keep an answer; to be asked between un_notify_enter() and un_notify_leave(). */
double un_ops_keep(const struct un_ops *ops, bool watched);

/* @r: 0 or -errno. */
void un_reply_status(fuse_req_t req, int r);
/* @r < 0: answers the error; else the entry, which the kernel then holds, and consumes @inode. */
void un_reply_entry(fuse_req_t req, int r, struct un_inode *inode, const struct statx *st);
void un_reply_attr(fuse_req_t req, int r, struct un_inode *inode, const struct statx *st);
/* An inode number and a link count as the options ino32_t and static_nlink want them. */
uint64_t un_shown_ino(const struct un_ops *ops, uint64_t ino);
uint32_t un_shown_nlink(const struct un_ops *ops, const struct statx *st);
void un_entry_fill(struct un_ops *ops, struct un_inode *inode, const struct statx *st,
		   struct fuse_entry_param *ret);
void un_wire_attr_from(const struct un_ops *ops, const struct statx *st, struct un_wire_attr *ret);
/* A buffer of this thread, at least @size bytes; NULL: no memory. */
void *un_ops_buffer(size_t size);
/* The kernel has attributes that are not true any more. Allowed inside a request. */
void un_ops_stale(struct un_ops *ops, uint64_t id);
