/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LSEEK for data and holes. Dirty pages of a mapping (or of the write-back cache) are not in the file yet. They make a
 * difference only where the file has a hole: there, and nowhere else, the kernel is asked to write them first
 * (src/transport/README.md, Dirty pages). It drops the clean pages of the hole as well, which are nothing but zeros.
 *
 * Making the kernel write takes requests that workers serve. So it is not done by a worker: if all had such a seek in
 * hand nobody would be left to serve them.
 */
#include "ops_i.h"
#include "reply_i.h"

#include "util/err.h"

#include <errno.h>
#include <glib.h>
#include <unistd.h>

struct seek {
	struct un_ops *ops;
	struct un_inode *inode;
	fuse_req_t req;
	fuse_ino_t ino;
	off_t off;
	int whence;
	int device;
};

/* Where dirty pages may hide; @end 0: to the end of the file. */
struct gap {
	off_t start, end;
};

/* Behind the end there are no pages, unless the kernel has a longer file. */
static bool is_end(const struct seek *s, off_t at)
{
	return !s->ops->config.writeback && at >= un_lseek(s->ops->fs, s->inode, 0, SEEK_END);
}

/* May what the file says next to @at, the answer so far, be changed by dirty pages? Then in *ret. */
static bool is_unsure(const struct seek *s, off_t at, struct gap *ret)
{
	if (s->whence == SEEK_DATA && at == -ENXIO) {
		*ret = (struct gap){ s->off, 0 };
		return !is_end(s, s->off);
	}
	if (s->whence == SEEK_DATA) {
		*ret = (struct gap){ s->off, at };
		return at > s->off;
	}
	if (s->whence != SEEK_HOLE || at < 0 || is_end(s, at))
		return false;
	*ret = (struct gap){ at, MAX(0, un_lseek(s->ops->fs, s->inode, at, SEEK_DATA)) };
	return true;
}

static bool is_within(const struct gap *written, off_t at)
{
	return at >= written->start && (written->end == 0 || at < written->end);
}

/* Each round is further on in the file, or the last. */
static off_t seek_written(struct seek *s, off_t at, struct gap gap)
{
	struct gap written;

	do {
		written = gap;
		un_ignore(fuse_lowlevel_notify_inval_inode(s->ops->se, s->ino, gap.start,
							   gap.end ? gap.end - gap.start : 0));
		at = un_lseek(s->ops->fs, s->inode, s->off, s->whence);
	} while (s->whence == SEEK_HOLE && is_unsure(s, at, &gap) && !is_within(&written, at));
	return at;
}

static void reply(struct seek *s, off_t at)
{
	if (at < 0)
		fuse_reply_err(s->req, (int)-at);
	else
		fuse_reply_lseek(s->req, at);
	un_inode_put(s->ops->fs, s->inode);
}

struct job {
	struct seek seek;
	off_t at;
	struct gap gap;
};

static void seek_later(void *data)
{
	struct job *j = data;
	struct seek *s = &j->seek;

	un_transport_use_device(s->device);
	reply(s, seek_written(s, j->at, j->gap));
	un_transport_drop_device(s->device);
	g_free(j);
}

void un_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct seek s = {
		.ops = un_ops_of(req),
		.req = req,
		.ino = ino,
		.off = off,
		.whence = whence,
	};
	struct gap gap;
	struct job *j;
	off_t at;

	(void)fi;
	s.inode = un_node(req, ino);
	if (!s.inode)
		return;
	at = un_lseek(s.ops->fs, s.inode, off, whence);
	if (!is_unsure(&s, at, &gap)) {
		reply(&s, at);
		return;
	}
	j = g_new(struct job, 1);
	*j = (struct job){ .seek = s, .at = at, .gap = gap };
	j->seek.device = un_transport_keep_device();
	if (un_transport_run(s.ops->transport, seek_later, j))
		return;
	/* Pages that nobody is going to take do not get into the file, and who copies it must not miss them. */
	un_transport_drop_device(j->seek.device);
	g_free(j);
	reply(&s, -EIO);
}
