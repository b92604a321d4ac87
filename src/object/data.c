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
#include "object/data.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/realdir.h"
#include "object/say.h"
#include "object/stand-in.h"
#include "object/tell.h"
#include "util/copy.h"
#include "util/fd.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fsverity.h>
#include <linux/limits.h>
#include <string.h>
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
	data->size = h->st.stx_size;
	data->mtime = h->st.stx_mtime;
	return data;
}

/* ---- found again ----------------------------------------------------------------------------------- */

/*
 * May what was read of @a be read of @b, so that nobody need be told? In layers with data only it was not looked for;
 * where these are watched a change was told (follow.c).
 */
static bool is_unchanged(const struct un_inode *inode, const struct un_data *a,
			 const struct un_data *b)
{
	if (!a || !b || !a->path != !b->path)
		return false;
	if (a->path)
		return strcmp(a->path, b->path) == 0 && !atomic_load(&inode->timed);
	return a->layer == b->layer && a->dev == b->dev && a->rino == b->rino &&
	       a->size == b->size && memcmp(&a->mtime, &b->mtime, sizeof(a->mtime)) == 0;
}

/* Has the file in the upper the mark? Asked under its lock: our own changes of marks are made there. */
static bool has_mark(struct un_fs *fs, struct un_inode *inode, enum un_mark mark, char **ret_value)
	UN_INODE_LOCKED(inode)
{
	char value[PATH_MAX];
	struct un_at at;
	ssize_t n;

	*ret_value = NULL;
	if (un_at_locked(fs, inode, &at) < 0)
		return false;
	n = un_mark_get(&at, mark, value, sizeof(value));
	un_at_done(fs, &at);
	if (n >= 0)
		*ret_value = g_strndup(value, (size_t)n);
	return n >= 0;
}

/*
 * What was found may be older than a change of our own, which is told apart by the marks as they are now.
 * The data is another one, or may be: true.
 */
static bool found_locked(struct un_fs *fs, struct un_inode *inode, const struct un_found *f,
			 const char *name) UN_INODE_LOCKED(inode)
{
	struct un_data *old = inode->data, *now;
	g_autofree char *value = NULL;
	bool same;

	if ((old && old->filling) || inode->upper != (f->hits[0].layer == fs->upper))
		return false;
	if (inode->upper && f->metacopy != (old != NULL) &&
	    has_mark(fs, inode, UN_MARK_METACOPY, &value) != f->metacopy)
		return false;
	now = un_data_new(f, name);
	same = is_unchanged(inode, old, now);
	if (old && now) {
		now->said = old->said;
		now->before = old->before;
		now->lower_links = now->lower_links || old->lower_links;
		g_free(now->redirect);
		now->redirect = g_steal_pointer(&old->redirect);
		if (inode->upper && g_strcmp0(now->redirect, f->redirect) != 0) {
			g_free(now->redirect);
			has_mark(fs, inode, UN_MARK_REDIRECT, &now->redirect);
		}
	}
	/* What is open has what was in the file before, or nothing. */
	if (!old)
		un_fdcache_clear(fs->fds, &inode->io);
	inode->metacopy = now != NULL;
	inode->data = now;
	un_data_free(fs, old);
	return !same;
}

void un_data_found(struct un_fs *fs, struct un_inode *inode, const struct un_found *f,
		   const char *name)
{
	bool other;

	if (inode->type != DT_REG || (!f->metacopy && !atomic_load(&inode->metacopy)))
		return;
	un_inode_lock(inode);
	other = found_locked(fs, inode, f, name);
	un_inode_unlock(inode);
	if (other)
		un_tell(fs, UN_CHANGE_DATA, inode->id, NULL);
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
			return un_at_open(UN_AT(l, at, name),
					  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
		fd = un_at_open(UN_AT(l, at, name), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
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
static int open_data_only(struct un_fs *fs, struct un_data *data, struct un_layer **ret_layer)
{
	struct un_layers *ls = fs->layers;

	/* They are there from the beginning to the end. */
	for (unsigned i = ls->n + 1; i <= ls->n + ls->n_data; i++) {
		struct un_layer *l = &ls->v[i];
		un_autofd int fd = open_path(fs, l, data->path);
		struct statx st;

		if (fd < 0) {
			if (!is_missing(fd))
				return fd;
			continue;
		}
		if (l->ops->stat(l, fd, "", &st) == 0 && S_ISREG(st.stx_mode)) {
			*ret_layer = l;
			return un_take_fd(&fd);
		}
	}
	if (!data->said)
		un_say_once(fs, LOG_ERR,
			    g_strdup_printf(
				    "data of a file is in none of the layers with data only: %s",
				    data->path));
	data->said = true;
	return -ENOENT;
}

static int open_data(struct un_fs *fs, struct un_inode *inode, struct un_layer **ret_layer)
	UN_INODE_LOCKED(inode)
{
	struct un_data *data = inode->data;
	struct un_layer *l = data->layer;
	struct un_fd *dir;
	struct statx st;
	int r;

	if (data->path)
		return open_data_only(fs, data, ret_layer);
	*ret_layer = l;
	r = un_realdir_open(fs, data->rdir, &dir);
	if (r < 0)
		return r;
	un_autofd int fd = un_at_open(UN_AT(l, dir->fd, data->rname),
				      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);

	un_fdcache_put(fs->fds, dir);
	r = fd < 0 ? fd : l->ops->stat(l, fd, "", &st);
	if (r == 0 && S_ISREG(st.stx_mode) && un_is_same(l, &st, data->dev, data->rino))
		return un_take_fd(&fd);
	if (r < 0 && !is_missing(r))
		return r;
	/* It may be elsewhere by now, which whoever can does look for (un_file_get_data()). */
	if (fs->live && !atomic_exchange(&inode->doubted, true))
		return -ESTALE;
	if (!data->said)
		un_say_once(fs, LOG_ERR,
			    g_strdup_printf(
				    "data of a file is not in its lower layer any more: %s: .../%s",
				    l->path, data->rname));
	data->said = true;
	return -EIO;
}

/* ---- digests ---------------------------------------------------------------------------------------- */

ssize_t un_data_digest(struct un_layer *l, int fd, uint8_t *ret)
{
	union {
		struct fsverity_digest d;
		char room[sizeof(struct fsverity_digest) + UN_META_MAX - 4];
	} v = { .d.digest_size = UN_META_MAX - 4 };

	int r = l->ops->ioctl(l, fd, FS_IOC_MEASURE_VERITY, &v.d);

	if (r < 0)
		return r;
	ret[0] = 0;
	ret[1] = (uint8_t)(4 + v.d.digest_size);
	ret[2] = 0;
	ret[3] = (uint8_t)v.d.digest_algorithm;
	memcpy(ret + 4, v.d.digest, v.d.digest_size);
	return ret[1];
}

/* Does the metacopy file's mark tell of the data @fd what fs-verity does? 0 or -EIO. */
static int check_digest(struct un_fs *fs, struct un_inode *inode, struct un_layer *l, int fd)
	UN_INODE_LOCKED(inode)
{
	uint8_t told[UN_META_MAX], is[UN_META_MAX];
	ssize_t n, m;
	struct un_at at;
	int r = un_at_locked(fs, inode, &at);

	if (r < 0)
		return r;
	n = un_mark_get(&at, UN_MARK_METACOPY, told, sizeof(told));
	un_at_done(fs, &at);
	if (n < 0)
		return (int)n;
	if (n <= 4 && fs->verity == UN_VERITY_ON)
		return 0;
	m = n <= 4 ? -ENODATA : un_data_digest(l, fd, is);
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
	struct un_layer *l;
	int fd, r;

	*ret = un_fdcache_get(fs->fds, &data->io, UN_FD_READ);
	if (*ret)
		return 0;
	fd = open_data(fs, inode, &l);
	r = fd >= 0 && fs->verity != UN_VERITY_OFF ? check_digest(fs, inode, l, fd) : 0;
	if (r < 0)
		un_close(fd);
	if (fd < 0 || r < 0)
		return fd < 0 ? fd : r;
	*ret = un_fdcache_add(fs->fds, &data->io, l, fd, UN_FD_READ);
	return 0;
}
