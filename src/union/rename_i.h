/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A rename: what is done before (rename-prepare.c), around (rename.c) and the change (rename-change.c). */
#pragma once

#include "object/dir.h"
#include "object/object.h"
#include "object/stage.h"

#include <stdbool.h>

struct un_fd;
struct un_fs;
struct un_inode;
struct un_realdir;

struct side {
	struct un_inode *dir;
	const char *name;
	struct un_inode *child; /* a reference; NULL if the target does not exist */
	struct un_realdir *updir;
	struct un_fd *fd;
	struct un_state state;
	unsigned stamp; /* of dir, before it was looked at */
};

struct renaming {
	struct un_fs *fs;
	struct side from, to;
	bool exchange;
	char orphan[UN_STAGE_NAME]; /* where the replaced target's last name goes, or "" */
};

/* Is the target a directory that goes away? */
static inline bool un_rename_replaces_dir(const struct renaming *v)
{
	return v->to.child && !v->exchange && v->to.child->type == DT_DIR;
}

/* Before a lock is held or a change is seen: check, and copy up all that moves. 0 or -errno. */
int un_rename_prepare(struct renaming *v);

/*
 * Makes the one change that users see. @data: a struct renaming with both sides open. 0 or -errno.
 */
int un_rename_change(void *data);
