/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making objects: with the owner, the mode and the inheritance that the caller would have got from
 * the upper's own file system, in one step where it is visible, or staged in the work directory.
 */
#include "object/stage.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/owner.h"
#include "layer/whiteout.h"
#include "object/cred.h"
#include "object/object.h"
#include "object/owner.h"
#include "object/realdir.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void un_stage_name(struct un_fs *fs, char ret[UN_STAGE_NAME])
{
	snprintf(ret, UN_STAGE_NAME, "%s-%" G_GINT64_MODIFIER "x", fs->stage_prefix,
		 (uint64_t)atomic_fetch_add(&fs->stage_seq, 1));
}

int un_stage_empty(struct un_fs *fs, int dirfd, const char *name)
{
	struct un_layer *u = fs->upper;
	char buf[4096];
	ssize_t n;
	int r, err = 0;
	int fd = un_at_open(UN_AT(u, dirfd, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
			    0);

	if (fd < 0)
		return fd;
	while ((n = u->ops->getdents(u, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			struct dirent64 *de = (struct dirent64 *)(void *)(buf + at);

			at += de->d_reclen;
			if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
				continue;
			r = u->ops->unlink(u, fd, de->d_name, 0);
			err = r < 0 ? r : err;
		}
	}
	un_close(fd);
	return n < 0 ? (int)n : err;
}

void un_stage_discard(struct un_fs *fs, const char *name)
{
	struct un_layer *u = fs->upper;

	if (u->ops->unlink(u, fs->work, name, AT_REMOVEDIR) != -ENOTEMPTY)
		return;
	/* Nobody sees it any more: open to its owner, whatever it was. */
	if (!fs->privileged)
		un_ignore(u->ops->chmod(u, fs->work, name, 0700));
	un_ignore(un_stage_empty(fs, fs->work, name));
	un_ignore(u->ops->unlink(u, fs->work, name, AT_REMOVEDIR));
}

/* Is it what hides names, or something of others? What cannot be told is of others. */
static bool is_hidden_mark(struct un_layer *u, int fd, const struct dirent64 *de)
{
	struct statx st;

	/* A whiteout, as a rule: a device of others' would not have been made in such a place. */
	if (de->d_type == DT_CHR || g_str_has_prefix(de->d_name, ".wh."))
		return true;
	if (de->d_type != DT_REG && de->d_type != DT_UNKNOWN)
		return false;
	return u->ops->stat(u, fd, de->d_name, &st) == 0 &&
	       un_whiteout_probe(UN_AT(u, fd, de->d_name), &st) > 0;
}

/* The mode may keep this daemon out; it is as it was afterwards. */
static int open_staged(struct un_fs *fs, const char *name)
{
	struct un_layer *u = fs->upper;
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = un_at_open(UN_AT(u, fs->work, name), flags, 0);
	struct statx st;

	if (fd != -EACCES || fs->privileged || u->ops->stat(u, fs->work, name, &st) < 0 ||
	    u->ops->chmod(u, fs->work, name, 0700) < 0)
		return fd;
	fd = un_at_open(UN_AT(u, fs->work, name), flags, 0);
	un_ignore(u->ops->chmod(u, fs->work, name, st.stx_mode & 07777));
	return fd;
}

static bool holds_others(struct un_fs *fs, const char *name)
{
	struct un_layer *u = fs->upper;
	un_autofd int fd = open_staged(fs, name);
	char buf[4096] __attribute__((aligned(8)));
	bool found = false;
	ssize_t n;

	while (!found && fd >= 0 && (n = u->ops->getdents(u, fd, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n && !found;) {
			const struct dirent64 *de = (const struct dirent64 *)(void *)(buf + at);

			at += de->d_reclen;
			if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
				found = !is_hidden_mark(u, fd, de);
		}
	return found;
}

int un_stage_discard_hidden(struct un_fs *fs, const char *name)
{
	struct un_layer *u = fs->upper;

	if (u->ops->unlink(u, fs->work, name, AT_REMOVEDIR) != -ENOTEMPTY)
		return 0;
	if (fs->live && holds_others(fs, name))
		return -ENOTEMPTY;
	un_stage_discard(fs, name);
	return 0;
}

/* ---- owner ------------------------------------------------------------------------------------------ */

/*
 * The thread takes the caller's file system ids, as stored (glibc's wrappers are per thread for these
 * two). A root daemon loses its file system capabilities meanwhile: the upper's directory decides.
 */
static int enter(struct un_fs *fs, const struct un_cred *cred)
{
	if (cred->uid == fs->euid && cred->gid == fs->egid)
		return 0;
	if (cred->gid != fs->egid) {
		syscall(SYS_setfsgid, cred->gid);
		if ((gid_t)syscall(SYS_setfsgid, -1) != cred->gid)
			return -EACCES;
	}
	if (cred->uid != fs->euid) {
		syscall(SYS_setfsuid, cred->uid);
		if ((uid_t)syscall(SYS_setfsuid, -1) != cred->uid) {
			syscall(SYS_setfsgid, fs->egid);
			return -EACCES;
		}
	}
	return 0;
}

static void leave(struct un_fs *fs, const struct un_cred *cred)
{
	if (cred->uid != fs->euid)
		syscall(SYS_setfsuid, fs->euid);
	if (cred->gid != fs->egid)
		syscall(SYS_setfsgid, fs->egid);
}

static _Thread_local bool shares_umask;

void un_thread_shares_umask(void)
{
	shares_umask = true;
}

/* Each worker has a umask of its own (unshare(CLONE_FS)); it is changed only when it differs. */
static void set_umask(mode_t mask)
{
	static _Thread_local mode_t now = (mode_t)-1;

	if (shares_umask)
		return; /* it is 0, and stays so */
	if (now != mask)
		un_ignore(umask(mask));
	now = mask;
}

/* Has the directory an ACL that takes the place of the umask? 1, 0 or -errno. */
static int has_default_acl(struct un_fs *fs, int dirfd)
{
	struct un_layer *u = fs->upper;
	ssize_t n;

	if (!u->caps.acl)
		return 0;
	n = u->ops->getxattr(u, dirfd, "", "system.posix_acl_default", NULL, 0);
	if (n < 0)
		return n == -ENODATA || n == -EOPNOTSUPP ? 0 : (int)n;
	return n > 0;
}

/* The permissions to make something in @dirfd with; the umask is set, or taken into account here. */
static int mode_for(struct un_fs *fs, int dirfd, const struct un_create *c, mode_t *ret)
{
	int r = 0;

	set_umask(c->umask);
	if (shares_umask && c->umask && !S_ISLNK(c->mode))
		r = has_default_acl(fs, dirfd);
	if (r < 0)
		return r;
	*ret = c->mode & 07777 & ~(shares_umask && r == 0 ? c->umask : 0);
	return 0;
}

void un_stage_umask(void)
{
	set_umask(0);
}

void un_stage_mode(struct un_fs *fs, int dirfd, const char *name, mode_t mode)
{
	struct un_layer *u = fs->upper;
	int r = u->ops->chmod(u, dirfd, name, mode & 07777);

	if (r < 0)
		r = u->ops->chmod(u, dirfd, name, mode & 07777);
	if (r < 0)
		un_log(LOG_ERR, "a mode that was lifted for a moment stays so (%s): %s", name,
		       g_strerror(-r));
}

int un_stage_times(struct un_fs *fs, int dirfd, const char *name, const struct statx *st)
{
	struct timespec ts[2] = {
		{ st->stx_atime.tv_sec, st->stx_atime.tv_nsec },
		{ st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec },
	};

	return fs->upper->ops->utimens(fs->upper, dirfd, name, ts);
}

int un_lifted(struct un_fs *fs, int dirfd, const char *name, int (*fn)(void *data), void *data)
{
	struct un_layer *u = fs->upper;
	struct statx st;
	int r = fn(data), lift;

	if (r != -EACCES || fs->privileged)
		return r;
	lift = u->ops->stat(u, dirfd, name, &st);
	if (lift < 0)
		return lift;
	if (st.stx_uid != fs->uid || (st.stx_mode & S_IRWXU) == S_IRWXU)
		return r;
	lift = u->ops->chmod(u, dirfd, name, (st.stx_mode & 07777) | S_IRWXU);
	if (lift < 0)
		return lift == -EPERM ? r : lift;
	r = fn(data);
	un_stage_mode(fs, dirfd, name, st.stx_mode);
	return r;
}

struct mark_args {
	struct un_fs *fs;
	int dirfd;
	const char *name;
	enum un_mark mark;
	const void *value;
	size_t size;
};

static int set_mark(void *data)
{
	struct mark_args *a = data;

	if (!a->value)
		return un_mark_clear(UN_AT(a->fs->upper, a->dirfd, a->name), a->mark);
	return un_mark_set(UN_AT(a->fs->upper, a->dirfd, a->name), a->mark, a->value, a->size);
}

int un_mark_lifted(struct un_fs *fs, int dirfd, const char *name, enum un_mark mark,
		   const void *value, size_t size)
{
	struct mark_args a = { fs, dirfd, name, mark, value, size };

	return un_lifted(fs, dirfd, name, set_mark, &a);
}

int un_mark_dir(struct un_fs *fs, int dirfd, const char *name, enum un_mark mark, const char *value)
{
	return un_mark_lifted(fs, dirfd, name, mark, value, strlen(value));
}

struct rename_args {
	struct un_fs *fs;
	const char *name;
	int dirfd;
	const char *to;
	unsigned flags;
};

static int do_rename(void *data)
{
	struct rename_args *a = data;

	if (a->flags & RENAME_NOREPLACE)
		return un_layer_rename_new(a->fs->upper, a->fs->work, a->name, a->dirfd, a->to);
	return a->fs->upper->ops->rename(a->fs->upper, a->fs->work, a->name, a->dirfd, a->to,
					 a->flags);
}

int un_publish_rename(struct un_fs *fs, const char *name, mode_t mode, int dirfd, const char *to,
		      unsigned flags)
{
	struct rename_args a = { fs, name, dirfd, to, flags };
	struct un_layer *u = fs->upper;
	bool lift = S_ISDIR(mode) && !fs->privileged && !(mode & S_IWUSR);
	int r;

	if (lift) {
		r = u->ops->chmod(u, fs->work, name, (mode & 07777) | S_IWUSR);
		if (r < 0)
			return r;
	}
	r = un_lifted(fs, dirfd, "", do_rename, &a);
	if (r == 0 && lift)
		un_stage_mode(fs, dirfd, to, mode);
	return r;
}

static int make(struct un_fs *fs, int dirfd, const char *name, const struct un_create *c)
{
	struct un_layer *u = fs->upper;
	mode_t mode;
	int r = mode_for(fs, dirfd, c, &mode);

	if (r < 0)
		return r;
	if (S_ISREG(c->mode))
		return un_at_open(UN_AT(u, dirfd, name),
				  O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (S_ISDIR(c->mode))
		r = u->ops->mkdir(u, dirfd, name, mode);
	else if (S_ISLNK(c->mode))
		r = u->ops->symlink(u, c->target, dirfd, name);
	else
		r = u->ops->mknod(u, dirfd, name, (c->mode & S_IFMT) | mode, c->rdev);
	return r;
}

bool un_make_needs_stage(struct un_fs *fs, const struct un_create *what, const struct un_cred *cred)
{
	/* An xattr and a mode are to be set before anybody sees it. */
	if (fs->override)
		return true;
	return fs->privileged && (what->mode & S_ISGID) && !S_ISDIR(what->mode) &&
	       (cred->uid != fs->uid || cred->gid != fs->gid);
}

int un_make_direct(struct un_fs *fs, int dirfd, const char *name, const struct un_create *c,
		   const struct un_cred *cred)
{
	const struct un_cred as = un_cred_stored(fs, cred);
	int r = enter(fs, &as);

	if (r < 0)
		return r;
	r = make(fs, dirfd, name, c);
	leave(fs, &as);
	return r;
}

/* ---- staged ------------------------------------------------------------------------------------- */

/*
 * The parent has a default ACL: let the file system itself apply it, in a directory of ours that has
 * the same one. Returns as make(). @acl: its value.
 */
static int make_with_acl(struct un_fs *fs, const char *name, const struct un_create *c,
			 const void *acl, size_t acl_len)
{
	struct un_layer *u = fs->upper, *raw = un_layer_owner_raw(u);
	char nest[UN_STAGE_NAME];
	int r, made = -1;
	int dir;

	un_stage_name(fs, nest);
	un_stage_umask();
	r = u->ops->mkdir(u, fs->work, nest, 0700);
	if (r < 0)
		return r;
	dir = un_at_open(UN_AT(u, fs->work, nest), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	r = dir < 0 ? dir : 0;
	if (r == 0)
		r = raw->ops->setxattr(raw, dir, "", "system.posix_acl_default", acl, acl_len, 0);
	if (r == 0)
		r = made = make(fs, dir, "x", c);
	if (r >= 0) {
		r = u->ops->rename(u, dir, "x", fs->work, name, 0);
		if (r < 0)
			un_ignore(u->ops->unlink(u, dir, "x", S_ISDIR(c->mode) ? AT_REMOVEDIR : 0));
		if (r < 0 && S_ISREG(c->mode))
			un_close(made);
	}
	un_close(dir);
	un_stage_discard(fs, nest);
	return r < 0 ? r : made;
}

/*
 * The kernel's mode_strip_sgid(), which kernels before 6.0 leave to the file system: a set-gid program
 * is not for those who are not in the group that a set-gid directory gives it.
 */
static mode_t may_keep(mode_t mode, const struct un_create *c, const struct statx *parent,
		       const struct un_cred *cred)
{
	const mode_t both = S_ISGID | S_IXGRP;

	if (S_ISDIR(c->mode) || (mode & both) != both || !(parent->stx_mode & S_ISGID) ||
	    un_in_group(cred, parent->stx_gid))
		return mode;
	return mode & ~(mode_t)S_ISGID;
}

/* The owner and group it would have got, set-gid of the parent included. */
static int give_away(struct un_fs *fs, int parent_fd, const struct statx *parent, const char *name,
		     const struct un_create *c, const struct un_cred *cred)
{
	struct un_layer *u = fs->upper;
	struct statx st;
	mode_t mode;
	int r = u->ops->stat(u, fs->work, name, &st);

	if (r < 0)
		return r;
	if (fs->owners || st.stx_uid != cred->uid ||
	    st.stx_gid != (parent->stx_mode & S_ISGID ? parent->stx_gid : cred->gid)) {
		r = un_own_new(fs, fs->work, name, parent_fd, parent, cred);
		if (r < 0)
			return r;
	}
	if (S_ISLNK(c->mode))
		return 0;
	mode = may_keep(st.stx_mode & 07777, c, parent, cred);
	if (S_ISDIR(c->mode) && (parent->stx_mode & S_ISGID))
		mode |= S_ISGID;
	/* After the owner: chown takes set-id bits away. */
	if ((mode & 07000) || mode != (st.stx_mode & 07777))
		return u->ops->chmod(u, fs->work, name, mode);
	return 0;
}

int un_make_staged(struct un_fs *fs, int parent, const char *name, const struct un_create *c,
		   const struct un_cred *cred)
{
	struct un_layer *u = fs->upper, *raw = un_layer_owner_raw(u);
	g_autofree char *acl = g_malloc(XATTR_SIZE_MAX);
	ssize_t acl_len = -ENODATA;
	struct statx pst;
	int r, made;

	r = u->ops->stat(u, parent, "", &pst);
	if (r == 0)
		r = un_may_own(fs, cred->uid, pst.stx_mode & S_ISGID ? pst.stx_gid : cred->gid);
	if (r < 0)
		return r;
	if (u->caps.acl && !S_ISLNK(c->mode))
		acl_len = raw->ops->getxattr(raw, parent, "", "system.posix_acl_default", acl,
					     XATTR_SIZE_MAX);
	if (acl_len < 0 && acl_len != -ENODATA && acl_len != -EOPNOTSUPP)
		return (int)acl_len;
	if (acl_len > 0)
		made = make_with_acl(fs, name, c, acl, (size_t)acl_len);
	else
		made = make(fs, fs->work, name, c);
	if (made < 0)
		return made;
	r = give_away(fs, parent, &pst, name, c, cred);
	if (r < 0) {
		if (S_ISREG(c->mode))
			un_close(made);
		if (S_ISDIR(c->mode))
			un_stage_discard(fs, name);
		else
			un_ignore(u->ops->unlink(u, fs->work, name, 0));
		return r;
	}
	return made;
}

static int open_tmpfile(struct un_fs *fs, int dirfd, const struct un_create *what)
{
	struct un_layer *u = fs->upper;
	mode_t mode;
	int r = mode_for(fs, dirfd, what, &mode);

	if (r == 0)
		r = un_at_open(UN_AT(u, dirfd, "."), O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	/* The errno of a file system without O_TMPFILE: callers then make a file with a name. */
	return un_cap_refused(u, &u->caps.tmpfile, "O_TMPFILE", r) ? -EOPNOTSUPP : r;
}

/* The daemon makes the file as its own, and gives it away while nobody can see it. */
static int tmpfile_for(struct un_fs *fs, int dirfd, const struct un_create *what,
		       const struct un_cred *cred)
{
	struct un_layer *u = fs->upper;
	struct statx parent, st;
	int r = u->ops->stat(u, dirfd, "", &parent);
	un_autofd int fd = -1;

	if (r == 0)
		r = un_may_own(fs, cred->uid, cred->gid);
	if (r < 0)
		return r;
	fd = open_tmpfile(fs, dirfd, what);
	if (fd < 0)
		return fd;
	r = u->ops->stat(u, fd, "", &st);
	if (r == 0)
		r = un_own_new(fs, fd, "", dirfd, &parent, cred);
	/* After the owner: chown takes set-id bits away. */
	if (r == 0 && (st.stx_mode & 07000))
		r = u->ops->chmod(u, fd, "", may_keep(st.stx_mode & 07777, what, &parent, cred));
	return r < 0 ? r : un_take_fd(&fd);
}

int un_make_tmpfile(struct un_fs *fs, int dirfd, const struct un_create *what,
		    const struct un_cred *cred)
{
	const struct un_cred as = un_cred_stored(fs, cred);
	int fd, r = un_make_needs_stage(fs, what, cred) ? -EACCES : enter(fs, &as);

	if (r == 0) {
		fd = open_tmpfile(fs, dirfd, what);
		leave(fs, &as);
		if (fd != -EACCES || !fs->privileged)
			return fd;
	}
	return tmpfile_for(fs, dirfd, what, cred);
}
