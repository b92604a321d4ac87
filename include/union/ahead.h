/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Read-ahead across files: who reads one file of a directory after the other finds the next ones in memory, as the disk
 * was asked for them meanwhile. Only what the layers' file systems keep in memory changes, nothing of the union, so
 * whatever goes wrong is nobody's error.
 *
 *	job = un_ahead_read(...);
 *	if (job && !(un_ahead_run(job) will be called on a thread that may take long))
 *		un_ahead_drop(job);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_ahead;
struct un_ahead_job;
struct un_fs;
struct un_inode;

/* Borrows @fs. */
struct un_ahead *un_ahead_new(struct un_fs *fs);
/* No job is left. Accepts NULL. */
void un_ahead_free(struct un_ahead *a);

/*
 * The thread @pid has begun to read @inode; @cold: it was not in memory (un_read()). Asks no layer. What is to be done now,
 * or NULL. Takes the inode's lock.
 */
struct un_ahead_job *un_ahead_read(struct un_ahead *a, struct un_inode *inode, uint32_t pid,
				   bool cold);
/* The thread @pid has begun to list @dir. The same. */
struct un_ahead_job *un_ahead_listed(struct un_ahead *a, struct un_inode *dir, uint32_t pid);

/* Takes as long as the layers do. Either ends the job. */
void un_ahead_run(void *job);
void un_ahead_drop(struct un_ahead_job *job);
