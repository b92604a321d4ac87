/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers that others change while they are mounted. */
#pragma once

#include "object/lock.h"

#include <stdbool.h>

struct statx;
struct un_found;
struct un_layer;

/* @budget: directories to watch, 0: as many as are fair. Nothing is watched if it cannot be; the log says so. */
void un_live_init(struct un_fs *fs, unsigned budget);
void un_live_done(struct un_fs *fs);
/* Says what is to be said of a layer: changes that are not told. */
void un_live_add_layer(const struct un_layer *l);
/*
 * How often what is known of the names in @dir was put in doubt: what was found when it was another number has to
 * be asked for again.
 */
unsigned un_live_stamp(struct un_fs *fs, struct un_inode *dir);
/* The same, before anything in @dir is looked at: from here on it is watched. */
unsigned un_live_look(struct un_fs *fs, struct un_inode *dir) UN_NS_READ;
/* Would that set a watch, and so look into it? */
bool un_live_wants_look(struct un_fs *fs, struct un_inode *dir);
/*
 * @dir is new, made by this daemon. True: nothing has been put into it by others before it was watched, and its
 * listing is known without a look by whoever asks; *ret_stamp is that of this
 * knowledge, in any case. Its ns is nobody else's.
 */
bool un_live_made(struct un_fs *fs, struct un_inode *dir, unsigned *ret_stamp) UN_NS_READ;
/* @rd shows nothing in @dir from now on. */
void un_live_left(struct un_fs *fs, const struct un_inode *dir, struct un_realdir *rd);
/* Whatever is known may have changed. */
void un_live_all_changed(struct un_fs *fs);
/* @name in the directory @dir is nothing any more, or another object: the kernel is to let the old one go. */
void un_live_gone(struct un_fs *fs, uint64_t dir, const char *name);
/* @dir has other real directories from now on; its ns is held for writing. */
void un_live_moved(struct un_fs *fs, struct un_inode *dir);
/* @name has come to @dir from another one, with all that the kernel believes of it. */
void un_live_arrived(struct un_fs *fs, struct un_inode *dir, const char *name);
/* @dir has a copy in the upper from now on, published just now; its ns is held for writing. */
void un_live_raised_locked(struct un_fs *fs, struct un_inode *dir) UN_INODE_LOCKED(dir);
/* @inode was found in @dir as @f says, before un_live_found(); @since: un_fs.live_seq before it was looked for. */
void un_live_led(struct un_fs *fs, struct un_inode *dir, struct un_inode *inode,
		 const struct un_found *f, unsigned since);
/* @inode has a new name, and a redirect to what is below: it is looked for by that, to be watched from then on. */
void un_live_redirected(struct un_fs *fs, struct un_inode *inode);
/* @inode was found in @dir just now. */
void un_live_found(struct un_fs *fs, const struct un_inode *dir, struct un_inode *inode);
/* Before xattrs and prot of @inode are believed: others may have changed it. */
void un_live_settle_locked(struct un_fs *fs, struct un_inode *inode) UN_INODE_LOCKED(inode);
