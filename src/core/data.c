/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metacopy files: the object has attributes, names and a size, its data is in a layer below until the
 * first change of it. Then it is copied into the file that is there already, and the mark goes last:
 *
 *   META --copy data, restore times and what a write took away, fsync--> META --remove mark--> whole
 *
 * After a crash between, the mark is there and the data below is what counts; time of modification and
 * capabilities, which the first write takes, are lost then.
 */
#include "core_i.h"
#include "sync_i.h"

#include "util/copy.h"

#include <linux/fsverity.h>
#include <linux/limits.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

struct un_data *un_data_new(const struct un_found *f, const char *name)
{
	const struct un_hit *h = f->data;
	struct un_data *data;

	if (!f->metacopy)
		return NULL;
	data = g_new0(struct un_data, 1);
	data->path = g_strdup(f->data_path);
	data->redirect = g_strdup(f->redirect);
	/* Not looked for yet: as many blocks as a file without holes has. */
	data->blocks = (f->hits[0].st.stx_size + 511) / 512;
	data->lower_links = f->hits[0].st.stx_nlink > 1 || (h && h->st.stx_nlink > 1);
	if (!h)
		return data;
	data->layer = h->layer;
	data->rdir = un_realdir_ref(h->dir);
	data->rname = g_ref_string_new(h->name ? h->name : name);
	data->dev = un_stx_dev(&h->st);
	data->rino = h->st.stx_ino;
	data->blocks = h->st.stx_blocks;
	return data;
}

void un_data_free(struct un_fs *fs, struct un_data *data)
{
	if (!data)
		return;
	un_fdcache_clear(fs->fds, &data->io);
	un_realdir_put(fs, data->rdir);
	if (data->rname)
		g_ref_string_release(data->rname);
	g_free(data->path);
	g_free(data->redirect);
	g_free(data);
}

/* ---- where it is ---------------------------------------------------------------------------------- */

/* A path below the root of a layer with data only: no symlinks, no sub-mounts, a regular file. */
static int open_path(struct un_fs *fs, struct un_layer *l, const char *path)
{
	un_autofd int dir = -1;

	for (const char *p = path + 1;;) {
		size_t n = strcspn(p, "/");
		char name[NAME_MAX + 1];
		int at = dir >= 0 ? dir : l->root, fd;

		if (n > NAME_MAX)
			return -ENAMETOOLONG;
		g_strlcpy(name, p, n + 1);
		if (!p[n])
			return un_open_retry(fs, l, at, name,
					     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
		fd = un_open_retry(fs, l, at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
				   0);
		if (fd < 0)
			return fd;
		un_close(dir);
		dir = fd;
		p += n + 1;
	}
}

static bool is_missing(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV || r == -ENAMETOOLONG;
}

/* The first of the layers with data only that has it. */
static int open_data_only(struct un_fs *fs, struct un_data *data)
{
	struct un_layers *ls = fs->layers;

	for (unsigned i = ls->n + 1; i <= ls->n + ls->n_data; i++) {
		struct un_layer *l = &ls->v[i];
		un_autofd int fd = open_path(fs, l, data->path);
		struct statx st;

		if (fd < 0) {
			if (!is_missing(fd))
				return fd;
			continue;
		}
		if (l->ops->stat(l, fd, "", &st) == 0 && S_ISREG(st.stx_mode))
			return un_take_fd(&fd);
	}
	if (!data->said)
		un_log(LOG_ERR, "data of a file is in none of the layers with data only: %s",
		       data->path);
	data->said = true;
	return -ENOENT;
}

static int open_data(struct un_fs *fs, struct un_data *data)
{
	struct un_layer *l = data->layer;
	struct un_fd *dir;
	struct statx st;
	int r;

	if (data->path)
		return open_data_only(fs, data);
	r = un_realdir_open(fs, data->rdir, &dir);
	if (r < 0)
		return r;
	un_autofd int fd = un_open_retry(fs, l, dir->fd, data->rname,
					 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);

	un_fdcache_put(fs->fds, dir);
	r = fd < 0 ? fd : l->ops->stat(l, fd, "", &st);
	if (r == 0 && S_ISREG(st.stx_mode) && un_is_same(l, &st, data->dev, data->rino))
		return un_take_fd(&fd);
	if (r < 0 && !is_missing(r))
		return r;
	if (!data->said)
		un_log(LOG_ERR, "data of a file is not in its lower layer any more: %s: .../%s",
		       l->path, data->rname);
	data->said = true;
	return -EIO;
}

/* ---- digests ---------------------------------------------------------------------------------------- */

ssize_t un_data_digest(int fd, uint8_t *ret)
{
	union {
		struct fsverity_digest d;
		char room[sizeof(struct fsverity_digest) + UN_META_MAX - 4];
	} v = { .d.digest_size = UN_META_MAX - 4 };

	if (ioctl(fd, FS_IOC_MEASURE_VERITY, &v.d) < 0)
		return -errno;
	ret[0] = 0;
	ret[1] = (uint8_t)(4 + v.d.digest_size);
	ret[2] = 0;
	ret[3] = (uint8_t)v.d.digest_algorithm;
	memcpy(ret + 4, v.d.digest, v.d.digest_size);
	return ret[1];
}

/* Does the metacopy file's mark tell of the data @fd what fs-verity does? 0 or -EIO. */
static int check_digest(struct un_fs *fs, struct un_inode *inode, int fd)
{
	uint8_t told[UN_META_MAX], is[UN_META_MAX];
	ssize_t n, m;
	struct un_at at;
	int r = un_at_locked(fs, inode, &at);

	if (r < 0)
		return r;
	n = un_mark_get(at.layer, fs->layers->dialect, at.dirfd, at.name, UN_MARK_METACOPY, told,
			sizeof(told));
	un_at_done(fs, &at);
	if (n < 0)
		return (int)n;
	if (n <= 4 && fs->digests == UN_DIGESTS_CHECK)
		return 0;
	m = n <= 4 ? -ENODATA : un_data_digest(fd, is);
	if (m == n && memcmp(told, is, (size_t)n) == 0)
		return 0;
	un_log(LOG_ERR, "verity: inode %" G_GUINT64_FORMAT ": %s", inode->ino,
	       n <= 4  ? "the file tells no digest of its data"
	       : m < 0 ? "its data has no digest of fs-verity"
		       : "its data has another digest than it tells");
	return -EIO;
}

int un_data_get_locked(struct un_fs *fs, struct un_inode *inode, struct un_fd **ret)
{
	struct un_data *data = inode->data;
	int fd, r;

	*ret = un_fdcache_get(fs->fds, &data->io, UN_FD_READ);
	if (*ret)
		return 0;
	fd = open_data(fs, data);
	r = fd >= 0 && fs->digests != UN_DIGESTS_IGNORE ? check_digest(fs, inode, fd) : 0;
	if (r < 0)
		un_close(fd);
	if (fd < 0 || r < 0)
		return fd < 0 ? fd : r;
	*ret = un_fdcache_add(fs->fds, &data->io, fd, UN_FD_READ);
	return 0;
}

/* ---- copying it ----------------------------------------------------------------------------------- */

struct fill {
	struct un_fs *fs;
	int src, dst;
};

static int fill_clone(void *ctx)
{
	struct fill *f = ctx;
	struct un_layer *u = f->fs->upper;

	return u->ops->clone(u, f->dst, f->src);
}

static ssize_t fill_range(void *ctx, off_t off, size_t size)
{
	struct fill *f = ctx;
	struct un_layer *u = f->fs->upper;

	return u->ops->copy_range(u, f->src, off, f->dst, off, size);
}

static ssize_t fill_pread(void *ctx, void *buf, size_t size, off_t off)
{
	struct fill *f = ctx;
	struct un_layer *any = &f->fs->layers->v[1];

	return any->ops->pread(any, f->src, buf, size, off);
}

static ssize_t fill_pwrite(void *ctx, const void *buf, size_t size, off_t off)
{
	struct fill *f = ctx;
	struct un_layer *u = f->fs->upper;

	return u->ops->pwrite(u, f->dst, buf, size, off);
}

static off_t fill_seek(void *ctx, off_t off, int whence)
{
	off_t at = lseek(((struct fill *)ctx)->src, off, whence);

	return at < 0 ? -errno : at;
}

static const struct un_copy_ops fill_ops = {
	.clone = fill_clone,
	.copy_range = fill_range,
	.pread = fill_pread,
	.pwrite = fill_pwrite,
	.seek = fill_seek,
};

/* How much of the data remains, copied to the empty file @dst. */
static int copy(struct un_fs *fs, struct un_inode *inode, int dst, off_t want)
{
	struct fill f = { .fs = fs, .dst = dst };
	struct un_fd *src;
	struct statx st;
	int r;

	un_mutex_lock(&inode->lock);
	r = un_data_get_locked(fs, inode, &src);
	un_mutex_unlock(&inode->lock);
	if (r < 0)
		return r == -ENOENT ? -EIO : r;
	f.src = src->fd;
	r = fs->layers->v[1].ops->stat(&fs->layers->v[1], src->fd, "", &st);
	if (r == 0)
		r = un_copy_data(&fill_ops, &f, MIN(want, (off_t)st.stx_size), (off_t)st.stx_size);
	un_fdcache_put(fs->fds, src);
	if (r == 0)
		atomic_fetch_add(&fs->copied_bytes, (uint64_t)want);
	return r;
}

/*
 * A write takes capabilities away, and set-id bits too if a plain user's daemon does it. What somebody
 * has set meanwhile is in data->before as well (un_setattr). From here on the file tells for itself.
 */
static int restore_locked(struct un_fs *fs, struct un_inode *inode, int dst, const void *caps,
			  ssize_t caps_len, bool times)
{
	const struct statx *before = &inode->data->before;
	struct un_layer *u = fs->upper;
	struct statx now;
	int r = 0;

	inode->data->filling = false;
	if (caps_len > 0)
		r = u->ops->setxattr(u, dst, "", "security.capability", caps, (size_t)caps_len, 0);
	if (r == 0)
		r = u->ops->stat(u, dst, "", &now);
	if (r == 0 && now.stx_mode != before->stx_mode)
		r = u->ops->chmod(u, dst, "", before->stx_mode & 07777);
	if (r == 0 && times)
		r = un_stage_times(fs, dst, "", before);
	return r;
}

static int fill(struct un_fs *fs, struct un_inode *inode, int dst, off_t size, off_t have,
		const void *caps, ssize_t caps_len)
{
	struct un_layer *u = fs->upper;
	off_t final = size == UN_COPY_ALL ? have : size;
	int r = 0;

	if (MIN(final, have) > 0)
		r = copy(fs, inode, dst, MIN(final, have));
	/* Also after a clone of a file that is longer than what the mark's file says. */
	if (r == 0)
		r = u->ops->truncate(u, dst, final);
	if (r == 0) {
		un_mutex_lock(&inode->lock);
		r = restore_locked(fs, inode, dst, caps, size == UN_COPY_ALL ? caps_len : 0,
				   size == UN_COPY_ALL);
		un_mutex_unlock(&inode->lock);
	}
	if (r == 0 && fs->sync)
		r = u->ops->fsync(u, dst, false);
	if (r == 0)
		r = un_mark_lifted(fs, dst, "", UN_MARK_METACOPY, NULL, 0);
	return r;
}

int un_data_fill(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	struct un_layer *u = fs->upper;
	struct un_data *data = NULL;
	un_autofd int dst = -1;
	struct statx before;
	char caps[64];
	ssize_t caps_len = -1;
	int r;

	un_mutex_lock(&inode->lock);
	r = dst = un_file_open(fs, inode, UN_FD_READ | UN_FD_WRITE);
	if (r >= 0)
		r = u->ops->stat(u, dst, "", &before);
	if (r == 0) {
		inode->data->before = before;
		inode->data->filling = true;
		caps_len = u->ops->getxattr(u, dst, "", "security.capability", caps, sizeof(caps));
	}
	un_mutex_unlock(&inode->lock);
	if (r < 0)
		return r;
	r = fill(fs, inode, dst, size, (off_t)before.stx_size, caps, caps_len);
	un_mutex_lock(&inode->lock);
	if (r < 0) {
		/* What was written so far is not seen and gives its room back; its size must stay. */
		un_ignore(u->ops->fallocate(u, dst, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					    MAX((off_t)before.stx_size, 1)));
		un_ignore(u->ops->truncate(u, dst, (off_t)before.stx_size));
		un_ignore(restore_locked(fs, inode, dst, caps, caps_len, true));
	}
	if (r == 0) {
		data = inode->data;
		un_published(inode, false);
		inode->metacopy = false;
		inode->data = NULL;
		inode->xattrs = UN_XATTR_UNKNOWN;
	}
	un_mutex_unlock(&inode->lock);
	un_data_free(fs, data);
	return r;
}
