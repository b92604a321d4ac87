/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes is moved to the work directory, where nobody sees it, and removed there. */
#include "away_i.h"

#include "layer/layer.h"
#include "layer/whiteout.h"
#include "object/object.h"
#include "object/stage.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* Without an exchange: between the two steps a lower object may be seen at the name. */
static int away_in_steps(struct un_fs *fs, int dirfd, const char *name, const char *staged)
{
	struct un_layer *u = fs->upper;
	struct statx st;
	int r = u->ops->stat(u, dirfd, name, &st);

	if (r < 0)
		return r;
	/* Not if it can have both names for a moment. */
	if (!S_ISDIR(st.stx_mode) && u->caps.link) {
		r = u->ops->link(u, dirfd, name, fs->work, staged);
		if (r == 0) {
			r = un_whiteout_place(fs->whiteouts, dirfd, name);
			if (r < 0)
				un_ignore(u->ops->unlink(u, fs->work, staged, 0));
		}
		if (!un_cap_refused(u, &u->caps.link, "link", r))
			return r;
	}
	r = u->ops->rename(u, dirfd, name, fs->work, staged, 0);
	if (r < 0)
		return r;
	/* A passing failure is not taken for an answer. */
	for (int tries = 0; tries < 3; tries++) {
		r = un_whiteout_link(fs->whiteouts, dirfd, name);
		if (r == 0)
			return 0;
	}
	un_ignore(u->ops->rename(u, fs->work, staged, dirfd, name, 0));
	return r;
}

int un_move_away(struct un_fs *fs, int dirfd, const char *name, const char *staged, bool lower)
{
	struct un_layer *u = fs->upper;
	int r;

	if (lower && un_whiteout_is_beside(fs->whiteouts)) {
		r = un_whiteout_link(fs->whiteouts, dirfd, name);
		if (r < 0)
			return r;
		lower = false;
	}
	if (!lower)
		return u->ops->rename(u, dirfd, name, fs->work, staged, 0);
	if (u->caps.rename_exchange) {
		r = un_whiteout_link(fs->whiteouts, fs->work, staged);
		if (r < 0)
			return r;
		un_whiteout_announce(fs->whiteouts, dirfd);
		r = u->ops->rename(u, fs->work, staged, dirfd, name, RENAME_EXCHANGE);
		if (r < 0)
			un_ignore(u->ops->unlink(u, fs->work, staged, 0));
		if (!un_cap_refused(u, &u->caps.rename_exchange, "RENAME_EXCHANGE", r))
			return r;
	}
	return away_in_steps(fs, dirfd, name, staged);
}

struct clear_args {
	struct un_fs *fs;
	int dirfd;
	const char *name;
	char staged[UN_STAGE_NAME]; /* another one at each try: nothing says that removing worked */
	bool lower;
	bool opened; /* its mode was changed, from: */
	mode_t mode;
};

static int clear_dir(void *data)
{
	struct clear_args *a = data;

	un_stage_name(a->fs, a->staged);
	return un_move_away(a->fs, a->dirfd, a->name, a->staged, a->lower);
}

/*
 * Moving a directory also changes its "..": a read-only one of a plain user must be opened up, and
 * stays so in the work directory, where it is about to be removed.
 */
static int clear_dir_in(void *data)
{
	struct clear_args *a = data;
	struct un_layer *u = a->fs->upper;
	struct statx st;
	int r = clear_dir(a);

	if (r != -EACCES || a->fs->privileged)
		return r;
	r = u->ops->stat(u, a->dirfd, a->name, &st);
	if (r == 0)
		r = u->ops->chmod(u, a->dirfd, a->name, (st.stx_mode & 07777) | S_IRWXU);
	if (r < 0)
		return r == -EPERM ? -EACCES : r;
	r = clear_dir(a);
	a->opened = r == 0;
	a->mode = st.stx_mode & 07777;
	if (r < 0)
		un_ignore(u->ops->chmod(u, a->dirfd, a->name, a->mode));
	return r;
}

/* It is not empty after all. */
static int put_back(void *data)
{
	struct clear_args *a = data;
	struct un_layer *u = a->fs->upper;
	bool beside = a->lower && un_whiteout_is_beside(a->fs->whiteouts);
	g_autofree char *mark = g_strconcat(".wh.", a->name, NULL);
	int r = -EINVAL;

	if (a->lower && !beside && u->caps.rename_exchange) {
		r = u->ops->rename(u, a->fs->work, a->staged, a->dirfd, a->name, RENAME_EXCHANGE);
		if (r == 0)
			un_ignore(u->ops->unlink(u, a->fs->work, a->staged, 0));
	}
	if (r < 0) {
		if (a->lower && !beside)
			un_ignore(u->ops->unlink(u, a->dirfd, a->name, 0));
		r = un_layer_rename_new(u, a->fs->work, a->staged, a->dirfd, a->name);
	}
	if (r == 0 && beside)
		un_ignore(u->ops->unlink(u, a->dirfd, mark, 0));
	if (r == 0 && a->opened)
		un_ignore(u->ops->chmod(u, a->dirfd, a->name, a->mode));
	return r;
}

int un_clear_dir(struct un_fs *fs, int dirfd, const char *name, bool lower)
{
	struct clear_args a = { .fs = fs, .dirfd = dirfd, .name = name, .lower = lower };
	int r;

	r = un_lifted(fs, dirfd, "", clear_dir_in, &a);
	if (r < 0)
		return r;
	r = un_stage_discard_hidden(fs, a.staged);
	if (r < 0 && un_lifted(fs, dirfd, "", put_back, &a) < 0)
		un_log(LOG_ERR,
		       "what others put into a directory that was being removed is in WORK/work/%s",
		       a.staged);
	return r;
}
