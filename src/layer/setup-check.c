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
	int fd;         /* borrowed, for the check */
	const struct un_layer *layer; /* NULL: the workdir */
	bool is_lower;
	const char *option;
	char *path;
	GHashTable *above; /* of a lower: the directories that it lies in */
};

struct check {
	struct un_setup *s;
	GPtrArray *
		roots; /* of struct root, owned by the layers: upper, work (if there are any), lowers */
	GHashTable *by_key; /* of the roots */
	struct un_others *others;
	/* Directories seen to have no root above them, and not to be one; and what is above each, or NULL. */
	GHashTable *outside;
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

static void root_free(void *p)
{
	struct root *root = p;

	g_free(root->path);
	g_clear_pointer(&root->above, g_hash_table_unref);
	g_free(root);
}

static int add_root(struct check *c, const struct un_layer *l, int fd, bool is_lower,
		    const char *option, const char *path)
{
	struct root *root = g_new0(struct root, 1);
	const struct root *twin;
	bool top;
	int r;

	*root = (struct root){
		.fd = fd, .layer = l, .is_lower = is_lower, .option = option, .path = g_strdup(path)
	};
	g_ptr_array_add(c->roots, root);
	if (is_lower)
		root->above = g_hash_table_new_full(key_hash, key_equal, g_free, NULL);
	r = identify(fd, &root->key, &root->mount, &top);
	if (r < 0)
		return un_setup_fail(c->s, r, option, path);
	twin = g_hash_table_lookup(c->by_key, &root->key);
	if (twin)
		return un_setup_refuse(c->s, is_lower ? -ELOOP : -EINVAL, option, path,
				       "is the same directory as %s %s", twin->option, twin->path);
	g_hash_table_insert(c->by_key, &root->key, root);
	return 0;
}

static struct root *nth(const struct check *c, unsigned i)
{
	return c->roots->pdata[i];
}

static int add_roots(struct check *c)
{
	const struct un_setup_request *req = c->s->req;
	const struct un_layers *ls = c->s->ls;
	int r;

	if (req->upper) {
		r = add_root(c, &ls->v[0], ls->v[0].root, false, "upperdir", req->upper);
		if (r < 0)
			return r;
		r = req->work ? add_root(c, NULL, c->s->work_parent, false, "workdir", req->work)
			      : 0;
		if (r < 0)
			return r;
		if (req->work && (nth(c, 0)->mount != nth(c, 1)->mount ||
				  (!nth(c, 0)->mount && nth(c, 0)->key.dev != nth(c, 1)->key.dev)))
			return un_setup_refuse(c->s, -EINVAL, "workdir", req->work,
					       "is not on the same mount as upperdir %s",
					       req->upper);
	}
	for (unsigned i = 1; i <= ls->n + ls->n_data; i++) {
		r = add_root(c, &ls->v[i], ls->v[i].root, true, "lowerdir", ls->v[i].path);
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

static void lies_in(struct root *root, const struct key *key)
{
	g_hash_table_add(root->above, g_memdup2(key, sizeof(*key)));
}

/* What is above @key, which is known. */
static void lies_further_in(const struct check *c, struct root *root, const struct key *key)
{
	while ((key = g_hash_table_lookup(c->outside, key)))
		lies_in(root, key);
}

/* @passed: one above the other. */
static void note_outside(const struct check *c, GPtrArray *passed, const struct key *above)
{
	while (passed->len) {
		struct key *key = g_ptr_array_steal_index(passed, passed->len - 1);

		g_hash_table_insert(c->outside, key,
				    above ? g_memdup2(above, sizeof(*above)) : NULL);
		above = key;
	}
}

static int check_outside(struct check *c, struct root *root)
{
	g_autoptr(GPtrArray) passed = g_ptr_array_new_with_free_func(g_free);
	un_autofd int fd = fcntl(root->fd, F_DUPFD_CLOEXEC, 3);
	struct key key, below;
	bool top, known = false;
	uint64_t mount;
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
		lies_in(root, &key);
		/* Many lowers have the same parents. */
		known = g_hash_table_contains(c->outside, &key);
		if (known)
			break;
		g_ptr_array_add(passed, g_memdup2(&key, sizeof(key)));
	}
	if (r < 0)
		return un_setup_fail(c->s, r, root->option, root->path);
	if (known)
		lies_further_in(c, root, &key);
	note_outside(c, passed, known ? &key : NULL);
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

static int check_from(struct un_setup *s, unsigned from, struct check *c)
{
	g_autoptr(GHashTable) outside = g_hash_table_new_full(key_hash, key_equal, g_free, g_free);
	g_autoptr(GHashTable) kinds =
		g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	int r = 0;

	c->others = un_others_new();
	c->outside = outside;
	for (unsigned i = from; i < c->roots->len && r == 0; i++)
		r = check_outside(c, nth(c, i));
	for (unsigned i = from; i < c->roots->len && r == 0; i++)
		r = check_kind(c, kinds, nth(c, i));
	un_others_free(c->others);
	return r;
}

int un_setup_check(struct un_setup *s)
{
	g_autoptr(GHashTable) by_key = g_hash_table_new(key_hash, key_equal);
	struct check c = { .s = s, .by_key = by_key };
	int r;

	c.roots = s->ls->roots = g_ptr_array_new_with_free_func(root_free);
	r = add_roots(&c);
	return r == 0 ? check_from(s, 0, &c) : r;
}

/* A lower in which others lie would show them twice. */
static int check_below(struct check *c, const struct root *root)
{
	for (unsigned i = 0; i < c->roots->len; i++) {
		const struct root *other = nth(c, i);

		if (other != root && other->above &&
		    g_hash_table_contains(other->above, &root->key))
			return un_setup_refuse(c->s, -ELOOP, root->option, root->path,
					       "contains %s %s", other->option, other->path);
	}
	return 0;
}

int un_setup_check_more(struct un_setup *s, struct un_layer *l)
{
	g_autoptr(GHashTable) by_key = g_hash_table_new(key_hash, key_equal);
	struct check c = { .s = s, .by_key = by_key, .roots = s->ls->roots };
	int r;

	for (unsigned i = 0; i < c.roots->len; i++)
		g_hash_table_insert(by_key, &nth(&c, i)->key, nth(&c, i));
	r = add_root(&c, l, l->root, true, "lowerdir", l->path);
	if (r == 0)
		r = check_from(s, c.roots->len - 1, &c);
	if (r == 0)
		r = check_below(&c, nth(&c, c.roots->len - 1));
	if (r < 0)
		un_setup_check_less(s->ls, l);
	return r;
}

void un_setup_check_less(struct un_layers *ls, const struct un_layer *l)
{
	for (unsigned i = 0; i < ls->roots->len; i++)
		if (((struct root *)ls->roots->pdata[i])->layer == l)
			g_ptr_array_remove_index(ls->roots, i--);
}
