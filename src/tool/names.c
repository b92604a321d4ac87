/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names_i.h"

#include "util/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define TAR_PREFIX ".wh."
#define TAR_META ".wh..wh."

static int by_bytes(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int un_tool_names(const struct un_tool_dir *dir, GPtrArray **ret)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	char buf[32768] __attribute__((aligned(8)));
	struct un_layer *l = dir->layer;
	un_autofd int fd = -EPERM;
	ssize_t n = 0;

	if (dir->fd >= 0 && l->clone < 0)
		fd = l->ops->open(l, dir->fd, "", O_RDONLY | O_DIRECTORY | O_NOATIME, 0);
	if (dir->fd >= 0 && fd == -EPERM)
		fd = l->ops->open(l, dir->fd, "", O_RDONLY | O_DIRECTORY, 0);
	if (dir->fd >= 0 && fd < 0)
		return fd;
	while (dir->fd >= 0 && (n = l->ops->getdents(l, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			at += d->d_reclen;
			if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
				g_ptr_array_add(names, g_strdup(d->d_name));
		}
	}
	if (n < 0)
		return (int)n;
	g_ptr_array_sort(names, by_bytes);
	*ret = g_steal_pointer(&names);
	return 0;
}

void un_tool_names_settle(GPtrArray *names)
{
	unsigned n = 0;

	g_ptr_array_sort(names, by_bytes);
	for (unsigned i = 0; i < names->len; i++) {
		if (n > 0 && strcmp(names->pdata[n - 1], names->pdata[i]) == 0)
			g_free(names->pdata[i]);
		else
			names->pdata[n++] = names->pdata[i];
	}
	/* Those behind were freed, or are further up. */
	memset(names->pdata + n, 0, (names->len - n) * sizeof(*names->pdata));
	g_ptr_array_set_size(names, (int)n);
}

/* Is the object a mark of the tar form? 1, 0 or -errno. */
static int is_tar_mark(const struct un_tool_dir *dir, const char *name)
{
	const struct un_where w = { .layer = dir->layer, .fd = dir->fd };
	struct statx st;
	int r;

	if (!un_merge_tar_name(name))
		return 0;
	r = dir->layer->ops->stat(dir->layer, dir->fd, name, &st);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return un_merge_tar_mark(&w, name, &st);
}

int un_tool_subjects(const struct un_tool_dir *dir, GPtrArray **ret)
{
	g_autoptr(GPtrArray) names = NULL;
	bool marks = false;
	int r = un_tool_names(dir, &names);

	for (unsigned i = 0; r >= 0 && i < names->len; i++) {
		char *name = names->pdata[i];

		r = is_tar_mark(dir, name);
		if (r <= 0)
			continue;
		/* Those of AUFS stay, and are no name of the union. */
		marks = true;
		if (!g_str_has_prefix(name, TAR_META) && name[strlen(TAR_PREFIX)])
			memmove(name, name + strlen(TAR_PREFIX),
				strlen(name) - strlen(TAR_PREFIX) + 1);
	}
	if (r < 0)
		return r;
	if (marks)
		un_tool_names_settle(names);
	*ret = g_steal_pointer(&names);
	return 0;
}
