/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "object/writeback.h"
#include "layer/layer.h"
#include "object/fdcache.h"
#include "object/later.h"
#include "object/object.h"
#include "util/fd.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct failure {
	uint64_t dev, ino;
	int err;
	off_t anew; /* written anew up to there */
};

UN_ROLE(failures_role);

struct un_failures {
	struct un_mutex lock; /* a leaf */
	GHashTable *set UN_GUARDED_BY(failures_role);
	atomic_uint n;
};
UN_LOCKS(struct un_failures, lock, failures, failures_role);

static guint failure_hash(gconstpointer p)
{
	const struct failure *f = p;

	return g_int64_hash(&f->ino);
}

static gboolean failure_equal(gconstpointer a, gconstpointer b)
{
	const struct failure *x = a, *y = b;

	return x->ino == y->ino && x->dev == y->dev;
}

/* The file system has not tried to write, or does not sync at all: nothing is known to be lost. */
static bool is_harmless(int err)
{
	switch (-err) {
	case EINVAL:
	case ENOSYS:
	case ENOTTY:
	case EOPNOTSUPP:
	case EROFS:
	case EBADF:
	case EINTR:
	case ENOMEM:
	case EACCES:
	case EPERM:
		return true;
	default:
		return false;
	}
}

void un_writeback_failed(struct un_fs *fs, int fd, int err)
{
	struct failure *new, *old;
	struct statx st = { 0 };

	if (is_harmless(err) || fs->upper->ops->stat(fs->upper, fd, "", &st) < 0)
		return;
	new = g_new0(struct failure, 1);
	*new = (struct failure){ .dev = un_stx_dev(&st), .ino = st.stx_ino, .err = err };
	failures_lock(fs->failures);
	old = g_hash_table_lookup(fs->failures->set, new);
	if (old) {
		old->err = err;
		old->anew = 0;
		g_free(new);
	} else {
		g_hash_table_add(fs->failures->set, new);
		fs->failures->n++;
	}
	failures_unlock(fs->failures);
	if (!old)
		un_log(LOG_ERR,
		       "data of a file (inode %" G_GUINT64_FORMAT
		       " of the upper) could not be written to disk: %s; every fsync of it will say "
		       "so until all of it is written anew",
		       (uint64_t)st.stx_ino, g_strerror(-err));
}

int un_writeback_ok(struct un_fs *fs, const struct un_inode *inode, int fd)
{
	struct failure key = { .dev = inode->dev, .ino = inode->rino }, *f;
	struct statx st;
	int r = 0;

	if (fs->failures->n == 0)
		return 0;
	if (fs->upper->ops->stat(fs->upper, fd, "", &st) < 0)
		st.stx_size = UINT64_MAX;
	failures_lock(fs->failures);
	f = g_hash_table_lookup(fs->failures->set, &key);
	if (f && st.stx_size <= (uint64_t)f->anew) {
		g_hash_table_remove(fs->failures->set, f);
		fs->failures->n--;
	} else if (f) {
		r = f->err;
	}
	failures_unlock(fs->failures);
	return r;
}

bool un_writeback_has_failed(struct un_fs *fs, const struct un_inode *inode)
{
	struct failure key = { .dev = inode->dev, .ino = inode->rino };
	bool failed;

	if (fs->failures->n == 0)
		return false;
	failures_lock(fs->failures);
	failed = g_hash_table_contains(fs->failures->set, &key);
	failures_unlock(fs->failures);
	return failed;
}

void un_writeback_anew(struct un_fs *fs, const struct un_inode *inode, off_t off, size_t size)
{
	struct failure key = { .dev = inode->dev, .ino = inode->rino }, *f;

	if (fs->failures->n == 0 || size == 0)
		return;
	failures_lock(fs->failures);
	f = g_hash_table_lookup(fs->failures->set, &key);
	if (f && off <= f->anew)
		f->anew = MAX(f->anew, off + (off_t)size);
	failures_unlock(fs->failures);
}

void un_writeback_forget(struct un_fs *fs, uint64_t dev, uint64_t ino)
{
	struct failure key = { .dev = dev, .ino = ino };

	if (fs->failures->n == 0)
		return;
	failures_lock(fs->failures);
	if (g_hash_table_remove(fs->failures->set, &key))
		fs->failures->n--;
	failures_unlock(fs->failures);
}

static int reopen(void *data, int fd)
{
	struct un_fs *fs = data;

	return fs->upper->ops->open(fs->upper, fd, "", O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
}

static void closing(void *data, int fd)
{
	struct un_fs *fs = data;
	int r = fs->upper->ops->wb_error(fs->upper, fd);

	if (r < 0)
		un_writeback_failed(fs, fd, r);
}

static void close_now(struct un_fs *fs, void *data)
{
	(void)fs;
	un_close(GPOINTER_TO_INT(data));
}

static void close_later(void *data, int fd)
{
	un_later(data, close_now, GINT_TO_POINTER(fd));
}

static const struct un_fdcache_ops fd_ops = {
	.reopen = reopen,
	.closing = closing,
	.close_later = close_later,
};

void un_writeback_init(struct un_fs *fs)
{
	fs->failures = g_new0(struct un_failures, 1);
	un_mutex_init(&fs->failures->lock);
	failures_is_ours(fs->failures);
	fs->failures->set = g_hash_table_new_full(failure_hash, failure_equal, g_free, NULL);
	un_fdcache_set_ops(fs->fds, &fd_ops, fs);
}

void un_writeback_done(struct un_fs *fs)
{
	failures_is_ours(fs->failures);
	g_hash_table_destroy(fs->failures->set);
	un_mutex_done(&fs->failures->lock);
	g_free(fs->failures);
}
