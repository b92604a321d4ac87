/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts changes in the upper that made more of an inode visible; union/sync.c sees that they get
 * to disk.
 */
#include "object/object.h"
#include "object/published.h"

void un_published(struct un_inode *inode, bool names)
{
	unsigned n = atomic_fetch_add(&inode->published, 1) + 1;

	if (names)
		inode->named = n;
}

bool un_names_are_new(const struct un_inode *inode)
{
	return (int)(inode->named - inode->committed) > 0;
}

void un_published_in(struct un_inode *inode, struct un_inode *dir)
{
	if (un_names_are_new(dir))
		un_published(inode, true);
}
