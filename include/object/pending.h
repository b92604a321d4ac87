/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of indexed files that wait for an entry in the upper (copyup/alias.c). */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct un_fs;
struct un_inode;

struct un_pending {
	struct un_inode *dir; /* a reference */
	GList link;           /* the queue's */
	bool stuck;           /* it was tried, and refused */
	char name[];
};
/*
 * Takes the next one out; the caller frees it. One that is stuck only if @stuck. NULL: there is
 * none.
 */
struct un_pending *un_pending_take(struct un_fs *fs, bool stuck);
/*
 * Takes @p over; frees it if it is there already. True: before it there was none that is not stuck.
 */
bool un_pending_add(struct un_fs *fs, struct un_pending *p);
void un_pending_free(struct un_fs *fs, struct un_pending *p);
unsigned un_pending_count(struct un_fs *fs);

void un_pending_init(struct un_fs *fs);
void un_pending_done(struct un_fs *fs);
/*
 * The name, of a file in the index, may be in a lower only: give it an entry in the upper soon. The
 * caller may hold any lock.
 */
void un_alias_later(struct un_fs *fs, struct un_inode *dir, const char *name);
