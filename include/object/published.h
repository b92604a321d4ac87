/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes in the upper that fdatasync(2) does not commit by itself. */
#pragma once

#include <stdbool.h>

struct un_inode;

/*
 * The upper shows more of @inode than before: it was published (@names: under a name), or its data
 * has come to the upper. A user who syncs the file does not know of that. To be called before it
 * can be seen.
 */
void un_published(struct un_inode *inode, bool names);
/* Has @inode got a name in the upper since it was last known to be on disk? */
bool un_names_are_new(const struct un_inode *inode);
/*
 * @inode was made in @dir: if the name of @dir in the upper is not on disk yet, nor is what leads
 * to @inode.
 */
void un_published_in(struct un_inode *inode, struct un_inode *dir);
