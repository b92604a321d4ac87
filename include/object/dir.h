/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names in a merged directory: one, as far as changing it needs to know, or all of them. */
#pragma once

#include "object/lock.h"

#include <stdbool.h>
#include <stdint.h>

struct un_fs;
struct un_inode;

/* What is at a name, as far as changing it needs to know. */
struct un_state {
	bool exists;   /* the union shows an object */
	bool in_upper; /* the upper has the object */
	bool whiteout; /* the upper has a whiteout */
	bool lower;    /* an object of a lower would show through ("lower positive") */
	uint8_t type;
};
/* @want_lower: ret->lower is right also where no lower object is shown. ns is held. */
int un_name_state(struct un_fs *fs, struct un_inode *dir, const char *name, bool want_lower,
		  struct un_state *ret)
	UN_NS_READ;
/* Its listing, if that is known to be what the layers have; NULL: it has to be read (again). */
const struct un_listing *un_dir_listing(struct un_fs *fs, struct un_inode *dir) UN_NS_READ;
/* Make sure there is a complete listing; ns is held for writing. */
int un_dir_list_locked(struct un_fs *fs, struct un_inode *dir)
	UN_NS_WRITE;
/*
 * The same without a lock: ns is held for an instant before and after, unless names change all the time; to be looked
 * at again by who needs the listing. @access: for a user who lists @dir, so that the upper's time of access may move.
 * @again: also if there is one.
 */
int un_dir_list(struct un_fs *fs, struct un_inode *dir, bool access, bool again);
/* Tell the listing, if there is one, what is at the name now. ns is held for writing. */
void un_dir_note(struct un_fs *fs, struct un_inode *dir, const char *name,
		 const struct un_state *now, uint64_t ino)
	UN_NS_WRITE;
/*
 * A listing gives attributes with the first UN_ATTRS_FIRST names of a directory, and with the names
 * behind them once UN_ATTRS_WANTED names were looked up one by one.
 */
#define UN_ATTRS_FIRST 4096u
#define UN_ATTRS_WANTED 16u
bool un_name_too_long(const char *name);
/* Is it a `.wh.` name, which an upper without xattrs keeps for its marks? */
bool un_name_reserved(struct un_fs *fs, const char *name);
