/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The call on the upper that a rename is, and what stands in for it where a file system lacks it. */
#include "rename_i.h"

static int plain(struct renaming *v, unsigned flags)
{
	struct un_layer *u = v->fs->upper;

	return u->ops->rename(u, v->from.fd->fd, v->from.name, v->to.fd->fd, v->to.name, flags);
}

/*
 * No RENAME_WHITEOUT, or none of this kind. Where nothing is at the new name a whiteout is made there,
 * which changes nothing that is seen, and the two are exchanged. A directory that replaces one trades
 * places with it, which is then removed: between the two both names are there.
 */
static int exchange_for_whiteout(struct renaming *v)
{
	struct un_layer *u = v->fs->upper;
	struct statx parent;
	int r;

	if (v->to.state.in_upper) {
		/* At the old name it must not show what is below there. */
		r = un_mark_dir(v->fs, v->to.fd->fd, v->to.name, UN_MARK_OPAQUE, "y");
		if (r == 0)
			r = plain(v, RENAME_EXCHANGE);
		if (r < 0)
			return r;
		/* No way back, so a passing failure is not taken for an answer. */
		for (int tries = 0; tries < 3; tries++) {
			r = un_clear_dir(v->fs, v->from.fd->fd, v->from.name, true);
			if (r == 0)
				return 0;
		}
		un_ignore(plain(v, RENAME_EXCHANGE));
		return r;
	}
	r = u->ops->stat(u, v->to.fd->fd, "", &parent);
	if (r == 0)
		r = un_whiteout_link(v->fs->whiteouts, v->to.fd->fd, v->to.name);
	if (r < 0)
		return r;
	r = plain(v, RENAME_EXCHANGE);
	if (r < 0) {
		un_ignore(u->ops->unlink(u, v->to.fd->fd, v->to.name, 0));
		un_ignore(un_stage_times(v->fs, v->to.fd->fd, "", &parent));
	}
	return r;
}

/*
 * Without an exchange as well, files get their new name as a hard link first, so that they have a name
 * at every instant; directories cannot, and a caller that gets EXDEV copies.
 */
static int rename_leaving_whiteout(struct renaming *v)
{
	struct un_layer *u = v->fs->upper;
	bool dir = v->from.child->type == DT_DIR;
	char staged[UN_STAGE_NAME], whiteout[UN_STAGE_NAME];
	int r;

	if (u->caps.rename_whiteout && un_whiteout_is_device(v->fs->whiteouts))
		return plain(v, RENAME_WHITEOUT);
	if (u->caps.rename_exchange && (dir || !v->to.state.exists))
		return exchange_for_whiteout(v);
	if (dir)
		return -EXDEV;
	/* The whiteout first: what can fail for want of room has been done when the target goes. */
	un_stage_name(v->fs, whiteout);
	un_stage_name(v->fs, staged);
	r = un_whiteout_link(v->fs->whiteouts, v->fs->work, whiteout);
	if (r == 0)
		r = u->ops->link(u, v->from.fd->fd, v->from.name, v->fs->work, staged);
	if (r == 0) {
		r = u->ops->rename(u, v->fs->work, staged, v->to.fd->fd, v->to.name, 0);
		if (r < 0)
			un_ignore(u->ops->unlink(u, v->fs->work, staged, 0));
	}
	/* The target is replaced: no way back, so a passing failure is not taken for an answer. */
	for (int tries = 0; r == 0 && tries < 3; tries++) {
		r = u->ops->rename(u, v->fs->work, whiteout, v->from.fd->fd, v->from.name, 0);
		if (r == 0)
			return 0;
		r = tries < 2 ? 0 : r;
	}
	if (r < 0)
		un_ignore(u->ops->unlink(u, v->fs->work, whiteout, 0));
	return r;
}

int un_rename_change(void *data)
{
	struct renaming *v = data;
	struct un_layer *u = v->fs->upper;
	int r;

	if (v->exchange)
		return plain(v, RENAME_EXCHANGE);
	if (un_whiteout_is_beside(v->fs->whiteouts)) {
		r = v->from.state.lower
			    ? un_whiteout_link(v->fs->whiteouts, v->from.fd->fd, v->from.name)
			    : 0;
		return r < 0 ? r : plain(v, 0);
	}
	if (v->from.state.lower && v->to.state.whiteout)
		return plain(v, RENAME_EXCHANGE);
	if (v->from.state.lower)
		return rename_leaving_whiteout(v);
	if (v->to.state.whiteout && v->from.child->type == DT_DIR) {
		r = plain(v, RENAME_EXCHANGE);
		if (r == 0)
			un_ignore(u->ops->unlink(u, v->from.fd->fd, v->from.name, 0));
		return r;
	}
	return plain(v, 0);
}
