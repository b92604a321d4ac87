/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which inodes and names the kernel knows; for rooms above union/. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct un_fs;

/*
 * For the node id of each inode that the kernel knows; no lock is held. Those that come or go meanwhile may
 * be missed, or be gone when they are told. False: @fn returned false, which ends it.
 */
bool un_known_each(struct un_fs *fs, bool (*fn)(void *data, uint64_t id), void *data);
/*
 * The same for each that is in one of the directories @dirs (a set of uint64_t node ids), or further below. The walk
 * takes the time of all that are known.
 */
bool un_known_below(struct un_fs *fs, GHashTable *dirs, bool (*fn)(void *data, uint64_t id),
		    void *data);
/* The same for each name of @id: the node id of its directory, and the name there. */
bool un_known_names(struct un_fs *fs, uint64_t id,
		    bool (*fn)(void *data, uint64_t dir, const char *name), void *data);
