/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copy-up of one object. What an observer of the merged tree can see, at every instant:
 *
 *   (1) the lower object, or the complete upper object; nothing between.
 *   (2) the inode number it had before, unless a hard link breaks.
 *   (3) after a crash: the same as (1). Leftovers exist only in the work directory.
 *
 *   LOWER --stage--> STAGED --publish--> UPPER
 *
 * Parents come first, from the top down, each published by itself. Staging holds no lock but the
 * inode's `copying` flag: readers go on with the lower object, other writers of the same inode wait.
 * Publishing takes the parent's ns, since it changes what is behind a name there.
 *
 * Order within stage: data, owner, xattrs, mode, times. A write or a chown drops security.capability,
 * and chown clears set-id bits; without privilege, user.* xattrs cannot be set on a file that is
 * already read-only; and everything disturbs times.
 */
#include "core_i.h"

#include "layer/origin.h"
#include "util/copy.h"

#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* One copy-up, carried through its stages. */
struct copyup {
	struct un_fs *fs;
	struct un_inode *inode;
	off_t size; /* UN_COPY_ALL, or how much data will remain */

	struct un_layer *lower; /* the object below */
	int ldir;
	char lname[NAME_MAX + 1];
	struct un_fd *lpin;
	struct statx st;
	bool origin; /* gets an origin: its number survives */
	bool origin_stored;
	bool hollow; /* a mountpoint of the lower: its attributes are all there is */

	char name[UN_STAGE_NAME]; /* staged under this name in work, or ... */
	int tmp;		  /* ... as this nameless file; also open if it has a name; -1 */
	bool named;

	struct statx ust; /* the staged object, when complete */
};

/* ---- data ------------------------------------------------------------------------------------------- */

struct data {
	struct copyup *c;
	int src;
};

static int data_clone(void *ctx)
{
	struct data *d = ctx;
	struct un_layer *u = d->c->fs->upper;

	return u->ops->clone(u, d->c->tmp, d->src);
}

static ssize_t data_range(void *ctx, off_t off, size_t size)
{
	struct data *d = ctx;
	struct un_layer *u = d->c->fs->upper;

	return u->ops->copy_range(u, d->src, off, d->c->tmp, off, size);
}

static ssize_t data_pread(void *ctx, void *buf, size_t size, off_t off)
{
	struct data *d = ctx;

	return d->c->lower->ops->pread(d->c->lower, d->src, buf, size, off);
}

static ssize_t data_pwrite(void *ctx, const void *buf, size_t size, off_t off)
{
	struct data *d = ctx;
	struct un_layer *u = d->c->fs->upper;

	return u->ops->pwrite(u, d->c->tmp, buf, size, off);
}

static off_t data_seek(void *ctx, off_t off, int whence)
{
	struct data *d = ctx;
	off_t at = lseek(d->src, off, whence);

	return at < 0 ? -errno : at;
}

static const struct un_copy_ops data_ops = {
	.clone = data_clone,
	.copy_range = data_range,
	.pread = data_pread,
	.pwrite = data_pwrite,
	.seek = data_seek,
};

static int copy_data(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	off_t have = (off_t)c->st.stx_size;
	off_t want = c->size == UN_COPY_ALL ? have : MIN(c->size, have);
	struct data d = { .c = c, .src = -1 };
	struct un_fd *src;
	int r;

	if (want > 0) {
		/* A descriptor of our own kind of use: the file's own one seeks and reads elsewhere. */
		r = un_file_get(c->fs, c->inode, UN_FD_READ, &src);
		if (r < 0)
			return r;
		d.src = src->fd;
		r = un_copy_data(&data_ops, &d, want, have);
		un_fdcache_put(c->fs->fds, src);
		if (r < 0)
			return r;
		atomic_fetch_add(&c->fs->copied_bytes, (uint64_t)want);
	}
	/* A hole at the end, or a clone that was longer than what remains. */
	return have > 0 || want > 0 ? u->ops->truncate(u, c->tmp, want) : 0;
}

/* ---- everything but data ---------------------------------------------------------------------------- */

/* Where the staged object is: (dirfd, name). */
static int staged_dir(const struct copyup *c)
{
	return c->tmp >= 0 ? c->tmp : c->fs->work;
}

static const char *staged_name(const struct copyup *c)
{
	return c->tmp >= 0 ? "" : c->name;
}

static int copy_owner(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	struct statx st;
	int r = u->ops->stat(u, staged_dir(c), staged_name(c), &st);

	if (r < 0)
		return r;
	if (st.stx_uid == c->st.stx_uid && st.stx_gid == c->st.stx_gid)
		return 0;
	r = u->ops->chown(u, staged_dir(c), staged_name(c), c->st.stx_uid, c->st.stx_gid);
	/* An id that the user namespace does not map. */
	return r == -EINVAL ? -EOVERFLOW : r;
}

/* Marks of the lower are its own; nested ones (escaped) belong to the user. */
static bool xattr_is_copied(enum un_dialect dialect, const char *name)
{
	char buf[XATTR_NAME_MAX + 1];

	return un_xattr_from_layer(dialect, name, buf) != NULL;
}

static int copy_xattr(struct copyup *c, const char *name, char *value)
{
	struct un_layer *u = c->fs->upper;
	ssize_t n = c->lower->ops->getxattr(c->lower, c->ldir, c->lname, name, value, XATTR_SIZE_MAX);
	bool must = g_str_has_prefix(name, "system.posix_acl_") || g_str_has_prefix(name, "security.");
	int r;

	if (n == -ENODATA || n == -EACCES)
		return 0; /* gone, or not for this daemon to see */
	if (n < 0)
		return n == -ENOTSUP ? 0 : (int)n;
	r = u->ops->setxattr(u, staged_dir(c), staged_name(c), name, value, (size_t)n, 0);
	if (r == -ENOTSUP && !must)
		return 0;
	/*
	 * A plain user sees names it may not set: labels, which the upper gets by itself. The others
	 * it cannot see.
	 */
	if (r == -EPERM && !c->fs->privileged && g_str_has_prefix(name, "security."))
		return 0;
	if (r == -ENOTSUP && g_str_has_prefix(name, "system.posix_acl_") && n <= 4)
		return 0; /* an empty ACL */
	return r;
}

static int copy_xattrs(struct copyup *c)
{
	g_autofree char *value = NULL;
	char *list = NULL;
	ssize_t n = c->hollow ? 0 : un_xattr_list(c->lower, c->ldir, c->lname, &list);
	int r = 0;

	if (n <= 0)
		return (int)n;
	value = g_malloc(XATTR_SIZE_MAX);
	for (const char *p = list; r == 0 && p < list + n; p += strlen(p) + 1)
		if (xattr_is_copied(c->fs->layers->dialect, p))
			r = copy_xattr(c, p, value);
	free(list);
	return r;
}

/* chattr flags that live in the real inode; immutable and append-only go into a mark instead. */
static int copy_flags(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	char prot[3] = "";
	int r = 0;

	if (c->st.stx_attributes & STATX_ATTR_APPEND)
		strcat(prot, "a");
	if (c->st.stx_attributes & STATX_ATTR_IMMUTABLE)
		strcat(prot, "i");
	if (prot[0])
		r = un_mark_set(u, c->fs->layers->dialect, staged_dir(c), staged_name(c),
				UN_MARK_PROTATTR, prot, strlen(prot));
	return r;
}

/*
 * SYNC and NOATIME: copied as real flags, where both sides have them. Asked only for regular files,
 * for which both are open anyway; failure is not one of the copy-up.
 */
static void copy_real_flags(struct copyup *c, int src)
{
	int want = 0, now = 0;

	if (ioctl(src, FS_IOC_GETFLAGS, &want) < 0 || !(want & (FS_SYNC_FL | FS_NOATIME_FL)))
		return;
	if (ioctl(c->tmp, FS_IOC_GETFLAGS, &now) < 0)
		return;
	now |= want & (FS_SYNC_FL | FS_NOATIME_FL);
	un_ignore(ioctl(c->tmp, FS_IOC_SETFLAGS, &now));
}

static int set_origin(struct copyup *c)
{
	uint8_t value[UN_ORIGIN_MAX];
	ssize_t n;
	int r;

	/* A name of a lower hard link becomes a file of its own, with a number of its own. */
	c->origin = c->inode->type == DT_DIR || c->st.stx_nlink == 1;
	if (!c->origin || !c->fs->upper->caps.xattr)
		return 0;
	n = c->hollow ? 0 : un_origin_format(c->lower, c->ldir, c->lname, value);
	if (n < 0)
		n = 0; /* "copied up, origin unknown" */
	r = un_mark_set(c->fs->upper, c->fs->layers->dialect, staged_dir(c), staged_name(c),
			UN_MARK_ORIGIN, value, (size_t)n);
	c->origin_stored = r == 0 && n > 0;
	/* user.* cannot be set on symlinks and special files. */
	if (r == -EPERM || r == -ENOTSUP || r == -EACCES)
		return 0;
	return r;
}

static int copy_mode_and_times(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	struct timespec ts[2] = {
		{ c->st.stx_atime.tv_sec, c->st.stx_atime.tv_nsec },
		{ c->st.stx_mtime.tv_sec, c->st.stx_mtime.tv_nsec },
	};
	int r = 0;

	if (c->inode->type != DT_LNK)
		r = u->ops->chmod(u, staged_dir(c), staged_name(c), c->st.stx_mode & 07777);
	if (r == 0)
		r = u->ops->utimens(u, staged_dir(c), staged_name(c), ts);
	return r;
}

/* ---- stage ------------------------------------------------------------------------------------------ */

static int stage_symlink(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	char target[PATH_MAX + 1];
	ssize_t n = c->lower->ops->readlink(c->lower, c->ldir, c->lname, target, PATH_MAX);

	if (n < 0)
		return (int)n;
	target[n] = '\0';
	return u->ops->symlink(u, target, c->fs->work, c->name);
}

static int stage_regular(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	int fd = -EOPNOTSUPP;

	if (u->caps.tmpfile)
		fd = un_open_retry(c->fs, u, c->fs->work, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -ENOENT || fd == -EINVAL) {
		fd = un_open_retry(c->fs, u, c->fs->work, c->name,
				   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		c->named = fd >= 0;
	}
	if (fd < 0)
		return fd;
	c->tmp = fd;
	return 0;
}

static int stage_object(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	int r;

	un_stage_umask();
	un_stage_name(c->fs, c->name);
	switch (c->inode->type) {
	case DT_REG:
		return stage_regular(c);
	case DT_DIR:
		r = u->ops->mkdir(u, c->fs->work, c->name, 0700);
		break;
	case DT_LNK:
		r = stage_symlink(c);
		break;
	default:
		r = u->ops->mknod(u, c->fs->work, c->name, c->st.stx_mode & S_IFMT,
				  makedev(c->st.stx_rdev_major, c->st.stx_rdev_minor));
	}
	c->named = r == 0;
	return r;
}

static void unstage(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;

	if (c->named)
		un_ignore(u->ops->unlink(u, c->fs->work, c->name,
					 c->inode->type == DT_DIR ? AT_REMOVEDIR : 0));
	un_close(c->tmp);
	c->tmp = -1;
	c->named = false;
}

/* fsync=auto: data before it can be seen; strict: directories as well, and the name (publish). */
static int sync_staged(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	int r;

	if (c->tmp >= 0)
		return c->fs->sync ? u->ops->fsync(u, c->tmp, false) : 0;
	if (!c->fs->sync_strict || c->inode->type != DT_DIR)
		return 0;
	un_autofd int fd = un_open_retry(c->fs, u, c->fs->work, c->name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);

	r = fd < 0 ? fd : u->ops->fsync(u, fd, false);
	return r == -EACCES ? 0 : r;
}

/* strict: the name of what was published. What is visible stays so whatever this says. */
static void sync_parent(struct copyup *c, int dirfd)
{
	struct un_layer *u = c->fs->upper;

	if (!c->fs->sync_strict)
		return;
	un_autofd int fd = un_open_retry(c->fs, u, dirfd, "", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (fd >= 0)
		un_ignore(u->ops->fsync(u, fd, false));
}

static int stage(struct copyup *c)
{
	struct un_layer *u = c->fs->upper;
	struct un_fd *src;
	int r;

	/* Before any data is copied for nothing. */
	r = un_may_own(c->fs, c->st.stx_uid, c->st.stx_gid);
	if (r == 0)
		r = stage_object(c);
	if (r == 0 && c->tmp >= 0) {
		r = copy_data(c);
		if (r == 0 && !c->hollow && un_file_get(c->fs, c->inode, UN_FD_READ, &src) == 0) {
			copy_real_flags(c, src->fd);
			un_fdcache_put(c->fs->fds, src);
		}
	}
	if (r == 0)
		r = copy_owner(c);
	if (r == 0)
		r = copy_xattrs(c);
	if (r == 0)
		r = copy_flags(c);
	if (r == 0)
		r = set_origin(c);
	if (r == 0)
		r = copy_mode_and_times(c);
	if (r == 0)
		r = sync_staged(c);
	if (r == 0)
		r = u->ops->stat(u, staged_dir(c), staged_name(c), &c->ust);
	return r;
}

/* ---- publish ---------------------------------------------------------------------------------------- */

struct publish {
	struct copyup *c;
	int dirfd;
	const char *name;
};

static int link_or_rename(void *data)
{
	struct publish *p = data;
	struct copyup *c = p->c;
	struct un_layer *u = c->fs->upper;

	if (!c->named)
		return u->ops->link(u, c->tmp, "", p->dirfd, p->name);
	return un_publish_rename(c->fs, c->name, c->st.stx_mode, p->dirfd, p->name,
				 u->caps.rename_exchange ? RENAME_NOREPLACE : 0);
}

static void restore_times(struct un_layer *u, int dirfd, const struct statx *st)
{
	struct timespec ts[2] = {
		{ st->stx_atime.tv_sec, st->stx_atime.tv_nsec },
		{ st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec },
	};

	un_ignore(u->ops->utimens(u, dirfd, "", ts));
}

/* What core knows of the object from now on. The inode's lock is held, a directory's ns too. */
static void adopt_locked(struct copyup *c, struct un_realdir *parent, const char *name)
{
	struct un_inode *inode = c->inode;
	struct un_fs *fs = c->fs;

	inode->upper = true;
	inode->origin = c->origin;
	inode->dev = un_stx_dev(&c->ust);
	inode->rino = c->ust.stx_ino;
	inode->prot_known = true;
	if (!c->origin)
		inode->ino = un_ino_map(fs, inode->dev, inode->rino);
	else if (inode->type != DT_DIR &&
		 (!c->origin_stored || (!fs->privileged && !(c->st.stx_mode & S_IRUSR))))
		un_ino_keep(fs, inode->dev, inode->rino, inode->ino);
	if (inode->type == DT_DIR) {
		struct un_dirinfo *d = inode->d;
		struct un_realdir *rd = un_realdir_new(fs->upper, parent, name, &c->ust);

		d->stack = g_renew(struct un_realdir *, d->stack, d->n + 2);
		memmove(d->stack + 1, d->stack, d->n * sizeof(*d->stack));
		d->stack[0] = rd;
		d->n++;
		/* Positions in it have moved by one; a name at a time is not worth it. */
		un_listing_free(d->listing);
		d->listing = NULL;
		return;
	}
	un_fdcache_clear(fs->fds, &inode->io);
	un_realdir_put(fs, inode->rdir);
	inode->rdir = parent ? un_realdir_ref(parent) : NULL;
	if (inode->rname)
		g_ref_string_release(inode->rname);
	inode->rname = parent ? g_ref_string_new(name) : NULL;
	un_key_add(fs, inode);
	if (c->tmp >= 0) {
		struct un_fd *f = un_fdcache_add(fs->fds, &inode->io, c->tmp,
						 UN_FD_READ | UN_FD_WRITE | UN_FD_PIN);

		/* Pinned only if it is the sole way to the file. */
		if (parent)
			un_fdcache_pin(fs->fds, &inode->io, false);
		un_fdcache_put(fs->fds, f);
		c->tmp = -1;
	}
	c->named = false;
}

static int publish_locked(struct copyup *c, struct un_inode *dir, struct un_realdir *parent,
			  const char *name)
{
	struct un_layer *u = c->fs->upper;
	struct publish p = { .c = c, .name = name };
	struct un_state now = { .exists = true, .in_upper = true, .lower = true,
				.type = c->inode->type };
	struct un_fd *fd;
	struct statx pst;
	int r = un_realdir_open(c->fs, parent, &fd);

	if (r < 0)
		return r;
	p.dirfd = fd->fd;
	r = un_dir_mark_impure(c->fs, parent, fd->fd);
	if (r == 0)
		r = u->ops->stat(u, fd->fd, "", &pst);
	if (r == 0)
		r = un_lifted(c->fs, fd->fd, "", link_or_rename, &p);
	if (r == 0) {
		restore_times(u, fd->fd, &pst);
		sync_parent(c, fd->fd);
		un_mutex_lock(&c->inode->lock);
		adopt_locked(c, parent, name);
		un_mutex_unlock(&c->inode->lock);
		if (dir->d->listing) {
			struct un_entry *e = un_listing_find(dir->d->listing, name);
			uint8_t more = e ? e->flags & UN_ENTRY_MORE : 0;

			un_dir_note(c->fs, dir, name, &now, c->inode->type == DT_DIR ? 0 : c->ust.stx_ino);
			e = un_listing_find(dir->d->listing, name);
			if (e && c->inode->type == DT_DIR)
				e->flags |= more | UN_ENTRY_MORE;
		}
	}
	un_fdcache_put(c->fs->fds, fd);
	return r;
}

/* The object has lost its last name: its copy is a nameless file that lives as long as it is open. */
static int adopt_nameless(struct copyup *c)
{
	int r;

	if (c->tmp < 0)
		return -ENOENT; /* nothing of a removed special file can be changed */
	if (c->named) {
		un_ignore(c->fs->upper->ops->unlink(c->fs->upper, c->fs->work, c->name, 0));
		c->named = false;
	}
	un_mutex_lock(&c->inode->lock);
	adopt_locked(c, NULL, NULL);
	r = un_orphan_nameless(c->fs, c->inode);
	un_mutex_unlock(&c->inode->lock);
	return r;
}

static int publish(struct copyup *c)
{
	for (int tries = 0;; tries++) {
		char name[NAME_MAX + 1];
		struct un_inode *dir, *there;
		struct un_ns_set locked;
		int r;

		if (!un_name_any(c->inode, &dir, name))
			return adopt_nameless(c);
		un_ns_write_set(&locked, dir, c->inode->type == DT_DIR ? c->inode : NULL, NULL);
		there = un_name_find(c->fs, dir, name);
		r = -EAGAIN; /* removed between the two lines above */
		if (there == c->inode)
			r = publish_locked(c, dir, un_dir_upper(c->fs, dir), name);
		un_inode_put(c->fs, there);
		un_ns_unlock_set(&locked);
		/* Its time of change has moved, and it may be a merged directory now. */
		if (r == 0 && c->fs->stale)
			c->fs->stale(c->fs->stale_data, dir->id, !c->origin);
		un_inode_put(c->fs, dir);
		if (r != -EAGAIN || tries == 100)
			return r;
	}
}

static int run(struct copyup *c)
{
	struct un_at at;
	int r;

	un_mutex_lock(&c->inode->lock);
	r = un_at_locked(c->fs, c->inode, &at);
	if (r == 0) {
		c->lower = at.layer;
		c->ldir = at.dirfd;
		c->lpin = at.pin;
		c->hollow = at.hollow;
		g_strlcpy(c->lname, at.name, sizeof(c->lname));
		r = at.layer->ops->stat(at.layer, at.dirfd, at.name, &c->st);
		if (at.hollow)
			c->st.stx_size = 0;
	}
	un_mutex_unlock(&c->inode->lock);
	if (r == 0)
		r = stage(c);
	if (r == 0)
		r = publish(c);
	unstage(c);
	un_fdcache_put(c->fs->fds, c->lpin);
	return r;
}

/* ---- one at a time ---------------------------------------------------------------------------------- */

/* true: it is ours to do; false: it has been done. */
static bool begin(struct un_fs *fs, struct un_inode *inode)
{
	bool ours;

	un_mutex_lock(&fs->copying);
	while (inode->copying)
		pthread_cond_wait(&fs->copied, &fs->copying.m);
	ours = !inode->upper;
	inode->copying = ours;
	un_mutex_unlock(&fs->copying);
	return ours;
}

static void end(struct un_fs *fs, struct un_inode *inode)
{
	un_mutex_lock(&fs->copying);
	inode->copying = false;
	pthread_cond_broadcast(&fs->copied);
	un_mutex_unlock(&fs->copying);
}

static int copyup_one(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	struct copyup c = { .fs = fs, .inode = inode, .size = size, .tmp = -1 };
	int r;

	if (!begin(fs, inode))
		return 0;
	r = run(&c);
	if (r == 0)
		atomic_fetch_add(&fs->copyups, 1);
	end(fs, inode);
	/* Times of change have moved, and for a broken hard link more than that. */
	if (r == 0 && fs->stale)
		fs->stale(fs->stale_data, inode->id, false);
	return r;
}

int un_copyup(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	GPtrArray *todo;
	int r = 0;

	if (fs->read_only)
		return -EROFS;
	if (inode->upper)
		return 0;
	/* The object and its ancestors that are not in the upper, the topmost last. */
	todo = g_ptr_array_new();
	for (struct un_inode *at = un_inode_ref(inode); at;) {
		char name[NAME_MAX + 1];
		struct un_inode *dir = NULL;

		if (at->upper) {
			un_inode_put(fs, at);
			break;
		}
		g_ptr_array_add(todo, at);
		if (!un_name_any(at, &dir, name))
			break;
		at = dir;
	}
	for (unsigned i = todo->len; i-- > 0;) {
		struct un_inode *at = todo->pdata[i];

		if (r == 0)
			r = copyup_one(fs, at, at == inode ? size : UN_COPY_ALL);
		un_inode_put(fs, at);
	}
	g_ptr_array_free(todo, TRUE);
	return r;
}
