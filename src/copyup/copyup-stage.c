/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order within a stage: data, owner, xattrs, mode, times. A write or a chown drops
 * security.capability, and chown clears set-id bits; without privilege, user.* xattrs cannot be set
 * on a file that is already read-only; and everything disturbs times.
 */
#include "copyup-data_i.h"
#include "copyup_i.h"

#include "copyup/copyup-stage.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/origin.h"
#include "layer/owner.h"
#include "object/fdcache.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/owner.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "object/stage.h"
#include "object/tar.h"
#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* ---- data ------------------------------------------------------------------------------------------- */

/* A hole at the end, or a clone that was longer than what remains. */
static int set_size(struct un_copyup_ctx *c, off_t size)
{
	struct un_layer *u = c->fs->upper;
	struct statx st;
	int r = u->ops->stat(u, c->tmp, "", &st);

	if (r < 0 || (off_t)st.stx_size == size)
		return r;
	return u->ops->truncate(u, c->tmp, size);
}

static int copy_data(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;
	off_t have = (off_t)c->st.stx_size;
	off_t want = c->size < 0 ? have : MIN(c->size, have);
	struct un_fd *src;
	int r;

	if (c->meta)
		return have > 0 ? u->ops->truncate(u, c->tmp, have) : 0;
	if (want > 0) {
		/* A descriptor of our own kind of use: the file's own one seeks and reads elsewhere. */
		r = un_file_get(c->fs, c->inode, UN_FD_READ, &src);
		if (r < 0)
			return r;
		r = un_copyup_data(c->fs, src, c->tmp, want, have);
		un_fdcache_put(c->fs->fds, src);
		if (r < 0)
			return r;
	}
	if (c->size >= 0)
		want = c->size;
	return have > 0 || want > 0 ? set_size(c, want) : 0;
}

/* ---- everything but data ---------------------------------------------------------------------------- */

/* Where the staged object is: (dirfd, name). */
static int staged_dir(const struct un_copyup_ctx *c)
{
	return c->tmp >= 0 ? c->tmp : c->fs->work;
}

static const char *staged_name(const struct un_copyup_ctx *c)
{
	return c->tmp >= 0 ? "" : c->name;
}

/*
 * The lower object, for calls that refuse a descriptor with O_PATH, as that of a directory is. "." has to be searched, which is
 * left to who may search anything.
 */
static const char *lower_self(const struct un_copyup_ctx *c)
{
	return c->inode->type == DT_DIR && !c->lname[0] && c->fs->privileged ? "." : c->lname;
}

/* What is staged is the daemon's, but a set-gid work directory gives it its group. */
static int copy_owner(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;
	int r = u->ops->stat(u, staged_dir(c), staged_name(c), &c->ust);

	if (r < 0)
		return r;
	if (!c->fs->owners && c->ust.stx_uid == c->st.stx_uid && c->ust.stx_gid == c->st.stx_gid)
		return 0;
	c->restat = true;
	r = un_own_as(c->fs, UN_AT(c->lower, c->ldir, c->lname), &c->st, staged_dir(c),
		      staged_name(c));
	/* An id that the user namespace does not map. */
	return r == -EINVAL ? -EOVERFLOW : r;
}

/* Marks of the lower are its own; nested ones (escaped) belong to the user. */
static bool xattr_is_copied(const struct un_layer *l, const char *name)
{
	char buf[XATTR_NAME_MAX + 1];

	return un_xattr_from_layer(l, name, buf) != NULL;
}

/* One object to another. */
struct xattr_copy {
	struct un_fs *fs;
	struct un_layer *from;
	int from_dir;
	const char *from_name;
	int dir;
	const char *name;
};

static int copy_xattr(const struct xattr_copy *x, const char *name, char *value)
{
	struct un_layer *u = un_layer_owner_raw(x->fs->upper);
	ssize_t n = x->from->ops->getxattr(x->from, x->from_dir, x->from_name, name, value,
					   XATTR_SIZE_MAX);
	bool acl = g_str_has_prefix(name, "system.posix_acl_");
	bool security = g_str_has_prefix(name, "security.");
	int r;

	if (n == -ENODATA || n == -EACCES)
		return 0; /* gone, or not for this daemon to see */
	if (n < 0)
		return n == -ENOTSUP ? 0 : (int)n;
	r = u->ops->setxattr(u, x->dir, x->name, name, value, (size_t)n, 0);
	if (r == -ENOTSUP && !acl && !security)
		return 0;
	/*
	 * A plain user sees names it may not set: labels, which the upper gets by itself. The others
	 * it cannot see.
	 */
	if (r == -EPERM && !x->fs->privileged && security)
		return 0;
	if (r == -ENOTSUP && acl && n <= 4)
		return 0; /* an empty ACL */
	return r;
}

int un_stage_copy_xattrs(struct un_fs *fs, const struct un_at *from, int dir, const char *name,
			 bool caps)
{
	const struct xattr_copy x = { fs,          un_layer_owner_raw(from->layer),
				      from->dirfd, from->name,
				      dir,         name };
	g_autofree char *value = NULL;
	char *list = NULL;
	ssize_t n = un_xattr_list(from, &list);
	int r = 0;

	if (n <= 0)
		return (int)n;
	value = g_malloc(XATTR_SIZE_MAX);
	for (const char *p = list; r == 0 && p < list + n; p += strlen(p) + 1)
		if (xattr_is_copied(from->layer, p) &&
		    (caps || strcmp(p, "security.capability") != 0))
			r = copy_xattr(&x, p, value);
	free(list);
	return r;
}

static int copy_xattrs(struct un_copyup_ctx *c)
{
	/* Found to have none that a user would see. */
	if (c->inode->xattrs == UN_XATTR_NONE && !c->fs->revalidate &&
	    !atomic_load(&c->inode->changed) && !atomic_load(&c->fs->all_changed))
		return 0;
	/* Cutting a file off takes its capabilities, as any change of data does. */
	c->restat = true; /* an ACL is a mode as well */
	return un_stage_copy_xattrs(c->fs, UN_AT(c->lower, c->ldir, lower_self(c)), staged_dir(c),
				    staged_name(c), c->size < 0);
}

/* chattr flags that live in the real inode; immutable and append-only go into a mark instead. */
static int copy_flags(struct un_copyup_ctx *c)
{
	unsigned prot = un_prot_of_stat(&c->st);

	return prot ? un_prot_mark(c->fs, staged_dir(c), staged_name(c), prot) : 0;
}

#define REAL_FLAGS (FS_SYNC_FL | FS_NOATIME_FL | FS_NODUMP_FL)

/* Open for reading, which the ioctls need; the lower's is not remembered. */
static int open_for_flags(struct un_copyup_ctx *c, struct un_layer *l, int dirfd, const char *name)
{
	return un_at_open(UN_AT(l, dirfd, name),
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC |
				  (c->inode->type == DT_DIR ? O_DIRECTORY : 0),
			  0);
}

/* The flags of the lower file that its copy keeps. A failure does not fail the copy-up. */
static int lower_real_flags(struct un_copyup_ctx *c)
{
	uint64_t x = 0;
	int r = c->lower->ops->xflags(c->lower, c->ldir, lower_self(c), &x), flags = 0;

	if (r == 0)
		return (x & FS_XFLAG_SYNC ? FS_SYNC_FL : 0) |
		       (x & FS_XFLAG_NOATIME ? FS_NOATIME_FL : 0) |
		       (x & FS_XFLAG_NODUMP ? FS_NODUMP_FL : 0);
	if (r != -ENOSYS && r != -EBADF)
		return 0;
	un_autofd int fd = open_for_flags(c, c->lower, c->ldir, c->lname);

	if (fd < 0 || c->lower->ops->ioctl(c->lower, fd, FS_IOC_GETFLAGS, &flags) < 0)
		return 0;
	return flags & REAL_FLAGS;
}

static int add_flags(struct un_layer *u, int fd, int want)
{
	int now = 0, r = u->ops->ioctl(u, fd, FS_IOC_GETFLAGS, &now);

	if (r < 0)
		return r;
	now |= want;
	return u->ops->ioctl(u, fd, FS_IOC_SETFLAGS, &now);
}

/*
 * Copied as real flags, as far as the upper has them; what is made in a directory inherits them there. A
 * project is not copied: quotas are the upper's, and nothing could be moved in from another project.
 */
static void copy_real_flags(struct un_copyup_ctx *c)
{
	bool dir = c->inode->type == DT_DIR;
	int want = dir || c->tmp >= 0 ? lower_real_flags(c) : 0;

	if (!want)
		return;
	un_autofd int fd = dir ? open_for_flags(c, c->fs->upper, c->fs->work, c->name) : -1;
	int to = dir ? fd : c->tmp;

	if (to >= 0 && add_flags(c->fs->upper, to, want) < 0 && (want & ~FS_NODUMP_FL))
		un_ignore(add_flags(c->fs->upper, to, want & ~FS_NODUMP_FL));
}

static int set_origin(struct un_copyup_ctx *c)
{
	uint8_t value[UN_ORIGIN_MAX];
	ssize_t n;
	int r;

	/* A name of a lower hard link becomes a file of its own, with a number of its own. */
	c->origin = c->inode->type == DT_DIR || c->index || (c->st.stx_nlink == 1 && !c->covered);
	if (!c->origin || !c->fs->upper->caps.xattr)
		return 0;
	n = un_origin_format(UN_AT(c->lower, c->ldir, c->lname), value);
	if (n < 0)
		n = 0; /* "copied up, origin unknown" */
	r = un_mark_set(UN_AT(c->fs->upper, staged_dir(c), staged_name(c)), UN_MARK_ORIGIN, value,
			(size_t)n);
	/* user.* cannot be set on symlinks and special files, which the index then does not take. */
	if (c->index)
		return r == 0 && n <= 0 ? -EIO : r;
	if (r == -EPERM || r == -ENOTSUP || r == -EACCES)
		return 0;
	return r;
}

/*
 * The metacopy mark, with the digest that the lower's own mark has; the mark of a file that is no
 * whiteout, whatever its name; and the nlink mark of the index.
 */
static int set_other_marks(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;
	char count[32];
	int r = 0;

	if (c->meta)
		r = un_mark_set(UN_AT(u, staged_dir(c), staged_name(c)), UN_MARK_METACOPY,
				c->digest, c->digest_len);
	/* The lower's UN_MARK_ORDINARY is not copied. */
	if (r == 0 && un_name_ordinary(c->fs, c->lname) && un_kind_ordinary(c->fs, c->inode->type))
		r = un_mark_ordinary(c->fs, staged_dir(c), staged_name(c));
	if (r < 0 || !c->index)
		return r;
	un_inode_lock(c->inode);
	g_snprintf(count, sizeof(count), "L%+d", c->inode->ix->delta);
	un_inode_unlock(c->inode);
	return un_mark_set(UN_AT(u, staged_dir(c), staged_name(c)), UN_MARK_NLINK, count,
			   strlen(count));
}

static mode_t final_mode(const struct un_copyup_ctx *c)
{
	mode_t mode = c->st.stx_mode & 07777;

	/* Cut off by a plain user, as the file system would have done it. */
	if (c->size >= 0 && !c->fs->privileged)
		mode &= ~(mode_t)(mode & S_IXGRP ? S_ISUID | S_ISGID : S_ISUID);
	return mode;
}

/* Mode and times as they have to be; c->ust is what the object is like then, but for these and its ctime. */
static int finish(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;
	mode_t mode = final_mode(c);
	int r = c->restat ? u->ops->stat(u, staged_dir(c), staged_name(c), &c->ust) : 0;

	if (r == 0 && c->inode->type != DT_LNK && (c->ust.stx_mode & 07777) != mode)
		r = u->ops->chmod(u, staged_dir(c), staged_name(c), mode);
	/* A file that is cut off has been changed now, and appears so. */
	if (r == 0 && c->size < 0)
		r = un_stage_times(c->fs, staged_dir(c), staged_name(c), &c->st);
	return r;
}

/* ---- stage ------------------------------------------------------------------------------------------ */

static int stage_symlink(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;
	char target[PATH_MAX + 1];
	ssize_t n = c->lower->ops->readlink(c->lower, c->ldir, c->lname, target, PATH_MAX);

	if (n < 0)
		return (int)n;
	target[n] = '\0';
	return u->ops->symlink(u, target, c->fs->work, c->name);
}

static int stage_regular(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;
	/* Without privilege a read-only file would take no xattrs. */
	mode_t mode = c->fs->privileged ? c->st.stx_mode & 0777 : 0600;
	bool nameless = u->caps.tmpfile && !c->unlinkable;
	int fd = -EOPNOTSUPP;

	if (nameless)
		fd = un_at_open(UN_AT(u, c->fs->work, "."), O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	if (!nameless || fd == -EISDIR || fd == -ENOENT ||
	    un_cap_refused(u, &u->caps.tmpfile, "O_TMPFILE", fd)) {
		fd = un_at_open(UN_AT(u, c->fs->work, c->name),
				O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
		c->named = fd >= 0;
	}
	if (fd < 0)
		return fd;
	c->tmp = fd;
	return 0;
}

static int stage_object(struct un_copyup_ctx *c)
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

void un_copyup_unname(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;

	if (c->named)
		un_ignore(u->ops->unlink(u, c->fs->work, c->name,
					 c->inode->type == DT_DIR ? AT_REMOVEDIR : 0));
	c->named = false;
}

void un_copyup_unstage(struct un_copyup_ctx *c)
{
	un_copyup_unname(c);
	un_close(c->tmp);
	c->tmp = -1;
}

/* fsync=auto: data before it can be seen; strict: directories as well, and the name (publish). */
static int sync_staged(struct un_copyup_ctx *c)
{
	struct un_layer *u = c->fs->upper;
	int r;

	/* Without data there is nothing that a name could be ahead of: as for directories. */
	if (c->tmp >= 0)
		return (c->meta ? c->fs->sync_strict : c->fs->sync)
			       ? u->ops->fsync(u, c->tmp, false)
			       : 0;
	if (!c->fs->sync_strict || c->inode->type != DT_DIR)
		return 0;
	un_autofd int fd = un_at_open(UN_AT(u, c->fs->work, c->name),
				      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);

	r = fd < 0 ? fd : u->ops->fsync(u, fd, false);
	return r == -EACCES ? 0 : r;
}

int un_copyup_stage(struct un_copyup_ctx *c)
{
	int r;

	c->restat = false;
	/* Before any data is copied for nothing. */
	r = un_may_own(c->fs, c->st.stx_uid, c->st.stx_gid);
	if (r == 0)
		r = stage_object(c);
	if (r == 0 && c->tmp >= 0)
		r = copy_data(c);
	if (r == 0 && !c->covered)
		copy_real_flags(c);
	if (r == 0)
		r = copy_owner(c);
	if (r == 0)
		r = copy_xattrs(c);
	if (r == 0)
		r = copy_flags(c);
	if (r == 0)
		r = set_origin(c);
	if (r == 0)
		r = set_other_marks(c);
	if (r == 0)
		r = finish(c);
	if (r == 0)
		r = sync_staged(c);
	return r;
}
