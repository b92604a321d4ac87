/* SPDX-License-Identifier: GPL-2.0-or-later */
/* chmod, chown, truncate, utimensat. */
#pragma once

struct un_cred;
struct un_fs;
struct un_inode;

/*
 * Clear set-id bits as a change of data by @cred does. 1: cleared, 0: there were none to clear; or
 * -errno.
 */
int un_kill_setid(struct un_fs *fs, struct un_inode *inode, const struct un_cred *cred);
