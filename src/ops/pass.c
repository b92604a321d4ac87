/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which open files are passed through. The kernel has an inode open in one way at a time, by its own page cache or
 * by the layer's file, and takes one number for that file: to mix them is EIO for who opens. So opens are counted
 * for each inode, from before the answer until RELEASE, which the kernel sends when it has let go:
 *
 *   nobody has it open      ->  passed through, if that can be; else cached
 *   some have it cached     ->  cached
 *   some are passed through ->  passed through, by the same number
 *
 * No lock is held while a layer is asked: what two threads find at the same time is decided when they are counted.
 */
#include "pass_i.h"
#include "reply_i.h"

#include "transport/wire.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>

/* In the handle: how it was counted. */
#define CACHED 1u
#define PASSED 2u
#define WRITER 4u

UN_ROLE(passing_role);

struct opened {
	uint64_t id;
	struct un_inode *inode; /* a reference */
	unsigned cached, passed;
	int backing; /* while passed > 0 */
};

struct un_passing {
	struct un_mutex lock; /* encloses the table of inodes, and nothing else */
	GHashTable *opened UN_GUARDED_BY(passing_role); /* struct opened, by id */
	atomic_bool said;
};
UN_LOCKS(struct un_passing, lock, passing, passing_role);

int un_ops_pass(struct un_ops *ops)
{
	struct un_passing *p;
	int r = un_transport_try_backing(ops->transport);

	if (r < 0)
		return r;
	p = g_new0(struct un_passing, 1);
	un_mutex_init(&p->lock);
	passing_is_ours(p);
	p->opened = g_hash_table_new(g_int64_hash, g_int64_equal);
	ops->passing = p;
	return 0;
}

void un_ops_pass_done(struct un_ops *ops)
{
	struct un_passing *p = ops->passing;
	GHashTableIter it;
	gpointer o;

	if (!p)
		return;
	/* What was open when the connection ended. */
	passing_is_ours(p);
	g_hash_table_iter_init(&it, p->opened);
	while (g_hash_table_iter_next(&it, NULL, &o)) {
		un_inode_put(ops->fs, ((struct opened *)o)->inode);
		g_free(o);
	}
	g_hash_table_destroy(p->opened);
	un_mutex_done(&p->lock);
	g_free(p);
	ops->passing = NULL;
}

/* ---- a file the kernel may open ----------------------------------------------------------------------- */

struct backing {
	struct un_ops *ops;
	int id;
};

static int make_backing(void *data, int fd)
{
	struct backing *b = data;

	b->id = un_transport_backing_open(b->ops->transport, fd);
	if (b->id < 0 && !atomic_exchange(&b->ops->passing->said, true))
		un_log(b->ops->config.passthrough_asked ? LOG_INFO : LOG_DEBUG,
		       "a file cannot be passed through, and is read and written by requests, as others may be: %s",
		       b->id == -ELOOP ? "its layer is on a file system that is stacked on another"
				       : strerrordesc_np(-b->id));
	return MIN(b->id, 0);
}

/* ---- counting ------------------------------------------------------------------------------------------ */

enum way {
	UNDECIDED,
	BY_CACHE,
	BY_PASSING,
};

struct choice {
	enum way way;
	int backing; /* BY_PASSING */
};

/* What asking came to: 0, -errno, or: */
#define NOT_ASKED 1

static enum way way_of(struct un_passing *p, uint64_t id)
{
	const struct opened *o;
	enum way way;

	passing_lock(p);
	o = g_hash_table_lookup(p->opened, &id);
	way = !o ? UNDECIDED : o->cached ? BY_CACHE : BY_PASSING;
	passing_unlock(p);
	return way;
}

static struct opened *get_locked(struct un_ops *ops, struct un_inode *inode)
	UN_REQUIRES(passing_role)
{
	uint64_t id = un_inode_id(inode);
	struct opened *o = g_hash_table_lookup(ops->passing->opened, &id);

	if (o)
		return o;
	o = g_new0(struct opened, 1);
	o->id = id;
	o->inode = un_inode_get(ops->fs, id);
	g_hash_table_insert(ops->passing->opened, &o->id, o);
	return o;
}

/*
 * @asked: what asking came to, which counts for what is passed through already if @must. *@backing is taken over,
 * or left for the caller to close. 0; -EAGAIN: it has to be asked; or -errno: it cannot be opened.
 */
static int count(struct un_ops *ops, struct un_inode *inode, int asked, bool must, int *backing,
		 struct choice *ret)
{
	struct opened *o;
	int r = 0;

	passing_lock(ops->passing);
	o = get_locked(ops, inode);
	*ret = (struct choice){ .way = BY_CACHE };
	if (o->passed > 0) {
		ret->way = BY_PASSING;
		r = !must ? 0 : asked == NOT_ASKED ? -EAGAIN : asked;
	} else if (o->cached == 0 && asked == 0 && *backing > 0) {
		ret->way = BY_PASSING;
		o->backing = *backing;
		*backing = 0;
	}
	ret->backing = o->backing;
	if (r == 0 && ret->way == BY_PASSING)
		o->passed++;
	else if (r == 0)
		o->cached++;
	passing_unlock(ops->passing);
	return r;
}

/* Asks what has to be asked, and counts. */
static int choose(struct un_ops *ops, struct un_inode *inode, int flags, struct choice *ret)
{
	const bool must = (flags & O_ACCMODE) != O_RDONLY || (flags & O_DIRECT);
	int r;

	do {
		struct backing b = { .ops = ops };
		enum way way = way_of(ops->passing, un_inode_id(inode));
		int asked = NOT_ASKED;

		if (way == UNDECIDED)
			asked = un_pass(ops->fs, inode, flags, make_backing, &b);
		else if (way == BY_PASSING && must)
			asked = un_pass(ops->fs, inode, flags, NULL, NULL);
		r = count(ops, inode, asked, must, &b.id, ret);
		if (b.id > 0)
			un_transport_backing_close(ops->transport, b.id);
	} while (r == -EAGAIN);
	return r == -EOPNOTSUPP ? -EIO : r;
}

int un_pass_begin(struct un_ops *ops, struct un_inode *inode, int flags,
		  struct un_wire_open_out *ret)
{
	struct choice choice;
	int r;

	*ret = (struct un_wire_open_out){
		.open_flags = UN_WIRE_OPEN_NOFLUSH | UN_WIRE_OPEN_KEEP_CACHE,
	};
	if (!ops->passing)
		return 0;
	r = choose(ops, inode, flags, &choice);
	if (r < 0)
		return r;
	ret->fh = CACHED;
	if (choice.way != BY_PASSING) {
		/* Asked once it is counted: who has passed it before has said so, and nobody will now. */
		if (un_pass_was(inode))
			ret->open_flags &= ~UN_WIRE_OPEN_KEEP_CACHE;
		return 0;
	}
	ret->fh = PASSED | ((flags & O_ACCMODE) != O_RDONLY ? WRITER : 0);
	ret->open_flags = UN_WIRE_OPEN_NOFLUSH | UN_WIRE_OPEN_PASSTHROUGH;
	ret->backing_id = choice.backing;
	if (un_pass_opened(ops->fs, inode, flags))
		un_ops_stale(ops, un_inode_id(inode));
	return 0;
}

/* Nobody has it open so any more: the number to be closed, or 0. */
static int uncount_locked(struct opened *o, uint64_t fh)
{
	int backing;

	if (fh & CACHED)
		o->cached--;
	else
		o->passed--;
	if (o->passed > 0)
		return 0;
	backing = o->backing;
	o->backing = 0;
	return backing;
}

void un_pass_end(struct un_ops *ops, uint64_t id, uint64_t fh)
{
	struct un_passing *p = ops->passing;
	struct opened *o;
	bool last;
	int backing;

	if (!p || !(fh & (CACHED | PASSED)))
		return;
	passing_lock(p);
	o = g_hash_table_lookup(p->opened, &id);
	backing = o ? uncount_locked(o, fh) : 0;
	if (o && (fh & WRITER))
		un_pass_closed(ops->fs, o->inode);
	last = o && o->cached == 0 && o->passed == 0;
	if (last)
		g_hash_table_remove(p->opened, &id);
	passing_unlock(p);
	if (backing > 0)
		un_transport_backing_close(ops->transport, backing);
	if (last) {
		un_inode_put(ops->fs, o->inode);
		g_free(o);
	}
}
