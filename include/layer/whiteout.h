/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whiteouts: an entry that hides the same name in every layer below.
 *
 * On disk: a character device 0:0; an empty regular file with the whiteout mark; or the file
 * `.wh.NAME` beside NAME, the tar form. src/merge/ reads the last, since it is another name. What is
 * written is the first of these that the upper can hold. One inode per deletion is wasteful, so a pool
 * keeps a master beside the tree and hands out hard links.
 */
#pragma once

#include "layer/marks.h"

struct un_whiteout_pool;

/*
 * Borrows its arguments. @work, @dir: directories on the upper's file system. The master is called
 * @prefix, in @dir; if somebody removes it, another is made. Links are staged in @work, as
 * "@prefix.N". The kernel has its own in the index if it uses one, else in the work directory.
 */
struct un_whiteout_pool *un_whiteout_pool_new(struct un_layer *upper, int work, int dir,
					      const char *prefix);

/*
 * Are whiteouts devices, as RENAME_WHITEOUT makes them? Are they `.wh.NAME`, beside the NAME they
 * hide?
 */
bool un_whiteout_is_device(const struct un_whiteout_pool *pool);
bool un_whiteout_is_beside(const struct un_whiteout_pool *pool);

/*
 * A whiteout staged elsewhere is about to come into @dirfd: mark the directory opaque=x if the
 * whiteout is no device, since overlay implementations, listing a directory of a lower, look for
 * such whiteouts only where it has that mark. A directory that is opaque needs no mark: nothing
 * below it would show.
 */
void un_whiteout_announce(struct un_whiteout_pool *pool, int dirfd);

/*
 * Make a whiteout of the tar form for @name: it hides @name in the layers below, but not in @dirfd
 * itself. 0 also if it is there already.
 */
int un_whiteout_beside(struct un_layer *upper, int dirfd, const char *name);

/* Removes the master. Accepts NULL, returns NULL. */
struct un_whiteout_pool *un_whiteout_pool_free(struct un_whiteout_pool *pool);

/* Is the object just statted a whiteout? 1, 0, or -errno of reading its mark. */
int un_whiteout_probe(const struct un_at *at, const struct statx *st);

/*
 * Make a whiteout at @name in the upper's directory @dirfd. -EEXIST: something is there (does not
 * matter to those that are beside); other errors are those of mknod and link. The pool's lock is a
 * leaf.
 */
int un_whiteout_link(struct un_whiteout_pool *pool, int dirfd, const char *name);

/*
 * The same, atomically replacing any non-directory that is there: an observer sees the old entry or
 * the whiteout, never neither. -EISDIR if a directory is in the way. Leaves nothing in @work
 * but the master, if that is there.
 */
int un_whiteout_place(struct un_whiteout_pool *pool, int dirfd, const char *name);
