/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the two halves of a rename: all that surrounds it (rename.c), the change (rename-change.c). */
#pragma once

#include "core_i.h"

struct side {
	struct un_inode *dir;
	const char *name;
	struct un_inode *child; /* a reference; NULL if the target does not exist */
	struct un_realdir *updir;
	struct un_fd *fd;
	struct un_state state;
};

struct renaming {
	struct un_fs *fs;
	struct side from, to;
	bool exchange;
	char orphan[UN_STAGE_NAME]; /* where the replaced target's last name goes, or "" */
};

/* @data: a struct renaming with both sides open. The one change that is seen; 0 or -errno. */
int un_rename_change(void *data);
