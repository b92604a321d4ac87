/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "change_i.h"

#include "config_i.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>

#if UN_HAVE_LIBATTR
#include <attr/libattr.h>
#endif

#define PIECE (128 * 1024)

/* ---- data ---------------------------------------------------------------------------------------------- */

/* By a path from the root of a data-only layer, where marks mean nothing. */
static int open_in_data_layer(struct un_layer *l, const char *path)
{
	g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);
	un_autofd int owned = -1;
	int dirfd = l->root;

	for (char **n = names; *n; n++) {
		int fd = l->ops->open(l, dirfd, *n,
				      n[1] ? O_PATH | O_DIRECTORY | O_NOFOLLOW
					   : O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
				      0);

		if (fd < 0 || !n[1])
			return fd;
		un_close(owned);
		owned = dirfd = fd;
	}
	return -ENOENT;
}

static int open_data_path(const struct un_tool_side *side, struct un_layer **ret_layer)
{
	struct un_layer *l = NULL;
	int r = -ENOENT;

	while (r == -ENOENT && (l = un_layers_next(side->layers, l))) {
		if (!l->data_only)
			continue;
		r = open_in_data_layer(l, side->found->data_path);
		*ret_layer = l;
	}
	return r;
}

/* The object with the data; NULL: it is in a data-only layer. */
static const struct un_hit *data_of(const struct un_tool_side *side)
{
	return !side->found->metacopy ? side->hit : side->found->data;
}

int un_tool_open_data(const struct un_tool_side *side, struct un_layer **ret_layer)
{
	const struct un_hit *h = data_of(side);
	struct un_at at;
	int fd = -EPERM;

	if (!h)
		return open_data_path(side, ret_layer);
	at = un_tool_at(h, side->name);
	*ret_layer = h->layer;
	/* Upper and lowers are read-only clones without times of access, where these can be had. */
	if (h->layer->clone < 0)
		fd = un_at_open(&at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME, 0);
	return fd == -EPERM ? un_at_open(&at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0) : fd;
}

/* Fills the buffer unless the file ends. */
static ssize_t read_piece(struct un_layer *l, int fd, char *buf, off_t off)
{
	size_t have = 0;

	while (have < PIECE) {
		ssize_t n = l->ops->pread(l, fd, buf + have, PIECE - have, off + (off_t)have);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

static int same_bytes(struct un_layer *la, int a, struct un_layer *lb, int b)
{
	g_autofree char *x = g_malloc(PIECE), *y = g_malloc(PIECE);

	for (off_t off = 0;; off += PIECE) {
		ssize_t n = read_piece(la, a, x, off), m = n < 0 ? n : read_piece(lb, b, y, off);

		if (m < 0)
			return (int)m;
		if (n != m || memcmp(x, y, (size_t)n) != 0)
			return 0;
		if (n < PIECE)
			return 1;
	}
}

static bool same_place(const struct un_tool_side *now, const struct un_tool_side *was)
{
	const struct un_hit *a = data_of(now), *b = data_of(was);

	if (a && b)
		return un_tool_same(a, b);
	return !a && !b && strcmp(now->found->data_path, was->found->data_path) == 0;
}

/* 1, 0 or -errno. */
static int same_data(const struct un_tool_side *now, const struct un_tool_side *was)
{
	un_autofd int a = -1, b = -1;
	struct un_layer *la, *lb;

	if (now->hit->st.stx_size != was->hit->st.stx_size)
		return 0;
	if (now->hit->st.stx_size == 0 || same_place(now, was))
		return 1;
	a = un_tool_open_data(now, &la);
	b = a < 0 ? a : un_tool_open_data(was, &lb);
	return b < 0 ? b : same_bytes(la, a, lb, b);
}

static ssize_t target_of(const struct un_tool_side *side, char *buf)
{
	const struct un_at at = un_tool_at(side->hit, side->name);

	return at.layer->ops->readlink(at.layer, at.dirfd, at.name, buf, PATH_MAX);
}

static int same_target(const struct un_tool_side *now, const struct un_tool_side *was)
{
	g_autofree char *a = g_malloc(PATH_MAX), *b = g_malloc(PATH_MAX);
	ssize_t n = target_of(now, a), m = n < 0 ? n : target_of(was, b);

	return m < 0 ? (int)m : n == m && memcmp(a, b, (size_t)n) == 0;
}

static int same_content(const struct un_tool_side *now, const struct un_tool_side *was)
{
	const struct statx *a = &now->hit->st, *b = &was->hit->st;

	if (S_ISREG(a->stx_mode))
		return same_data(now, was);
	if (S_ISLNK(a->stx_mode))
		return same_target(now, was);
	if (S_ISCHR(a->stx_mode) || S_ISBLK(a->stx_mode))
		return a->stx_rdev_major == b->stx_rdev_major &&
		       a->stx_rdev_minor == b->stx_rdev_minor;
	return 1;
}

/* ---- extended attributes --------------------------------------------------------------------------------- */

#if UN_HAVE_LIBATTR
/* Those that are no property of a file but of where it is: no program that copies files copies them. */
static bool is_skipped(const char *name)
{
	return attr_copy_action(name, NULL) == ATTR_ACTION_SKIP;
}
#else
static bool is_skipped(const char *name)
{
	return strcmp(name, "security.evm") == 0;
}
#endif

/* The user's name of each -> the value, GBytes. */
static int read_xattrs(const struct un_tool_side *side, GHashTable *ret)
{
	const struct un_at at = un_tool_at(side->hit, side->name);
	struct un_layer *l = at.layer;
	g_autofree char *value = NULL;
	char *list = NULL;
	ssize_t len = un_xattr_list(&at, &list), n = 0;

	for (ssize_t i = 0; i < len && n >= 0; i += (ssize_t)strlen(list + i) + 1) {
		char buf[XATTR_NAME_MAX + 1];
		const char *shown = un_xattr_from_layer(l, list + i, buf);

		if (!shown || is_skipped(shown))
			continue;
		if (!value)
			value = g_malloc(XATTR_SIZE_MAX);
		n = l->ops->getxattr(l, at.dirfd, at.name, list + i, value, XATTR_SIZE_MAX);
		/* Gone meanwhile; or one of those that are listed and cannot be read. */
		if (n == -ENODATA || n == -EOPNOTSUPP || n == -EPERM || n == -EACCES)
			n = 0;
		else if (n >= 0)
			g_hash_table_replace(ret, g_strdup(shown), g_bytes_new(value, (size_t)n));
	}
	free(list);
	return len < 0 ? (int)len : n < 0 ? (int)n : 0;
}

static void note(GPtrArray **notes, char sign, const char *name)
{
	if (!*notes)
		*notes = g_ptr_array_new_with_free_func(g_free);
	g_ptr_array_add(*notes, g_strdup_printf("%c%s", sign, name));
}

static int by_name(gconstpointer a, gconstpointer b)
{
	const char *x = *(const char *const *)a, *y = *(const char *const *)b;

	return strcmp(x + 1, y + 1);
}

static int compare_xattrs(const struct un_tool_side *now, const struct un_tool_side *was,
			  GPtrArray **ret)
{
	g_autoptr(GHashTable) a = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
							(GDestroyNotify)g_bytes_unref);
	g_autoptr(GHashTable) b = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
							(GDestroyNotify)g_bytes_unref);
	GHashTableIter it;
	gpointer name, value;
	int r = read_xattrs(now, a);

	if (r == 0)
		r = read_xattrs(was, b);
	g_hash_table_iter_init(&it, a);
	while (r == 0 && g_hash_table_iter_next(&it, &name, &value)) {
		GBytes *other = g_hash_table_lookup(b, name);

		if (!other)
			note(ret, '+', name);
		else if (!g_bytes_equal(value, other))
			note(ret, '~', name);
	}
	g_hash_table_iter_init(&it, b);
	while (r == 0 && g_hash_table_iter_next(&it, &name, NULL))
		if (!g_hash_table_contains(a, name))
			note(ret, '-', name);
	if (*ret)
		g_ptr_array_sort(*ret, by_name);
	return r;
}

/* ---- all of it ------------------------------------------------------------------------------------------- */

int un_tool_compare(const struct un_tool_side *now, const struct un_tool_side *was, unsigned *ret,
		    GPtrArray **ret_xattrs)
{
	const struct statx *a = &now->hit->st, *b = &was->hit->st;
	int r = same_content(now, was);

	*ret = 0;
	*ret_xattrs = NULL;
	if (r < 0)
		return r;
	*ret |= r ? 0 : UN_TOOL_CONTENT;
	if ((a->stx_mode ^ b->stx_mode) & 07777)
		*ret |= UN_TOOL_MODE;
	if (a->stx_uid != b->stx_uid || a->stx_gid != b->stx_gid)
		*ret |= UN_TOOL_OWNER;
	if (!S_ISDIR(a->stx_mode) && (a->stx_mtime.tv_sec != b->stx_mtime.tv_sec ||
				      a->stx_mtime.tv_nsec != b->stx_mtime.tv_nsec))
		*ret |= UN_TOOL_TIMES;
	if (now->hit != was->hit)
		r = compare_xattrs(now, was, ret_xattrs);
	*ret |= *ret_xattrs ? UN_TOOL_XATTRS : 0;
	return r < 0 ? r : 0;
}
