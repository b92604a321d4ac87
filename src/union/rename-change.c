/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The call on the upper that makes a rename, and the steps instead where a file system lacks it. */
#include "away_i.h"
#include "remove_i.h"
#include "rename_i.h"

#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/whiteout.h"
#include "object/fdcache.h"
#include "object/object.h"
#include "object/stage.h"
#include "union/union.h"
#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int plain(struct renaming *v, unsigned flags)
{
	struct un_layer *u = v->fs->upper;

	return u->ops->rename(u, v->from.fd->fd, v->from.name, v->to.fd->fd, v->to.name, flags);
}

/* RENAME_EXCHANGE. False: this layer has none; true: *ret is the result. */
static bool exchanged(struct renaming *v, int *ret)
{
	struct un_layer *u = v->fs->upper;

	if (!u->caps.rename_exchange)
		return false;
	*ret = plain(v, RENAME_EXCHANGE);
	return !un_cap_refused(u, &u->caps.rename_exchange, "RENAME_EXCHANGE", *ret);
}

/*
 * No RENAME_WHITEOUT, or none of this kind. Where nothing is at the new name a whiteout is made there,
 * which changes nothing that is seen, and the two are exchanged. A directory that replaces one trades
 * places with it, which is then removed: between the two both names are there.
 */
static bool exchange_for_whiteout(struct renaming *v, int *ret)
{
	struct un_layer *u = v->fs->upper;
	struct statx parent;
	bool known;

	if (v->to.state.in_upper) {
		/* At the old name it must not show what is below there. */
		*ret = un_mark_dir(v->fs, v->to.fd->fd, v->to.name, UN_MARK_OPAQUE, "y");
		if (*ret < 0)
			return true;
		if (!exchanged(v, ret))
			return false;
		/* No way back, so a passing failure is not taken for an answer. */
		for (int tries = 0; *ret == 0 && tries < 3; tries++) {
			*ret = un_clear_dir(v->fs, v->from.fd->fd, v->from.name, true);
			if (*ret == 0)
				return true;
			if (tries == 2)
				un_ignore(plain(v, RENAME_EXCHANGE));
			else
				*ret = 0;
		}
		return true;
	}
	*ret = u->ops->stat(u, v->to.fd->fd, "", &parent);
	if (*ret == 0)
		*ret = un_whiteout_link(v->fs->whiteouts, v->to.fd->fd, v->to.name);
	if (*ret < 0)
		return true;
	known = exchanged(v, ret);
	if (known && *ret == 0)
		return true;
	un_ignore(u->ops->unlink(u, v->to.fd->fd, v->to.name, 0));
	un_ignore(un_stage_times(v->fs, v->to.fd->fd, "", &parent));
	return known;
}

/* Put the staged @whiteout at the old name. What was done before cannot be undone without loss. */
static int place(struct renaming *v, const char *whiteout)
{
	struct un_layer *u = v->fs->upper;
	int r = 0;

	/* So a passing failure is not taken for an answer. */
	for (int tries = 0; tries < 3; tries++) {
		r = u->ops->rename(u, v->fs->work, whiteout, v->from.fd->fd, v->from.name, 0);
		if (r == 0)
			break;
	}
	return r;
}

/* The object goes and @whiteout comes, in that order. */
static int move_and_place(struct renaming *v, const char *whiteout)
{
	struct un_layer *u = v->fs->upper;
	int r = plain(v, 0);

	if (r < 0)
		return r;
	r = place(v, whiteout);
	if (r < 0)
		un_ignore(u->ops->rename(u, v->to.fd->fd, v->to.name, v->from.fd->fd, v->from.name,
					 0));
	return r;
}

/* Files get their new name as a hard link first, so that they have a name at every instant. */
static int link_and_place(struct renaming *v, const char *whiteout)
{
	struct un_layer *u = v->fs->upper;
	char staged[UN_STAGE_NAME];
	int r;

	if (!u->caps.link)
		return move_and_place(v, whiteout);
	un_stage_name(v->fs, staged);
	r = u->ops->link(u, v->from.fd->fd, v->from.name, v->fs->work, staged);
	if (un_cap_refused(u, &u->caps.link, "link", r))
		return move_and_place(v, whiteout);
	if (r == 0) {
		r = u->ops->rename(u, v->fs->work, staged, v->to.fd->fd, v->to.name, 0);
		if (r < 0)
			un_ignore(u->ops->unlink(u, v->fs->work, staged, 0));
	}
	return r < 0 ? r : place(v, whiteout);
}

/*
 * A directory onto a whiteout, without an exchange: between the two steps nothing of ours is at that name,
 * so after a crash just there what had been deleted below is seen again. Who uses the mount waits.
 */
static int over_whiteout(struct renaming *v, int (*move)(struct renaming *v, const char *whiteout),
			 const char *whiteout)
{
	struct un_layer *u = v->fs->upper;
	struct statx parent;
	int r = u->ops->stat(u, v->to.fd->fd, "", &parent);

	if (r == 0)
		r = u->ops->unlink(u, v->to.fd->fd, v->to.name, 0);
	if (r < 0)
		return r;
	r = move(v, whiteout);
	if (r < 0) {
		if (un_whiteout_link(v->fs->whiteouts, v->to.fd->fd, v->to.name) < 0)
			un_ignore(un_whiteout_link(v->fs->whiteouts, v->to.fd->fd, v->to.name));
		un_ignore(un_stage_times(v->fs, v->to.fd->fd, "", &parent));
	}
	return r;
}

/*
 * Neither flag: in steps. What the directory shows is told by its own marks, which were made before, so
 * after a crash between the steps it is complete at its new name; what is below the old name is seen there
 * again, as it is in the lower.
 */
static int leave_in_steps(struct renaming *v)
{
	struct un_layer *u = v->fs->upper;
	bool dir = v->from.child->type == DT_DIR;
	char whiteout[UN_STAGE_NAME];
	int r;

	/* The whiteout first: what can fail for want of room has been done when the target goes. */
	un_stage_name(v->fs, whiteout);
	r = un_whiteout_link(v->fs->whiteouts, v->fs->work, whiteout);
	if (r < 0)
		return r;
	if (!dir)
		r = link_and_place(v, whiteout);
	else if (v->to.state.whiteout)
		r = over_whiteout(v, move_and_place, whiteout);
	else
		r = move_and_place(v, whiteout);
	if (r < 0)
		un_ignore(u->ops->unlink(u, v->fs->work, whiteout, 0));
	return r;
}

static int rename_leaving_whiteout(struct renaming *v)
{
	struct un_layer *u = v->fs->upper;
	bool dir = v->from.child->type == DT_DIR;
	int r;

	if (v->to.state.whiteout && exchanged(v, &r))
		return r;
	/* A directory does not replace a whiteout. */
	if (u->caps.rename_whiteout && un_whiteout_is_device(v->fs->whiteouts) &&
	    !(dir && v->to.state.whiteout)) {
		r = plain(v, RENAME_WHITEOUT);
		if (!un_cap_refused(u, &u->caps.rename_whiteout, "RENAME_WHITEOUT", r))
			return r;
	}
	if (u->caps.rename_exchange && !v->to.state.whiteout && (dir || !v->to.state.exists) &&
	    exchange_for_whiteout(v, &r))
		return r;
	return leave_in_steps(v);
}

static int move_plainly(struct renaming *v, const char *whiteout)
{
	(void)whiteout;
	return plain(v, 0);
}

int un_rename_change(void *data)
{
	struct renaming *v = data;
	struct un_layer *u = v->fs->upper;
	int r;

	if (v->exchange)
		return exchanged(v, &r) ? r : -EINVAL;
	if (un_whiteout_is_beside(v->fs->whiteouts)) {
		r = v->from.state.lower
			    ? un_whiteout_link(v->fs->whiteouts, v->from.fd->fd, v->from.name)
			    : 0;
		return r < 0 ? r : plain(v, 0);
	}
	if (v->from.state.lower) {
		un_whiteout_announce(v->fs->whiteouts, v->from.fd->fd);
		return rename_leaving_whiteout(v);
	}
	if (!v->to.state.whiteout || v->from.child->type != DT_DIR)
		return plain(v, 0);
	if (!exchanged(v, &r))
		return over_whiteout(v, move_plainly, NULL);
	if (r == 0)
		un_ignore(u->ops->unlink(u, v->from.fd->fd, v->from.name, 0));
	return r;
}
