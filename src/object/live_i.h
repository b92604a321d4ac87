/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between live.c and live-budget.c. */
#pragma once

#include "object/lock.h"
#include "object/object.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* A request needs @dir. To the second, and of a clock that costs nothing to read: this is done for each request. */
static inline void un_live_used(struct un_inode *dir)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (atomic_load_explicit(&dir->d->used, memory_order_relaxed) != (uint32_t)now.tv_sec)
		atomic_store_explicit(&dir->d->used, (uint32_t)now.tv_sec, memory_order_relaxed);
}

/* Seconds since then. */
static inline uint32_t un_live_age(const struct un_inode *dir)
{
	uint32_t used = atomic_load_explicit(&dir->d->used, memory_order_relaxed);
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint32_t)now.tv_sec - used;
}

void un_live_budget_init(struct un_fs *fs);
/* No directory is looked into any more. */
void un_live_budget_done(struct un_fs *fs);
/* @dir is @now; the only way it becomes so, but for un_live_lost(). Takes no lock but its own. */
void un_live_set(struct un_fs *fs, struct un_inode *dir, enum un_watched now);
/* Events were lost: no directory is watched for certain, until it is asked for once more. */
void un_live_lost(struct un_fs *fs);
/* @rd is not to be watched for the directory @id any more. */
void un_live_unwatch(struct un_fs *fs, uint64_t id, struct un_realdir *rd);
/*
 * There is no room to watch one more: the least used directories are given up, but none that was used just now.
 * True: so it was done. @dir's ns may be held, but no other lock.
 */
bool un_live_make_room(struct un_fs *fs);
