/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer/whiteout.h"

#include "util/err.h"
#include "util/fd.h"
#include "util/lock.h"

#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>

#define PREFIX ".wh."

enum kind {
	KIND_DEVICE,
	KIND_XATTR,
	KIND_BESIDE,
};

UN_ROLE(pool_role);

struct un_whiteout_pool {
	struct un_layer *upper; /* borrowed */
	_Atomic enum kind kind;
	int work; /* borrowed: where links are staged; nobody removes what is there (setup-work.c) */
	int dir;  /* borrowed: where the master is; may vanish */
	char *master;

	struct un_mutex lock;             /* one new master at a time, not one per thread */
	uint64_t seq UN_GUARDED_BY(pool_role); /* names the next staged link */
	bool have_master UN_GUARDED_BY(pool_role);
};
UN_LOCKS(struct un_whiteout_pool, lock, pool, pool_role);

struct un_whiteout_pool *un_whiteout_pool_new(struct un_layer *upper, int work, int dir,
					      const char *prefix)
{
	struct un_whiteout_pool *pool = g_new0(struct un_whiteout_pool, 1);

	pool->upper = upper;
	pool->kind = upper->caps.mknod_whiteout ? KIND_DEVICE
		     : upper->caps.xattr        ? KIND_XATTR
						: KIND_BESIDE;
	pool->work = work;
	pool->dir = dir;
	pool->master = g_strdup(prefix);
	un_mutex_init(&pool->lock);
	return pool;
}

struct un_whiteout_pool *un_whiteout_pool_free(struct un_whiteout_pool *pool)
{
	if (!pool)
		return NULL;
	pool_is_ours(pool);
	if (pool->have_master)
		un_ignore(pool->upper->ops->unlink(pool->upper, pool->dir, pool->master, 0));
	un_mutex_done(&pool->lock);
	g_free(pool->master);
	g_free(pool);
	return NULL;
}

bool un_whiteout_is_device(const struct un_whiteout_pool *pool)
{
	return pool->kind == KIND_DEVICE;
}

bool un_whiteout_is_beside(const struct un_whiteout_pool *pool)
{
	return pool->kind == KIND_BESIDE;
}

int un_whiteout_beside(struct un_layer *u, int dirfd, const char *name)
{
	char path[NAME_MAX + 1];
	int fd;

	if (strlen(name) + strlen(PREFIX) > NAME_MAX)
		return -ENAMETOOLONG;
	g_snprintf(path, sizeof(path), "%s%s", PREFIX, name);
	fd = u->ops->open(u, dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			  0644);
	if (fd < 0)
		return fd == -EEXIST ? 0 : fd;
	un_close(fd);
	return 0;
}

int un_whiteout_probe(const struct un_at *at, const struct statx *st)
{
	char c;
	ssize_t n;

	if (S_ISCHR(st->stx_mode))
		return st->stx_rdev_major == 0 && st->stx_rdev_minor == 0;
	if (!S_ISREG(st->stx_mode) || st->stx_size != 0)
		return 0;
	n = un_mark_get(at, UN_MARK_WHITEOUT, &c, 1);
	if (n >= 0 || n == -ERANGE)
		return 1;
	/* A file the daemon may not read shows no user xattr; it is not called a whiteout for that. */
	return n == -ENODATA || n == -EACCES || n == -EPERM ? 0 : (int)n;
}

/*
 * Devices no more, from a sandbox's thread for instance: marks do as well, and are where a device would be.
 * Those beside are elsewhere, which is not for one who has begun to find out.
 */
static bool is_refused(struct un_whiteout_pool *pool, int r)
{
	if (!pool->upper->caps.xattr ||
	    !un_cap_refused(pool->upper, &pool->upper->caps.mknod_whiteout, "mknod of a whiteout",
			    r))
		return false;
	/* In the work directory, and the index: there is no object that EPERM could be about. */
	pool->upper->caps.mknod_whiteout = false;
	pool->kind = KIND_XATTR;
	return true;
}

/* A new one beside the tree, where nobody sees it incomplete. */
static int make(struct un_whiteout_pool *pool, int dirfd, const char *name)
{
	struct un_layer *u = pool->upper;
	int r;

	if (pool->kind == KIND_DEVICE) {
		r = u->ops->mknod(u, dirfd, name, S_IFCHR, 0);
		if (!is_refused(pool, r))
			return r;
	}
	r = un_layer_make_file(u, dirfd, name, 0644);
	if (r < 0)
		return r;
	r = un_mark_set(UN_AT(u, dirfd, name), UN_MARK_WHITEOUT, "y", 1);
	if (r < 0)
		un_ignore(u->ops->unlink(u, dirfd, name, 0));
	return r;
}

void un_whiteout_announce(struct un_whiteout_pool *pool, int dirfd)
{
	char c;

	if (pool->kind == KIND_XATTR && dirfd != pool->work &&
	    un_mark_get(UN_AT(pool->upper, dirfd, ""), UN_MARK_OPAQUE, &c, 1) == -ENODATA)
		un_ignore(un_mark_set(UN_AT(pool->upper, dirfd, ""), UN_MARK_OPAQUE, "x", 1));
}

static int have_master_locked(struct un_whiteout_pool *pool) UN_REQUIRES(pool->lock, pool_role)
{
	int r;

	if (pool->have_master)
		return 0;
	r = make(pool, pool->dir, pool->master);
	pool->have_master = r == 0;
	return r;
}

static int link_locked(struct un_whiteout_pool *pool, int dirfd, const char *name)
	UN_REQUIRES(pool->lock, pool_role)
{
	struct un_layer *u = pool->upper;
	int r = 0;

	/* Without hard links each is an object of its own. */
	if (!u->caps.link)
		return make(pool, dirfd, name);
	/*
	 * Full, or somebody emptied the directory, as a mount that begins does with the index: start a
	 * new inode, and again if that is gone so soon.
	 */
	for (unsigned tries = 0; tries < 3; tries++) {
		r = have_master_locked(pool);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0) {
			r = u->ops->link(u, pool->dir, pool->master, dirfd, name);
			if (un_cap_refused(u, &u->caps.link, "link of a whiteout", r))
				return make(pool, dirfd, name);
		}
		if (r != -EMLINK && r != -ENOENT)
			break;
		un_ignore(u->ops->unlink(u, pool->dir, pool->master, 0));
		pool->have_master = false;
	}
	return r;
}

int un_whiteout_link(struct un_whiteout_pool *pool, int dirfd, const char *name)
{
	enum kind was;
	int r;

	if (pool->kind == KIND_BESIDE)
		return un_whiteout_beside(pool->upper, dirfd, name);
	un_whiteout_announce(pool, dirfd);
	was = pool->kind;
	pool_lock(pool);
	r = link_locked(pool, dirfd, name);
	pool_unlock(pool);
	if (pool->kind != was)
		un_whiteout_announce(pool, dirfd);
	return r;
}

int un_whiteout_place(struct un_whiteout_pool *pool, int dirfd, const char *name)
{
	struct un_layer *u = pool->upper;
	char tmp[128];
	int r;

	if (pool->kind == KIND_BESIDE) {
		r = un_whiteout_beside(u, dirfd, name);
		return r < 0 ? r : u->ops->unlink(u, dirfd, name, 0);
	}
	pool_lock(pool);
	g_snprintf(tmp, sizeof(tmp), "%s.%" PRIx64, pool->master, pool->seq++);
	r = link_locked(pool, pool->work, tmp);
	pool_unlock(pool);
	if (r < 0)
		return r;

	un_whiteout_announce(pool, dirfd);
	r = u->ops->rename(u, pool->work, tmp, dirfd, name, 0);
	/*
	 * rename() of one link of an inode over another succeeds without doing anything, and that is
	 * our case when @name is a whiteout already. So tmp goes on success too.
	 */
	un_ignore(u->ops->unlink(u, pool->work, tmp, 0));
	return r;
}
