/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which inodes and names the kernel knows; for rooms above union/. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_fs;

/*
 * For the node id of each inode that the kernel knows; no lock is held. Those that come or go meanwhile may
 * be missed, or be gone when they are told. False: @fn returned false, which ends it.
 */
bool un_known_each(struct un_fs *fs, bool (*fn)(void *data, uint64_t id), void *data);
/* The same for each name of @id: the node id of its directory, and the name there. */
bool un_known_names(struct un_fs *fs, uint64_t id,
		    bool (*fn)(void *data, uint64_t dir, const char *name), void *data);
/* The same for each name in the directory @dir, and the node id of the inode it leads to. */
bool un_known_children(struct un_fs *fs, uint64_t dir,
		       bool (*fn)(void *data, uint64_t dir, const char *name, uint64_t id),
		       void *data);
