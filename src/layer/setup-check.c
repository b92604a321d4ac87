/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which directory may lie where: the table of the kernel's overlayfs, with its errnos.
 *
 * "Inside" is found out by walking from a layer's root up to the root of its mount, by descriptors,
 * comparing inodes. The kernel walks the dentries of the file system instead: a layer that is
 * reached through a bind mount of a directory inside another layer is seen by it and not by us.
 * What is mounted on a directory of a layer is, to both, not inside that layer.
 */
#include "setup-others_i.h"
#include "setup_i.h"

#include <fcntl.h>
#include <glib.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/* A tree this deep is not a layer but a mistake, or an attack on our patience. */
#define DEPTH_MAX 4096

#ifndef CONFIGFS_MAGIC
#define CONFIGFS_MAGIC 0x62656570
#endif

struct key {
	uint64_t dev;
	uint64_t ino;
};

struct root {
	struct key key;
	uint64_t mount; /* 0: the kernel does not tell */
	int fd;         /* borrowed */
	bool is_lower;
	const char *option;
	const char *path;
};

struct check {
	struct un_setup *s;
	struct root *roots; /* upper, work (if there are any), lowers */
	unsigned n;
	GHashTable *by_key; /* of the roots */
	struct un_others *others;
	GHashTable *outside; /* directories seen to have no root above them, and not to be one */
};

static unsigned key_hash(const void *p)
{
	const struct key *k = p;
	uint64_t h = (k->ino ^ (k->dev << 32 | k->dev >> 32)) * 0x9e3779b97f4a7c15u;

	return (unsigned)(h >> 32);
}

static gboolean key_equal(const void *pa, const void *pb)
{
	const struct key *a = pa, *b = pb;

	return a->dev == b->dev && a->ino == b->ino;
}

/* @ret_top: nothing above it belongs to the same mount. */
static int identify(int fd, struct key *ret_key, uint64_t *ret_mount, bool *ret_top)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
		  STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0)
		return -errno;
	*ret_key = (struct key){ .dev = un_stx_dev(&st), .ino = st.stx_ino };
	*ret_mount = (st.stx_mask & STATX_MNT_ID) ? st.stx_mnt_id : 0;
	*ret_top = un_stx_is_mountpoint(&st);
	return 0;
}

/* ------------------------------------------------------------------------------------------------
 * The same directory twice
 */

static int add_root(struct check *c, int fd, bool is_lower, const char *option, const char *path)
{
	struct root *root = &c->roots[c->n];
	const struct root *twin;
	bool top;
	int r;

	*root = (struct root){ .fd = fd, .is_lower = is_lower, .option = option, .path = path };
	r = identify(fd, &root->key, &root->mount, &top);
	if (r < 0)
		return un_setup_fail(c->s, r, option, path);
	twin = g_hash_table_lookup(c->by_key, &root->key);
	if (twin)
		return un_setup_refuse(c->s, is_lower ? -ELOOP : -EINVAL, option, path,
				       "is the same directory as %s %s", twin->option, twin->path);
	g_hash_table_insert(c->by_key, &root->key, root);
	c->n++;
	return 0;
}

static int add_roots(struct check *c)
{
	const struct un_setup_request *req = c->s->req;
	const struct un_layers *ls = c->s->ls;
	int r;

	if (req->upper) {
		r = add_root(c, ls->v[0].root, false, "upperdir", req->upper);
		if (r < 0)
			return r;
		r = add_root(c, c->s->work_parent, false, "workdir", req->work);
		if (r < 0)
			return r;
		if (c->roots[0].mount != c->roots[1].mount ||
		    (!c->roots[0].mount && c->roots[0].key.dev != c->roots[1].key.dev))
			return un_setup_refuse(c->s, -EINVAL, "workdir", req->work,
					       "is not on the same mount as upperdir %s",
					       req->upper);
	}
	for (unsigned i = 1; i <= ls->n + ls->n_data; i++) {
		r = add_root(c, ls->v[i].root, true, "lowerdir", ls->v[i].path);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ------------------------------------------------------------------------------------------------
 * One inside another
 */

/* Upper and work may lie inside a lower; nothing else inside anything. */
static int check_above(struct check *c, const struct root *root, const struct key *above)
{
	const struct root *hit = g_hash_table_lookup(c->by_key, above);

	if (!hit || (!root->is_lower && hit->is_lower))
		return 0;
	return un_setup_refuse(c->s, root->is_lower ? -ELOOP : -EINVAL, root->option, root->path,
			       "lies inside %s %s", hit->option, hit->path);
}

/* Puts the parent in the place of *fd. @top: there is nothing above (what is now) *fd. */
static int step_up(int *fd, struct key *key, bool *top)
{
	un_autofd int parent = openat(*fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct key above;
	uint64_t mount;
	int r;

	if (parent < 0) {
		/* One may stand in a directory whose parents are closed to one. */
		*top = true;
		return errno == EACCES || errno == ENOENT ? 0 : -errno;
	}
	r = identify(parent, &above, &mount, top);
	if (r < 0)
		return r;
	if (key_equal(&above, key)) {
		*top = true;
		return 0;
	}
	un_close(*fd);
	*fd = un_take_fd(&parent);
	*key = above;
	return 0;
}

/* A lower that somebody changes: allowed, as by the kernel, and hardly ever meant. */
static void warn_of_other(const struct check *c, const struct root *root, const struct key *key,
			  bool inside)
{
	g_autofree char *who = root->is_lower ? un_others_at(c->others, key->dev, key->ino) : NULL;

	if (who)
		un_log(LOG_WARNING,
		       "%s: %s: %s the upperdir or workdir of another mount, %s: what is seen of "
		       "changes there is undefined",
		       root->option, root->path, inside ? "lies inside" : "is", who);
}

static int check_outside(struct check *c, const struct root *root)
{
	g_autoptr(GPtrArray) passed = g_ptr_array_new_with_free_func(g_free);
	un_autofd int fd = fcntl(root->fd, F_DUPFD_CLOEXEC, 3);
	struct key key, below;
	uint64_t mount;
	bool top;
	int r;

	r = fd < 0 ? -errno : identify(fd, &key, &mount, &top);
	if (r == 0)
		warn_of_other(c, root, &key, false);
	for (unsigned depth = 0; r == 0 && !top; depth++) {
		below = key;
		r = step_up(&fd, &key, &top);
		if (r < 0 || key_equal(&key, &below))
			break;
		r = check_above(c, root, &key);
		if (r < 0)
			return r;
		warn_of_other(c, root, &key, true);
		if (depth >= DEPTH_MAX)
			return un_setup_refuse(c->s, -ELOOP, root->option, root->path,
					       "lies too deep");
		if (!root->is_lower)
			continue;
		/* Many lowers have the same parents. */
		if (g_hash_table_contains(c->outside, &key))
			break;
		g_ptr_array_add(passed, g_memdup2(&key, sizeof(key)));
	}
	if (r < 0)
		return un_setup_fail(c->s, r, root->option, root->path);
	while (passed->len)
		g_hash_table_add(c->outside, g_ptr_array_steal_index_fast(passed, passed->len - 1));
	return 0;
}

/* ------------------------------------------------------------------------------------------------
 * File systems that cannot be a layer
 */

/* Their files are made while they are read and tell size 0: a cached or mapped read is empty. */
static bool is_synthetic(uint64_t magic)
{
	switch (magic) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case TRACEFS_MAGIC:
	case DEBUGFS_MAGIC:
	case SECURITYFS_MAGIC:
	case SELINUX_MAGIC:
	case SMACK_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case RDTGROUP_SUPER_MAGIC:
	case CONFIGFS_MAGIC:
	case BINFMTFS_MAGIC:
	case BPF_FS_MAGIC:
	case NSFS_MAGIC:
		return true;
	default:
		return false;
	}
}

static int check_kind(struct check *c, GHashTable *seen, const struct root *root)
{
	struct statfs fs;

	if (!g_hash_table_add(seen, g_memdup2(&root->key.dev, sizeof(root->key.dev))))
		return 0;
	if (fstatfs(root->fd, &fs) < 0)
		return un_setup_fail(c->s, -errno, root->option, root->path);
	if (is_synthetic((uint32_t)fs.f_type))
		return un_setup_refuse(c->s, -EINVAL, root->option, root->path,
				       "is on a file system of the kernel's own (/proc, /sys..)");
	return 0;
}

int un_setup_check(struct un_setup *s)
{
	g_autofree struct root *roots = g_new0(struct root, s->ls->n + s->ls->n_data + 2);
	g_autoptr(GHashTable) by_key = g_hash_table_new(key_hash, key_equal);
	g_autoptr(GHashTable) outside = g_hash_table_new_full(key_hash, key_equal, g_free, NULL);
	g_autoptr(GHashTable) kinds =
		g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	struct check c = { .s = s,
			   .roots = roots,
			   .by_key = by_key,
			   .others = un_others_new(),
			   .outside = outside };
	int r;

	r = add_roots(&c);
	for (unsigned i = 0; i < c.n && r == 0; i++)
		r = check_outside(&c, &roots[i]);
	for (unsigned i = 0; i < c.n && r == 0; i++)
		r = check_kind(&c, kinds, &roots[i]);
	un_others_free(c.others);
	return r;
}
