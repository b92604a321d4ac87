/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of indexed files get an entry of their own in the upper. */
#pragma once

#include <stdbool.h>

struct un_fs;
struct un_inode;

/*
 * @inode has come into the index: give all its known names an entry in the upper, later, or with
 * @now the first few at once. The caller holds no lock.
 */
void un_alias_known(struct un_fs *fs, struct un_inode *inode, bool now);
/* Make some of the entries that were put off; true if there are more. */
bool un_alias_idle(struct un_fs *fs);

/*
 * The mount has ended, and nobody calls any more: finish in the upper what was left for idle times.
 * Logs what cannot be done.
 */
void un_fs_settle(struct un_fs *fs);
