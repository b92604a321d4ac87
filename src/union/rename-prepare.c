/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Before a rename changes anything: check that it may be made, and copy up all that moves. */
#include "remove_i.h"
#include "rename_i.h"

#include "copyup/copyup.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "object/redirect.h"

#include <errno.h>

/* A directory whose contents come from below as well can only be moved with a redirect. */
static bool needs_redirect(struct un_inode *inode)
{
	bool needs;

	if (inode->type != DT_DIR)
		return false;
	un_inode_lock(inode);
	needs = inode->d->n > 1 || !inode->upper;
	un_inode_unlock(inode);
	return needs;
}

static bool can_redirect(const struct renaming *v, struct un_inode *child, const struct side *s)
{
	if (!needs_redirect(child))
		return true;
	return v->fs->redirect_create &&
	       un_redirect_fits(v->fs, child, s->dir, s->name, v->from.dir == v->to.dir);
}

static int check_types(const struct renaming *v)
{
	struct un_inode *from = v->from.child, *to = v->to.child;

	if (!can_redirect(v, from, &v->from) || (v->exchange && !can_redirect(v, to, &v->to)))
		return -EXDEV;
	if (!to || v->exchange)
		return 0;
	if (from->type == DT_DIR && to->type != DT_DIR)
		return -ENOTDIR;
	if (from->type != DT_DIR && to->type == DT_DIR)
		return -EISDIR;
	return 0;
}

static int check_mountpoint(struct un_inode *child)
{
	return child && child->type == DT_DIR && un_dir_is_mountpoint(child, false) ? -EBUSY : 0;
}

static int check_prot(const struct renaming *v)
{
	int r = un_prot_dir(v->fs, v->from.dir, true);

	if (r == 0)
		r = un_prot_dir(v->fs, v->to.dir, v->to.child != NULL);
	if (r == 0)
		r = un_prot_victim(v->fs, v->from.child);
	if (r == 0 && v->to.child)
		r = un_prot_victim(v->fs, v->to.child);
	if (r == 0)
		r = check_mountpoint(v->from.child);
	return r == 0 ? check_mountpoint(v->to.child) : r;
}

static int check_empty_target(const struct renaming *v)
{
	struct un_inode *to = v->to.child;
	int r;

	if (!un_rename_replaces_dir(v))
		return 0;
	un_ns_write(to);
	r = un_dir_empty_locked(v->fs, to);
	un_ns_unlock(to);
	return r < 0 ? r : r ? 0 : -ENOTEMPTY;
}

/* @child is about to leave (dir, name): what is below must be found from its new name as well. */
static int keep_below(struct renaming *v, struct un_inode *child, const struct side *s)
{
	bool same_dir = v->from.dir == v->to.dir;
	int r;

	if (child->type == DT_DIR)
		return needs_redirect(child)
			       ? un_redirect_set(v->fs, child, s->dir, s->name, same_dir)
			       : 0;
	if (!child->metacopy)
		return 0;
	r = v->fs->redirect_create ? un_redirect_set(v->fs, child, s->dir, s->name, same_dir)
				   : -EXDEV;
	return r == -EXDEV ? un_copyup(v->fs, child, UN_COPY_ALL) : r;
}

int un_rename_prepare(struct renaming *v)
{
	int r = check_types(v);

	if (r == 0)
		r = check_prot(v);
	if (r == 0)
		r = check_empty_target(v);
	if (r == 0)
		r = un_copyup_name(v->fs, v->from.child, UN_COPY_META, v->from.dir, v->from.name);
	if (r == 0)
		r = un_copyup(v->fs, v->from.dir, UN_COPY_ALL);
	if (r == 0)
		r = un_copyup(v->fs, v->to.dir, UN_COPY_ALL);
	if (r == 0 && v->exchange)
		r = un_copyup_name(v->fs, v->to.child, UN_COPY_META, v->to.dir, v->to.name);
	if (r == 0)
		r = keep_below(v, v->from.child, &v->from);
	if (r == 0 && v->exchange)
		r = keep_below(v, v->to.child, &v->to);
	if (r == 0 && v->to.child && !v->exchange)
		r = un_index_victim(v->fs, v->to.child, v->to.dir, v->to.name);
	return r;
}
