/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the layers' file systems can do. A question has three answers: yes, no, and "it could not be
 * asked", which fails the mount: a disk error must not quietly choose another way of writing marks.
 */
#include "setup_i.h"

#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "layer/marks.h"
#include "layer/origin.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/* linux/fs.h has it since 6.9. */
struct fsuuid {
	uint8_t len;
	uint8_t uuid[16];
};
#define GETFSUUID _IOR(0x15, 0, struct fsuuid)

/* The result of a trial call as an answer: 1, 0, or -errno (it could not be asked). */
static int answer(ssize_t r)
{
	if (r >= 0)
		return 1;
	switch (-r) {
	case EPERM:
	case EACCES:
	case EOPNOTSUPP:
	case ENOSYS:
	case ENOTTY:
	case EINVAL:
	case EISDIR: /* O_TMPFILE, where the file system does not know it */
		return 0;
	case ENOSPC:
	case EDQUOT:
		/* The call is known, and a full disk must stay mountable to be emptied. */
		return 1;
	default:
		return (int)r;
	}
}

/*
 * Asked with an xattr on anonymous memory, where nothing but the permission can be in the way.
 * Reading does not tell (trusted.* without the right to it: ENODATA), nor does the capability (it
 * counts in the first user namespace only).
 */
bool un_setup_privileged(void)
{
	un_autofd int fd = memfd_create("probe", MFD_CLOEXEC);

	if (fd < 0)
		return geteuid() == 0;
	return fsetxattr(fd, "trusted.overlay.opaque", "0", 1, 0) == 0 || errno != EPERM;
}

/* ------------------------------------------------------------------------------------------------
 * Any layer
 */

static int probe_acl(struct un_layer *l)
{
	ssize_t r = l->ops->getxattr(l, l->root, "", "system.posix_acl_access", NULL, 0);

	/* EACCES, ESTALE..: what it supports is not told; taking ACLs for possible is harmless. */
	return r != -EOPNOTSUPP && r != -ENOSYS;
}

/* A file in it that fails to answer then (rclone: EIO) has none either. */
static bool probe_xattrless(struct un_layer *l)
{
	ssize_t r = l->ops->listxattr(l, l->root, "", NULL, 0);

	return r == -EOPNOTSUPP || r == -ENOSYS;
}

/*
 * Handles of a FUSE file system are good for one mount only, if at all: so none are taken from it.
 */
static int probe_handles(const struct un_layer *l)
{
	union {
		struct file_handle h;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = { .h.handle_bytes = MAX_HANDLE_SZ };
	struct statfs fs;
	int mount_id;

	if (fstatfs(l->root, &fs) < 0 || (uint32_t)fs.f_type == FUSE_SUPER_MAGIC)
		return 0;
	return name_to_handle_at(l->root, "", &u.h, &mount_id, AT_EMPTY_PATH) == 0;
}

/* Linux tells of changes on this machine only; with these there are others. */
static bool probe_remote(const struct un_layer *l)
{
	struct statfs fs;

	if (fstatfs(l->root, &fs) < 0)
		return true;
	switch ((uint32_t)fs.f_type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case V9FS_MAGIC:
	case FUSE_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
	case AFS_SUPER_MAGIC:
	case AFS_FS_MAGIC:
	case CODA_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static void probe_uuid(struct un_layer *l)
{
	struct fsuuid u = { 0 };
	un_autofd int fd = l->ops->open(l, l->root, "", O_RDONLY | O_DIRECTORY, 0);

	struct btrfs_ioctl_fs_info_args info = { 0 };

	if (fd >= 0 && ioctl(fd, GETFSUUID, &u) == 0 && u.len == sizeof(l->uuid))
		memcpy(l->uuid, u.uuid, sizeof(l->uuid));
	/* It does not tell its superblock's to the general question (6.18). */
	else if (fd >= 0 && ioctl(fd, BTRFS_IOC_FS_INFO, &info) == 0)
		memcpy(l->uuid, info.fsid, sizeof(l->uuid));
}

/* A question that cannot be asked leaves the flags what they seem to be. */
static bool probe_flagless(struct un_layer *l)
{
	un_autofd int fd = l->ops->open(l, l->root, "", O_RDONLY | O_DIRECTORY, 0);
	int flags = 0;

	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0)
		return false;
	return errno == ENOTTY || errno == EOPNOTSUPP || errno == ENOSYS;
}

static void probe_any(const struct un_setup *s, struct un_layer *l)
{
	l->flagless = probe_flagless(l);
	l->remote = probe_remote(l);
	l->caps.acl = probe_acl(l);
	l->caps.handles = probe_handles(l);
	l->caps.d_type = true;
	l->xattrless = probe_xattrless(l);
	un_setup_probe_numbers(l);
	if (!s->req->no_uuid)
		probe_uuid(l);
	l->subvol = un_origin_subvolume(l);
}

/* A handle of the one would be taken for one of the other: as the kernel, none are for either. */
static void are_twins(struct un_layer *a, struct un_layer *b)
{
	if (a->dev != b->dev && a->subvol == b->subvol && a->caps.handles && b->caps.handles &&
	    memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0)
		a->twin = b->twin = true;
}

static void find_twins(struct un_layers *ls)
{
	for (unsigned i = 2; i <= ls->n; i++)
		for (unsigned j = 1; j < i; j++)
			are_twins(&ls->v[i], &ls->v[j]);
}

static void same_file_system(struct un_layer *l, const struct un_layer *known)
{
	l->caps = known->caps;
	l->flagless = known->flagless;
	memcpy(l->uuid, known->uuid, sizeof(l->uuid));
	l->numbers = known->numbers;
	l->doubtful = known->doubtful;
	l->xattrless = known->xattrless;
	l->subvol = known->subvol;
	l->remote = known->remote;
}

int un_setup_probe_lowers(struct un_setup *s)
{
	g_autoptr(GHashTable) by_dev = g_hash_table_new(g_int64_hash, g_int64_equal);

	for (unsigned i = 1; i <= s->ls->n + s->ls->n_data; i++) {
		struct un_layer *l = &s->ls->v[i];
		const struct un_layer *known = g_hash_table_lookup(by_dev, &l->dev);

		if (known) {
			same_file_system(l, known);
			continue;
		}
		probe_any(s, l);
		g_hash_table_insert(by_dev, &l->dev, l);
		un_debug("layer %u: %s: acl %d, handles %d", i, l->path, l->caps.acl,
			 l->caps.handles);
	}
	find_twins(s->ls);
	return 0;
}

void un_setup_probe_more(struct un_setup *s, struct un_layer *l)
{
	struct un_layer *known = NULL;

	while ((known = un_layers_next(s->ls, known)))
		if (known != l && known->index > 0 && known->dev == l->dev)
			break;
	if (known)
		same_file_system(l, known);
	else
		probe_any(s, l);
	l->dialect = s->ls->v[s->ls->has_upper ? 0 : 1].dialect;
	for (known = NULL; (known = un_layers_next(s->ls, known));)
		if (known != l && known->index > 0 && !known->data_only)
			are_twins(l, known);
}

/* ------------------------------------------------------------------------------------------------
 * The upper, in WORK/work
 */

struct probe {
	struct un_layer *l;
	int work;
	char a[64], b[64]; /* names to play with, new for each question */
};

static int try_xattr(struct probe *p, const char *name)
{
	int r = p->l->ops->setxattr(p->l, p->work, "", name, "0", 1, 0);

	if (r == 0)
		un_ignore(p->l->ops->removexattr(p->l, p->work, "", name));
	return answer(r);
}

void un_setup_dialect(struct un_setup *s, enum un_dialect dialect)
{
	for (unsigned i = 0; i <= s->ls->n + s->ls->n_data; i++)
		s->ls->v[i].dialect = dialect;
}

/* Sets caps.xattr and the dialect. */
static int probe_xattr(struct un_setup *s, struct probe *p)
{
	int r = 0;

	un_setup_dialect(s, UN_DIALECT_TRUSTED);
	if (!s->req->userxattr)
		r = try_xattr(p, "trusted.overlay.opaque");
	if (r == 0) {
		un_setup_dialect(s, UN_DIALECT_USER);
		r = try_xattr(p, "user.overlay.opaque");
	}
	if (r == 0 && !s->req->userxattr && un_setup_privileged())
		un_setup_dialect(s, UN_DIALECT_TRUSTED);
	p->l->caps.xattr = r > 0;
	return r;
}

static int probe_tmpfile(struct un_setup *s, struct probe *p)
{
	un_autofd int fd = p->l->ops->open(p->l, p->work, "", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int r = answer(fd);

	if (r <= 0 || fd < 0)
		goto out;
	r = p->l->ops->link(p->l, fd, "", p->work, p->a);
	r = r == -ENOENT ? 0 : answer(r); /* ENOENT: without /proc it cannot be named */
out:
	p->l->caps.tmpfile = r > 0;
	return r;
}

static int probe_mknod(struct un_setup *s, struct probe *p)
{
	int r = answer(p->l->ops->mknod(p->l, p->work, p->a, S_IFCHR, makedev(0, 0)));

	p->l->caps.mknod_whiteout = r > 0;
	return r;
}

/*
 * Without either, marks are names: see whiteout.h. With them there are such marks only if somebody has put
 * them into it.
 */
static int probe_tar_names(struct un_setup *s, struct probe *p)
{
	char buf[1024] __attribute__((aligned(8)));
	un_autofd int fd = p->l->ops->open(p->l, p->l->root, "", O_RDONLY | O_DIRECTORY, 0);
	ssize_t n = fd < 0 ? fd : p->l->ops->getdents(p->l, fd, buf, sizeof(buf));

	p->l->tar_names = !p->l->caps.xattr;
	/* What cannot be read may hold some. The first block tells: "." and ".." at most. */
	p->l->fresh = n >= 0;
	for (ssize_t at = 0; at < n;) {
		const struct dirent64 *d = (const void *)(buf + at);

		at += d->d_reclen;
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			p->l->fresh = false;
	}
	return 0;
}

/* Two regular files p->a and p->b. 0: there is no room for them. */
static int make_pair(struct probe *p)
{
	int r = un_layer_make_file(p->l, p->work, p->a, 0600);

	if (r == 0)
		r = un_layer_make_file(p->l, p->work, p->b, 0600);
	return r == 0 ? 1 : r == -ENOSPC || r == -EDQUOT ? 0 : r;
}

/* Can the pair be renamed with @flags? @found: what it is that is refused where it is known. */
static int try_rename(struct probe *p, unsigned flags, int found, atomic_bool *cap)
{
	int r = make_pair(p);

	if (r == 0)
		*cap = true;
	if (r <= 0)
		return r;
	r = p->l->ops->rename(p->l, p->work, p->a, p->work, p->b, flags);
	/* A flag that is not looked at has replaced the other. */
	r = found && r == found ? 1 : found && r == 0 ? 0 : answer(r);
	*cap = r > 0;
	return r;
}

static int probe_exchange(struct un_setup *s, struct probe *p)
{
	return try_rename(p, RENAME_EXCHANGE, 0, &p->l->caps.rename_exchange);
}

static int probe_new(struct un_setup *s, struct probe *p)
{
	return try_rename(p, RENAME_NOREPLACE, -EEXIST, &p->l->caps.rename_new);
}

static int probe_link(struct un_setup *s, struct probe *p)
{
	int r = make_pair(p);

	if (r == 0)
		p->l->caps.link = true;
	if (r <= 0)
		return r;
	r = p->l->ops->unlink(p->l, p->work, p->b, 0);
	if (r == 0)
		r = p->l->ops->link(p->l, p->work, p->a, p->work, p->b);
	r = answer(r);
	p->l->caps.link = r > 0;
	return r;
}

static int probe_whiteout(struct un_setup *s, struct probe *p)
{
	return try_rename(p, RENAME_WHITEOUT, 0, &p->l->caps.rename_whiteout);
}

static int probe_numbers(struct un_setup *s, struct probe *p)
{
	return un_setup_probe_numbers_upper(p->l, p->work, p->a, p->b);
}

static int probe_d_type(struct un_setup *s, struct probe *p)
{
	char buf[4096] __attribute__((aligned(8)));
	un_autofd int fd = -1;
	ssize_t n;
	int r = make_pair(p);

	p->l->caps.d_type = true;
	if (r <= 0)
		return r;
	fd = p->l->ops->open(p->l, p->work, "", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	while ((n = p->l->ops->getdents(p->l, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			at += d->d_reclen;
			if (d->d_name[0] != '.' && d->d_type == DT_UNKNOWN)
				p->l->caps.d_type = false;
		}
	}
	return (int)n;
}

static const struct {
	const char *what;
	int (*ask)(struct un_setup *s, struct probe *p);
} upper_probes[] = {
	{ "extended attributes", probe_xattr },
	{ "O_TMPFILE", probe_tmpfile },
	{ "whiteouts", probe_mknod },
	{ "names as marks", probe_tar_names },
	{ "RENAME_EXCHANGE", probe_exchange },
	{ "RENAME_NOREPLACE", probe_new },
	{ "RENAME_WHITEOUT", probe_whiteout },
	{ "hard links", probe_link },
	{ "d_type", probe_d_type },
	{ "inode numbers", probe_numbers },
};

int un_setup_probe_upper(struct un_setup *s)
{
	struct un_layer *l = &s->ls->v[0];
	struct probe p = { .l = l, .work = s->ls->work };

	probe_any(s, l);
	for (size_t i = 0; i < G_N_ELEMENTS(upper_probes); i++) {
		int r;

		snprintf(p.a, sizeof(p.a), "#%s-probe%zua", s->ls->stage_id, i);
		snprintf(p.b, sizeof(p.b), "#%s-probe%zub", s->ls->stage_id, i);
		r = upper_probes[i].ask(s, &p);
		un_ignore(l->ops->unlink(l, p.work, p.a, 0));
		un_ignore(l->ops->unlink(l, p.work, p.b, 0));
		if (r < 0)
			return un_setup_refuse(s, r, "workdir", s->req->work,
					       "cannot find out about %s", upper_probes[i].what);
	}
	return 0;
}

void un_setup_probe_look(struct un_setup *s)
{
	struct un_layer *l = &s->ls->v[0];
	ssize_t n;

	probe_any(s, l);
	un_setup_dialect(s, !s->req->userxattr && un_setup_privileged() ? UN_DIALECT_TRUSTED
									: UN_DIALECT_USER);
	n = l->ops->getxattr(l, l->root, "", un_mark_name(l, UN_MARK_OPAQUE), NULL, 0);
	l->caps.xattr = n != -EOPNOTSUPP && n != -ENOSYS;
	l->tar_names = !l->caps.xattr;
}

void un_setup_probe_report(const struct un_setup *s)
{
	const struct un_layer *l = &s->ls->v[0];
	const struct {
		bool has;
		int level;
		const char *consequence;
	} lines[] = {
		{ l->caps.xattr, LOG_WARNING,
		  "no extended attributes for marks: .wh. names are used, which the kernel's overlayfs "
		  "does not read; no redirect_dir, metacopy, index" },
		{ l->caps.tmpfile, LOG_INFO,
		  "no O_TMPFILE: files are staged under names in workdir" },
		{ l->caps.mknod_whiteout, LOG_WARNING,
		  l->caps.xattr
			  ? "no 0:0 device nodes: deletions are marked by an extended attribute "
			    "(overlay.whiteout), which the kernel's overlayfs does not list as "
			    "deleted in an upper"
			  : "no 0:0 device nodes: deletions are marked by .wh. names, which the "
			    "kernel's overlayfs does not read" },
		{ l->caps.rename_exchange, LOG_INFO,
		  "no RENAME_EXCHANGE: some replacements take two steps, and programs cannot "
		  "exchange names" },
		{ l->caps.rename_whiteout, LOG_INFO,
		  "no RENAME_WHITEOUT: moving a file takes two steps" },
		{ l->caps.link, LOG_INFO, "no hard links: link(2) fails, and no index" },
		{ l->caps.acl, LOG_INFO, "no POSIX ACLs: those of lowers are not copied up" },
		{ l->caps.handles, LOG_INFO,
		  "no file handles: inode numbers may change with a remount" },
		{ l->caps.d_type, LOG_INFO,
		  "no file types in listings: listing asks for each name" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(lines); i++)
		if (!lines[i].has)
			un_log(lines[i].level, "upperdir: %s: %s", l->path, lines[i].consequence);
}
