/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few things that are mended: what the next mount would do anyway, and marks that mean nothing as they are. Each is
 * one call that leaves everything else as it was.
 */
#include "check_i.h"

#include "util/err.h"
#include "util/fd.h"

#include "names_i.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* @name with all that is in it: of WORK only, where nothing is anybody's. */
static int remove_tree(struct un_layer *l, int dirfd, const char *name)
{
	g_autoptr(GPtrArray) names = NULL;
	struct un_tool_dir dir = { .layer = l };
	un_autofd int fd = -1;
	int r = l->ops->unlink(l, dirfd, name, 0);

	if (r != -EISDIR && r != -EPERM)
		return r == -ENOENT ? 0 : r;
	r = l->ops->unlink(l, dirfd, name, AT_REMOVEDIR);
	if (r != -ENOTEMPTY && r != -EEXIST)
		return r == -ENOENT ? 0 : r;
	fd = l->ops->open(l, dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	dir.fd = fd;
	r = un_tool_names(&dir, &names);
	for (unsigned i = 0; r == 0 && i < names->len; i++)
		r = remove_tree(l, fd, names->pdata[i]);
	return r < 0 ? r : l->ops->unlink(l, dirfd, name, AT_REMOVEDIR);
}

static int change_mark(const struct un_tool_finding *f)
{
	if (f->mend == UN_TOOL_UNMARK)
		return un_mark_clear(f->at, f->mark);
	return un_mark_set(f->at, f->mark, f->value, strlen(f->value));
}

/* The directory's times are what users see of it. */
static int remove_name(const struct un_at *at)
{
	struct un_layer *l = at->layer;
	struct statx st;
	int r = l->ops->stat(l, at->dirfd, "", &st), err;

	if (r < 0)
		return r;
	err = remove_tree(l, at->dirfd, at->name);
	if (err == 0) {
		const struct timespec ts[2] = {
			{ st.stx_atime.tv_sec, st.stx_atime.tv_nsec },
			{ st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec },
		};

		un_ignore(l->ops->utimens(l, at->dirfd, "", ts));
	}
	return err;
}

int un_tool_mend(const struct un_tool_finding *f)
{
	return f->mend == UN_TOOL_UNLINK ? remove_name(f->at) : change_mark(f);
}
