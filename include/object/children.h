/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names that are known in a directory. */
#pragma once

struct un_inode;
struct un_name;

/* A name is in its directory's list for as long as it is in its inode's, whose lock is held; or the inode is dying. */
void un_child_add(struct un_name *n);
void un_child_remove(struct un_name *n);
/* @dir is not watched any more, and so is what is known of the objects in it. */
void un_children_are_timed(struct un_inode *dir);
