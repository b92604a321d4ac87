/* SPDX-License-Identifier: GPL-2.0-or-later */
/* READDIR and READDIRPLUS. Opening and closing a directory is never heard of (OPENDIR = ENOSYS). */
#include "ahead_i.h"
#include "idle_i.h"
#include "notify_i.h"
#include "ops_i.h"
#include "reply_i.h"

#include "util/err.h"

#include <dirent.h>
#include <errno.h>
#include <linux/fuse.h>

struct filling {
	struct un_ops *ops;
	fuse_req_t req;
	char *buf;
	size_t size, used;
	bool plus;
};

/* Every entry that is given with its node is one more telling, but for "." and "..". */
static bool add_plus(struct filling *f, const struct un_dirent *e)
{
	struct fuse_entry_param p = { 0 };
	size_t room = f->size - f->used, need;

	if (e->inode) {
		un_entry_fill(f->ops, e->inode, e->st, &p);
	} else {
		p.attr.st_ino = un_shown_ino(f->ops, e->ino);
		p.attr.st_mode = (mode_t)DTTOIF(e->type);
	}
	need = fuse_add_direntry_plus(f->req, f->buf + f->used, room, e->name, &p,
				      (off_t)e->cookie);
	if (need > room)
		return false;
	f->used += need;
	if (e->inode) {
		un_inode_remember(f->ops->fs, e->inode);
		un_inode_put(f->ops->fs, e->inode);
	}
	return true;
}

static bool add(void *data, const struct un_dirent *e)
{
	struct filling *f = data;
	size_t room = f->size - f->used, need;
	struct stat st = { .st_ino = un_shown_ino(f->ops, e->ino),
			   .st_mode = (mode_t)DTTOIF(e->type) };

	if (f->plus)
		return add_plus(f, e);
	need = fuse_add_direntry(f->req, f->buf + f->used, room, e->name, &st, (off_t)e->cookie);
	if (need > room)
		return false;
	f->used += need;
	return true;
}

/*
 * What others changed while the listing was made is told to the kernel before it has the listing: none of its names
 * and attributes may be kept.
 */
static void keep_nothing(char *buf, size_t used)
{
	for (size_t at = 0; at + FUSE_NAME_OFFSET_DIRENTPLUS <= used;) {
		struct fuse_direntplus *d = (void *)(buf + at);

		d->entry_out.entry_valid = d->entry_out.attr_valid = 0;
		d->entry_out.entry_valid_nsec = d->entry_out.attr_valid_nsec = 0;
		at += FUSE_DIRENTPLUS_SIZE(d);
	}
}

static void answer(const struct filling *f)
{
	unsigned turn = un_notify_enter(f->ops);

	if (f->plus && !un_ops_is_current(f->ops))
		keep_nothing(f->buf, f->used);
	fuse_reply_buf(f->req, f->buf, f->used);
	un_notify_leave(f->ops, turn);
}

/*
 * The kernel keeps a listing when it is told that there is no more of it, and looks for changes at the directory's own
 * times only, which need not move when something comes into one of several layers. Of what is not watched it may not
 * keep it: what it has of it so far goes before it is told. That takes no lock of the directory's
 * (src/transport/README.md, Notifications).
 */
static void end_of_listing(const struct filling *f, fuse_ino_t ino, bool watched)
{
	if (f->used == 0 && !watched)
		un_ignore(fuse_lowlevel_notify_inval_inode(f->ops->se, ino, 0, 0));
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct un_ops *ops = un_ops_of(req);
	struct filling f = { .ops = ops, .req = req, .size = size, .plus = plus };
	struct un_inode *dir = un_node(req, ino);
	bool watched;
	int r;

	if (!dir)
		return;
	f.buf = un_ops_buffer(size);
	r = f.buf ? un_readdir(ops->fs, dir, (uint64_t)off, plus, add, &f) : -ENOMEM;
	watched = un_fs_dir_is_watched(ops->fs, dir);
	un_inode_told(dir, false);
	if (off == 0 && r == 0)
		un_ops_list_ahead(ops, dir, un_transport_raw()->pid);
	un_inode_put(ops->fs, dir);
	un_ops_opened(ops);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		end_of_listing(&f, ino, watched);
		answer(&f);
	}
	/* The kernel keeps the names, too, and cannot be told not to. */
	if (!un_ops_is_current(ops)) {
		un_transport_flush();
		un_notify_again(ops, ino);
	}
}

/*
 * Never asked again: the kernel keeps listings, and needs no handle (src/transport/README.md,
 * Opening and closing).
 */
void un_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	/* timeout=0: a merged directory may change without its own times telling. */
	if (un_ops_of(req)->timeout == 0)
		fuse_reply_open(req, fi);
	else
		fuse_reply_err(req, ENOSYS);
}

void un_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

void un_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}

void un_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	un_op_fsync(req, ino, datasync, fi);
}
