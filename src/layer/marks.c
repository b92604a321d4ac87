/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer/marks.h"

#include <glib.h>

#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEST "overlay."
#define LEGACY "user.fuseoverlayfs."

static const char *const prefixes[] = {
	[UN_DIALECT_TRUSTED] = "trusted.overlay.",
	[UN_DIALECT_USER] = "user.overlay.",
};

static const char *const names[][UN_N_MARKS] = {
#define TABLE(p)                                                                                   \
	{                                                                                          \
		[UN_MARK_OPAQUE] = p "opaque", [UN_MARK_REDIRECT] = p "redirect",                  \
		[UN_MARK_METACOPY] = p "metacopy", [UN_MARK_ORIGIN] = p "origin",                  \
		[UN_MARK_IMPURE] = p "impure", [UN_MARK_WHITEOUT] = p "whiteout",                  \
		[UN_MARK_PROTATTR] = p "protattr", [UN_MARK_UUID] = p "uuid",                      \
		[UN_MARK_NLINK] = p "nlink", [UN_MARK_UPPER] = p "upper",                          \
		[UN_MARK_ORDINARY] = p "ordinary", [UN_MARK_LEGACY_OPAQUE] = LEGACY "opaque",      \
	}
	[UN_DIALECT_TRUSTED] = TABLE("trusted.overlay."),
	[UN_DIALECT_USER] = TABLE("user.overlay."),
#undef TABLE
};

const char *un_mark_name(const struct un_layer *l, enum un_mark mark)
{
	return names[l->dialect][mark];
}

ssize_t un_xattr_list(const struct un_at *at, char **ret)
{
	size_t size = 512;

	*ret = NULL;
	for (;;) {
		char *buf = malloc(size);
		ssize_t n;

		if (!buf)
			return -ENOMEM;
		n = at->layer->ops->listxattr(at->layer, at->dirfd, at->name, buf, size);
		if (n > 0) {
			*ret = buf;
			return n;
		}
		free(buf);
		if (n == -ENOTSUP || n == -ENOSYS)
			return 0;
		if (n != -ERANGE)
			return n;
		/* XATTR_LIST_MAX bounds what the kernel hands out at all. */
		if (size >= XATTR_LIST_MAX)
			return -E2BIG;
		size *= 8;
		if (size > XATTR_LIST_MAX)
			size = XATTR_LIST_MAX;
	}
}

static unsigned marks_in(enum un_dialect dialect, const char *list, size_t len)
{
	unsigned found = len ? UN_HAS_ANY : 0;

	for (const char *p = list; p < list + len; p += strlen(p) + 1) {
		if (*p != 'u' && *p != 't')
			continue;
		for (int m = 0; m < UN_N_MARKS; m++)
			if (strcmp(p, names[dialect][m]) == 0)
				found |= UN_HAS(m);
	}
	return found;
}

int un_marks_scan(const struct un_at *at, unsigned *ret)
{
	char small[1024];
	char *big = NULL;
	ssize_t n = at->layer->ops->listxattr(at->layer, at->dirfd, at->name, small, sizeof(small));

	if (n == -ERANGE) {
		n = un_xattr_list(at, &big);
		if (n < 0)
			return (int)n;
	}
	if (n == -ENOTSUP || n == -ENOSYS)
		n = 0;
	if (n < 0)
		return (int)n;
	*ret = marks_in(at->layer->dialect, big ? big : small, (size_t)n);
	free(big);
	return 0;
}

ssize_t un_mark_get(const struct un_at *at, enum un_mark mark, void *buf, size_t size)
{
	ssize_t n = at->layer->ops->getxattr(at->layer, at->dirfd, at->name,
					     un_mark_name(at->layer, mark), buf, size);

	return n == -ENOTSUP || n == -ENOSYS ? -ENODATA : n;
}

int un_mark_set(const struct un_at *at, enum un_mark mark, const void *value, size_t size)
{
	return at->layer->ops->setxattr(at->layer, at->dirfd, at->name,
					un_mark_name(at->layer, mark), value, size, 0);
}

int un_mark_clear(const struct un_at *at, enum un_mark mark)
{
	int r = at->layer->ops->removexattr(at->layer, at->dirfd, at->name,
					    un_mark_name(at->layer, mark));

	return r == -ENODATA || r == -ENOTSUP ? 0 : r;
}

int un_marks_opaque(const struct un_at *at, unsigned marks, bool *ret_xwhiteouts)
{
	char v[4];
	ssize_t n;

	*ret_xwhiteouts = false;
	if (marks & UN_HAS(UN_MARK_OPAQUE)) {
		n = un_mark_get(at, UN_MARK_OPAQUE, v, sizeof(v));
		/* A plain user's own directory that its mode closes to him: it would not be marked else. */
		if (n == -EACCES && at->layer->index == 0)
			return 1;
		if (n < 0 && n != -ERANGE && n != -ENODATA)
			return (int)n;
		if (n == 1 && v[0] == 'y')
			return 1;
		if (n == 1 && v[0] == 'x')
			*ret_xwhiteouts = true;
	}
	if (marks & UN_HAS(UN_MARK_LEGACY_OPAQUE)) {
		n = un_mark_get(at, UN_MARK_LEGACY_OPAQUE, v, sizeof(v));
		if (n < 0 && n != -ERANGE && n != -ENODATA)
			return (int)n;
		if (n > 0 && v[0] == 'y')
			return 1;
	}
	return 0;
}

/* The private prefix @name begins with, or NULL. */
static const char *private_prefix(enum un_dialect dialect, const char *name)
{
	if (g_str_has_prefix(name, prefixes[dialect]))
		return prefixes[dialect];
	if (g_str_has_prefix(name, LEGACY))
		return LEGACY;
	return NULL;
}

int un_xattr_to_layer(const struct un_layer *l, const char *name, char ret[XATTR_NAME_MAX + 1])
{
	const char *p = private_prefix(l->dialect, name);
	size_t plen;

	if (strlen(name) + (p ? strlen(NEST) : 0) > XATTR_NAME_MAX)
		return -EOPNOTSUPP;
	if (!p) {
		strcpy(ret, name);
		return 0;
	}
	plen = strlen(p);
	snprintf(ret, XATTR_NAME_MAX + 1, "%s%s%s", p, NEST, name + plen);
	return 0;
}

const char *un_xattr_from_layer(const struct un_layer *l, const char *name,
				char buf[XATTR_NAME_MAX + 1])
{
	const char *p = private_prefix(l->dialect, name);
	size_t plen;

	if (!p)
		return name;
	plen = strlen(p);
	if (!g_str_has_prefix(name + plen, NEST) || strlen(name) > XATTR_NAME_MAX)
		return NULL;
	snprintf(buf, XATTR_NAME_MAX + 1, "%s%s", p, name + plen + strlen(NEST));
	return buf;
}
