/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of indexed files get an entry of their own in the upper. */
#pragma once

#include <stdbool.h>

struct un_fs;
struct un_inode;

/* All names known of a file that has come into the index: later, or if they are few @now. No lock is held. */
void un_alias_known(struct un_fs *fs, struct un_inode *inode, bool now);
/* Some of those asked for later; true if there are more. */
bool un_alias_idle(struct un_fs *fs);

/*
 * The mount has ended, and nobody calls any more: finish in the upper what was left for idle times.
 * Logs what cannot be done.
 */
void un_fs_settle(struct un_fs *fs);
