/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the upper shows of an inode that fdatasync(2) does not commit by itself. */
#pragma once

#include <stdbool.h>

struct un_inode;

/*
 * What the upper shows of @inode has changed in a way that whoever changed the file does not know of: it
 * was published (@names: by a name), its data is in the upper from now on. Before anybody can see it.
 */
void un_published(struct un_inode *inode, bool names);
/* Has it got a name since it was last on disk? */
bool un_names_are_new(const struct un_inode *inode);
/* A new object in @dir, whose own name in the upper may be as new. */
void un_published_in(struct un_inode *inode, struct un_inode *dir);
