/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What redirects lead to, in layers that others change. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_found;
struct un_fs;
struct un_inode;
struct un_watch_event;

/* The key (watch/watch.h) of all directories by which redirects lead; no inode has it. */
#define UN_FOLLOWED UINT64_MAX

void un_follow_init(struct un_fs *fs);
void un_follow_done(struct un_fs *fs);
/*
 * @inode was found as @f, some of it where a redirect leads: it is in doubt when anything changes there. @since:
 * un_fs.live_seq before it was looked for. False: that cannot be watched, and what is known of it is true for a second.
 */
bool un_follow_found(struct un_fs *fs, struct un_inode *inode, const struct un_found *f,
		     unsigned since);
/* Others changed something: whoever is found by way of it is in doubt, and the kernel is told. */
void un_follow_changed(struct un_fs *fs, const struct un_watch_event *e);
/* @inode is being freed. */
void un_follow_forget(struct un_fs *fs, const struct un_inode *inode);
