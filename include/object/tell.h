/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What others have changed, for whoever tells the kernel. */
#pragma once

#include "object/object.h"

static inline void un_tell(struct un_fs *fs, enum un_change_what what, uint64_t id,
			   const char *name)
{
	const struct un_change c = { .what = what, .id = id, .name = name };

	/*
	 * After what is known here was put in doubt, and before anybody is told: who began to answer before that, or
	 * found what was not in doubt yet, sees that he may not tell the kernel to keep it.
	 */
	atomic_fetch_add(&fs->live_seq, 1);
	if (fs->change)
		fs->change(fs->change_data, &c);
}

/*
 * What the names of @inode mean may be another object, be found elsewhere, or be made of other directories: who asks
 * next asks the layers.
 */
static inline void un_tell_doubt(struct un_fs *fs, struct un_inode *inode)
{
	atomic_store(&inode->changed, true);
	atomic_store(&inode->doubted, true);
	if (inode->type == DT_DIR)
		atomic_fetch_add(&fs->stacks, 1);
	un_tell(fs, inode->type == DT_DIR ? UN_CHANGE_TREE : UN_CHANGE_SELF, inode->id, NULL);
}
