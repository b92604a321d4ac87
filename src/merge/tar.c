/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Marks of the tar form: `.wh.NAME` hides NAME in the layers below, `.wh..wh..opq` hides all that is
 * below the directory it is in, other names that begin with `.wh..wh.` are AUFS's own. Who makes a file
 * of such a name through a union means a file, so it carries our mark and is one, in every layer.
 */
#include "merge/merge.h"
#include "merge_i.h"

#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

bool un_merge_tar_name(const char *name)
{
	return strncmp(name, UN_WH, strlen(UN_WH)) == 0;
}

/* Are there none in this layer, but for what was made through the union? */
static bool none_in(const struct un_layer *l)
{
	return l->fresh && !l->tar_names;
}

int un_merge_tar_mark(const struct un_where *w, const char *name, const struct statx *st)
{
	const struct un_layer *l = w->layer;
	bool upper = l->index == 0;
	unsigned marks;
	int r;

	if (none_in(l))
		return 0;
	if (upper && l->tar_names)
		return 1;
	if (!S_ISREG(st->stx_mode))
		return !upper && strncmp(name, UN_WH_META, strlen(UN_WH_META)) == 0;
	/* In an upper what has data is somebody's; image layers are read more generously. */
	if (upper && st->stx_size > 0)
		return 0;
	r = un_marks_scan(UN_AT(w->layer, w->fd, name), &marks);
	if (r == -EACCES || r == -EPERM)
		return 1;
	/* With the mark of a whiteout it is one, of this very name. */
	return r < 0 ? r : !(marks & (UN_HAS(UN_MARK_ORDINARY) | UN_HAS(UN_MARK_WHITEOUT)));
}

/* Is there a mark of the name @wh? */
static int has_mark(const struct un_where *w, const char *wh)
{
	struct statx st;
	int r = w->layer->ops->stat(w->layer, w->fd, wh, &st);

	if (r == -ENOENT || r == -ENAMETOOLONG)
		return 0;
	return r < 0 ? r : un_merge_tar_mark(w, wh, &st);
}

int un_merge_tar_whiteout(const struct un_where *w, const char *name)
{
	char wh[NAME_MAX + 1];

	if (none_in(w->layer) || strlen(name) + strlen(UN_WH) > NAME_MAX)
		return 0;
	snprintf(wh, sizeof(wh), "%s%s", UN_WH, name);
	return has_mark(w, wh);
}

int un_merge_tar_opaque(const struct un_where *w)
{
	return none_in(w->layer) ? 0 : has_mark(w, UN_WH_OPAQUE);
}

int un_merge_tar_opaque_in(const struct un_where *w, const char *name)
{
	struct un_layer *l = w->layer;
	struct un_where in = { .layer = l };
	int r;

	if (none_in(l))
		return 0;
	/* Usually there is none; opening the directory first would cost two more calls for each. */
	r = l->ops->has(l, w->fd, name, UN_WH_OPAQUE);
	/* EACCES: a directory this daemon may not search; nobody will see anything in it. */
	if (r <= 0)
		return r == -EACCES || r == -ENOTDIR ? 0 : r;
	in.fd = l->ops->open(l, w->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (in.fd < 0)
		return in.fd == -ENOTDIR || in.fd == -ELOOP || in.fd == -ENOENT ? 0 : in.fd;
	r = un_merge_tar_opaque(&in);
	un_close(in.fd);
	return r;
}
