/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of `fuse-unionfs ctl`: a handler gets a call and answers it once, from any thread. */
#pragma once

#include "ops_i.h"
#include "util/ctl-wire.h"

#include <glib.h>

struct un_ctl_call {
	struct un_ops *ops;
	fuse_req_t req;
	int device;   /* of the answer, for another thread than the worker's */
	char **words; /* the command and its arguments, NULL at the end */
	unsigned n;   /* how many */
};

/* Answers, and frees the call; @text is taken over, NULL: none. */
void un_ctl_reply(struct un_ctl_call *call, enum un_ctl_status status, char *text);
/* Without a call: the part at @offset of an answer that was longer. */
void un_ctl_reply_part(fuse_req_t req, uint64_t token, uint64_t offset);

/* What is kept of answers that were not fetched to the end. */
struct un_ctl_kept;
struct un_ctl_kept *un_ctl_kept_new(void);
void un_ctl_kept_free(struct un_ctl_kept *kept);

/* The commands. */
void un_ctl_status(struct un_ctl_call *call);
void un_ctl_log(struct un_ctl_call *call);
void un_ctl_drop(struct un_ctl_call *call);
/* ctl-lower.c */
void un_ctl_lower(struct un_ctl_call *call);
/* ctl-sync.c */
void un_ctl_sync(struct un_ctl_call *call);

/* src/ops/ctl.c */
void un_op_ctl(fuse_req_t req, fuse_ino_t ino, const void *in, size_t in_size);
