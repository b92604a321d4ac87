/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copy-up, as all but this room ask for it. What an observer of the merged tree can see, at every instant:
 *
 *   (1) the lower object, or the complete upper object; nothing between.
 *   (2) the inode number it had before, unless a hard link breaks.
 *   (3) after a crash: the same as (1). Leftovers exist only in the work directory.
 *
 *   LOWER --stage--> STAGED --publish--> UPPER
 *      \--stage, metadata only--> STAGED --publish--> META --fill--> UPPER
 *
 * stage: copyup-stage.c, publish: copyup-publish.c, fill: copyup-fill.c. One at a time, and parents first:
 * copyup-path.c.
 */
#include "copyup/alias.h"
#include "copyup/copyup-path.h"
#include "copyup/copyup.h"
#include "object/object.h"

int un_copyup(struct un_fs *fs, struct un_inode *inode, off_t size)
{
	return un_copyup_name(fs, inode, size, NULL, NULL);
}

int un_copyup_name(struct un_fs *fs, struct un_inode *inode, off_t size, struct un_inode *dir,
		   const char *name)
{
	bool indexed = false;
	int r = un_copyup_path(fs, inode, size, dir, name, &indexed);

	if (r >= 0 && indexed)
		un_alias_known(fs, inode, !name);
	return r;
}
