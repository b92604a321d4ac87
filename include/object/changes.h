/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the server of requests needs to know of layers that others change (object/live.c). */
#pragma once

#include "object/types.h"

#include <stdbool.h>

/* Descriptors that watching takes: three, and one of who tells of changes. */
#define UN_LIVE_FDS 4

struct un_fs;
struct un_inode;
struct un_watch_stats;

/* A descriptor to poll(2): readable while there is something for un_fs_catch_up(). -1: nothing is watched. */
int un_fs_watch_fd(struct un_fs *fs);
/* What others have changed so far is known afterwards. Cheap if there is nothing; no lock is held. */
void un_fs_catch_up(struct un_fs *fs);
/* Counts changes by others that are known. */
unsigned un_fs_live_seq(const struct un_fs *fs);
/*
 * May the kernel keep, until it is told of a change: a name that led to @inode; its attributes; the absence of a
 * name in @dir?
 */
bool un_fs_name_is_watched(const struct un_fs *fs, const struct un_inode *inode);
bool un_fs_is_watched(const struct un_fs *fs, const struct un_inode *inode);
bool un_fs_dir_is_watched(const struct un_fs *fs, const struct un_inode *dir);
/*
 * Before a directory is used by its node id alone: others may have changed what it is made of. Cheap if they have
 * not; no lock is held. Nothing for what is no directory.
 */
void un_fs_refresh(struct un_fs *fs, struct un_inode *inode);
/*
 * Before the attributes of a directory are asked for: what is made in it changes them, so it has to be watched as
 * if it were looked into. True: it was not before, and attributes asked for earlier may not be true any more.
 */
bool un_fs_watch_dir(struct un_fs *fs, struct un_inode *dir);
/*
 * Around a request for data, until it is answered (@by 1, then -1): its pages are locked in the kernel, and to have them
 * dropped would wait for the answer.
 */
void un_inode_in_hand(struct un_inode *inode, int by);
bool un_fs_is_in_hand(struct un_fs *fs, uint64_t id);
/* False also if it is not known any more. */
bool un_fs_is_dir(struct un_fs *fs, uint64_t id);
/*
 * Who runs the thread of later.c: @run calls @fn(@arg) soon, on any thread that no request waits for. NULL: nobody, and what
 * was to be done later is done at once.
 */
void un_fs_on_later(struct un_fs *fs, un_run_fn run, void *data);
/* Has a request needed the directory @dir in the last seconds? */
bool un_fs_is_used(struct un_fs *fs, uint64_t dir);
/* The kernel is told to ask again for the attributes of all directories that are not watched. */
void un_fs_doubt_unwatched(struct un_fs *fs);
/* @give_up: directories may lose their watch to others, for what is told of names does no harm to what is mounted there. */
void un_fs_on_change(struct un_fs *fs, un_change_fn fn, void *data, bool give_up);
/* Directories that cannot be watched, and are asked again after a second. */
unsigned un_fs_timed(const struct un_fs *fs);
/* How often one was given up for others that were looked into. */
unsigned un_fs_given_up(const struct un_fs *fs);
/* false: nothing is watched. */
bool un_fs_watch_stats(struct un_fs *fs, struct un_watch_stats *ret);
