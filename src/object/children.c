/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names that are known in a directory: a list, since its listing may not be known, or be of very many. */
#include "object/children.h"
#include "object/lock.h"
#include "object/object.h"

void un_child_add(struct un_name *n)
{
	struct un_dirinfo *d = n->dir->d;

	un_children_lock(d);
	n->sibling = d->children;
	n->sibling_at = &d->children;
	if (n->sibling)
		n->sibling->sibling_at = &n->sibling;
	d->children = n;
	un_children_unlock(d);
}

void un_child_remove(struct un_name *n)
{
	struct un_dirinfo *d = n->dir->d;

	un_children_lock(d);
	*n->sibling_at = n->sibling;
	if (n->sibling)
		n->sibling->sibling_at = n->sibling_at;
	un_children_unlock(d);
}

void un_children_are_timed(struct un_inode *dir)
{
	un_children_lock(dir->d);
	/* One that is being freed is in the list until it has left it. */
	for (struct un_name *n = dir->d->children; n; n = n->sibling) {
		atomic_store(&n->inode->timed, true);
		atomic_store(&n->inode->changed, true);
	}
	un_children_unlock(dir->d);
}
