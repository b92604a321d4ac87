/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The merged tree as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stack_i.h"

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct view {
	struct un_fs *fs;
	unsigned flags;
	char **names;
	GString *out;
	GHashTable *inos; /* number -> the first path that has it */
	time_t now;
};

struct child {
	char *name;
	uint64_t ino;
	uint8_t type;
	struct un_inode *inode;
	struct statx st;
};

static void child_free(gpointer p)
{
	struct child *c = p;

	g_free(c->name);
	g_free(c);
}

static int by_name(gconstpointer a, gconstpointer b)
{
	return strcmp((*(struct child *const *)a)->name, (*(struct child *const *)b)->name);
}

static bool collect(void *data, const struct un_dirent *e)
{
	struct child *c;

	if (e->cookie <= 2)
		return true;
	c = g_new0(struct child, 1);
	c->name = g_strdup(e->name);
	c->ino = e->ino;
	c->type = e->type;
	c->inode = e->inode;
	if (e->st)
		c->st = *e->st;
	g_ptr_array_add(data, c);
	return true;
}

static void show_data(struct view *v, struct un_inode *inode, uint64_t size)
{
	static char small[65536];
	g_autofree char *big = size + 16 > sizeof(small) ? g_malloc(size + 16) : NULL;
	char *buf = big ? big : small;
	bool cold;
	ssize_t n = un_read(v->fs, inode, buf, size + 16, 0, &cold);

	if (n < 0)
		g_string_append_printf(v->out, " !read:%s", g_strerror((int)-n));
	else if ((uint64_t)n != size)
		g_string_append_printf(v->out, " !read:%zd-of-%" PRIu64, n, size);
	g_string_append(v->out, " = ");
	if (n > 0)
		stack_show_bytes(v->out, buf, (size_t)n);
}

static void show_xattrs(struct view *v, struct un_inode *inode)
{
	static char list[65536], value[65536];
	const struct un_cred root = { 0 };
	ssize_t n = un_listxattr(v->fs, inode, &root, list, sizeof(list));
	GPtrArray *all;

	if (n < 0) {
		g_string_append_printf(v->out, " !listxattr:%s", g_strerror((int)-n));
		return;
	}
	all = g_ptr_array_new();
	for (char *p = list; p < list + n; p += strlen(p) + 1)
		g_ptr_array_add(all, p);
	g_ptr_array_sort(all, stack_by_string);
	for (unsigned i = 0; i < all->len; i++) {
		const char *name = all->pdata[i];

		if (strcmp(name, "security.selinux") == 0)
			continue;
		n = un_getxattr(v->fs, inode, name, value, sizeof(value));
		g_string_append_printf(v->out, " %s=", name);
		if (n < 0)
			g_string_append_printf(v->out, "!%s", g_strerror((int)-n));
		else
			stack_show_bytes(v->out, value, (size_t)n);
	}
	g_ptr_array_free(all, TRUE);
}

static void show_object(struct view *v, const char *path, struct un_inode *inode,
			const struct statx *st)
{
	static const char types[] = "?pc?d?b?-?l?s???";
	const char *first = g_hash_table_lookup(v->inos, &st->stx_ino);
	char target[4096];
	ssize_t n;

	if (!first) {
		g_hash_table_insert(v->inos, g_memdup2(&st->stx_ino, 8), g_strdup(path));
		first = path;
	}
	g_string_append_printf(v->out, "%s %c%04o %u:%u", path, types[IFTODT(st->stx_mode)],
			       st->stx_mode & 07777, st->stx_uid, st->stx_gid);
	if (st->stx_mtime.tv_sec > v->now - 3600)
		g_string_append(v->out, " now");
	else
		g_string_append_printf(v->out, " %lld.%09u", (long long)st->stx_mtime.tv_sec,
				       st->stx_mtime.tv_nsec);
	if (strcmp(first, path) != 0)
		g_string_append_printf(v->out, " like:%s", first);
	if (!S_ISDIR(st->stx_mode))
		g_string_append_printf(v->out, " links:%u", st->stx_nlink);
	if (S_ISCHR(st->stx_mode) || S_ISBLK(st->stx_mode))
		g_string_append_printf(v->out, " %u:%u", st->stx_rdev_major, st->stx_rdev_minor);
	if (S_ISLNK(st->stx_mode)) {
		n = un_readlink(v->fs, inode, target, sizeof(target));
		g_string_append_printf(v->out, " -> %.*s", n < 0 ? 0 : (int)n, target);
		if (n < 0)
			g_string_append_printf(v->out, "!readlink:%s", g_strerror((int)-n));
	}
	if (S_ISREG(st->stx_mode))
		show_data(v, inode, st->stx_size);
	show_xattrs(v, inode);
	g_string_append_c(v->out, '\n');
}

static void view_dir(struct view *v, const char *path, struct un_inode *dir);

static void view_child(struct view *v, const char *dir_path, struct un_inode *dir, struct child *c)
{
	g_autofree char *path =
		*dir_path ? g_strconcat(dir_path, "/", c->name, NULL) : g_strdup(c->name);
	struct un_inode *inode;
	struct statx st;
	int r = un_lookup(v->fs, dir, c->name, &inode, &st);

	if (r < 0) {
		g_string_append_printf(v->out, "%s !lookup:%s\n", path, g_strerror(-r));
		un_inode_put(v->fs, c->inode);
		return;
	}
	if (c->inode && c->inode != inode)
		g_string_append_printf(v->out, "%s !readdir gave another inode\n", path);
	if (c->ino != st.stx_ino || c->type != IFTODT(st.stx_mode) ||
	    (c->inode && c->st.stx_ino != st.stx_ino))
		g_string_append_printf(
			v->out, "%s !readdir: ino %" PRIu64 " type %u, stat: %llu %u\n", path,
			c->ino, c->type, (unsigned long long)st.stx_ino, IFTODT(st.stx_mode));
	show_object(v, path, inode, &st);
	if (v->flags & STACK_VIEW_KEEP)
		un_inode_remember(v->fs, inode);
	if (S_ISDIR(st.stx_mode))
		view_dir(v, path, inode);
	un_inode_put(v->fs, c->inode);
	un_inode_put(v->fs, inode);
}

static void view_dir(struct view *v, const char *path, struct un_inode *dir)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(child_free);
	GHashTable *found = g_hash_table_new(g_str_hash, g_str_equal);
	int r;

	for (char **p = v->names; p && *p; p++) {
		struct un_inode *inode;

		if (!**p)
			continue;
		r = un_lookup(v->fs, dir, *p, &inode, NULL);
		if (r == 0)
			un_inode_put(v->fs, inode);
		if (r == 0)
			g_hash_table_add(found, *p);
		else if (r != -ENOENT)
			g_string_append_printf(v->out, "%s/%s !lookup:%s\n", path, *p,
					       g_strerror(-r));
	}
	r = un_readdir(v->fs, dir, 0, true, collect, all);
	if (r < 0)
		g_string_append_printf(v->out, "%s !readdir:%s\n", path, g_strerror(-r));
	g_ptr_array_sort(all, by_name);
	for (unsigned i = 0; i < all->len; i++) {
		struct child *c = all->pdata[i];

		g_hash_table_remove(found, c->name);
		view_child(v, path, dir, c);
	}
	for (char **p = v->names; p && *p; p++)
		if (**p && g_hash_table_contains(found, *p))
			g_string_append_printf(v->out, "%s/%s !found, not listed\n", path, *p);
	g_hash_table_destroy(found);
	g_ptr_array_free(all, TRUE);
}

char *stack_view(struct un_fs *fs, unsigned flags, const char *names)
{
	struct view v = { .fs = fs, .flags = flags, .out = g_string_new("") };
	struct un_inode *root = un_inode_get(fs, UN_ROOT_ID);
	struct statx st;

	v.now = time(NULL);
	v.inos = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
	if (flags & STACK_VIEW_NAMES)
		v.names = g_strsplit(names, " ", -1);
	assert_int_equal(un_getattr(fs, root, &st), 0);
	show_object(&v, "", root, &st);
	view_dir(&v, "", root);
	un_inode_put(fs, root);
	g_strfreev(v.names);
	g_hash_table_destroy(v.inos);
	return g_string_free(v.out, FALSE);
}
