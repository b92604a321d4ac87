/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which inodes and names the kernel knows; for rooms above union/. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct un_fs;
struct un_inode;
struct un_missing;

/*
 * For the node id of each inode that the kernel knows; no lock is held. Those that come or go meanwhile may
 * be missed, or be gone when they are told. False: @fn returned false, which ends it.
 */
bool un_known_each(struct un_fs *fs, bool (*fn)(void *data, uint64_t id), void *data);
/*
 * The same for each that is in one of the directories @dirs (a set of uint64_t node ids), or further below. Each once.
 */
bool un_known_below(struct un_fs *fs, GHashTable *dirs, bool (*fn)(void *data, uint64_t id),
		    void *data);
/* The same for each name of @id: the node id of its directory, and the name there. */
bool un_known_names(struct un_fs *fs, uint64_t id,
		    bool (*fn)(void *data, uint64_t dir, const char *name), void *data);
/* The same for each name in the directory @dir, and the node id of the inode it leads to. */
bool un_known_children(struct un_fs *fs, uint64_t dir,
		       bool (*fn)(void *data, uint64_t dir, const char *name, uint64_t id),
		       void *data);

/*
 * The kernel is about to be told that @name is missing in @dir, and keeps that until it is told otherwise. So many are
 * remembered; the oldest are dropped then, which is told (UN_CHANGE_MISSING).
 */
void un_known_missing_add(struct un_fs *fs, const struct un_inode *dir, const char *name);
/* @fn for each that is remembered in the directory @dir, or, 0, anywhere; they stay. No lock is held. */
void un_known_missing(struct un_fs *fs, uint64_t dir,
		      bool (*fn)(void *data, uint64_t dir, const char *name), void *data);
/* All that were dropped and not taken yet; NULL: none. */
struct un_missing *un_known_missing_take(struct un_fs *fs);
/* @fn for each of the list @m, until it returns false; frees it. Accepts NULL. */
void un_known_missing_tell(struct un_missing *m,
			   bool (*fn)(void *data, uint64_t dir, const char *name), void *data);
