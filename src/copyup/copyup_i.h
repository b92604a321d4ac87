/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the two halves of a copy-up: staging (copyup-stage.c) and publishing (copyup-publish.c). */
#pragma once

#include "object/data.h"
#include "object/stage.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct un_fd;
struct un_fs;
struct un_inode;
struct un_layer;

/* One copy-up, carried through its stages. */
struct un_copyup_ctx {
	struct un_fs *fs;
	struct un_inode *inode;
	off_t size;                  /* UN_COPY_ALL, UN_COPY_META, or how much data will remain */
	bool meta;                   /* data stays below */
	uint8_t digest[UN_META_MAX]; /* with meta: the value of its mark */
	size_t digest_len;
	bool index; /* the copy goes into the index */
	/* The name that is to be in the upper; NULL: any. Borrowed. */
	struct un_inode *hint_dir;
	const char *hint;

	struct un_layer *lower; /* the object below */
	int ldir;
	char lname[NAME_MAX + 1];
	struct un_fd *lpin;
	struct statx st;
	bool origin; /* the copy gets an origin: its number survives */
	bool covered; /* something is mounted on the object: that is copied, without an origin */

	char name[UN_STAGE_NAME]; /* staged under this name in work, or ... */
	int tmp;                  /* ... as this file without a name; open also if it has one; -1 */
	bool named;
	bool unlinkable; /* a file without a name cannot be linked: stage with one */

	struct statx ust; /* of the staged object, which has the number it is published with */
	bool restat;      /* owner or mode may be others than ust says */
	bool hidden;      /* the parent's change is not shown (un_attr_hide_begin) */
};

/*
 * Make the complete object in the work directory, and fill in c->ust. The caller calls
 * un_copyup_unstage() on failure as well.
 */
int un_copyup_stage(struct un_copyup_ctx *c);
/* Remove the name of the staged object, if it was not published. */
void un_copyup_unname(struct un_copyup_ctx *c);
/* And the object. */
void un_copyup_unstage(struct un_copyup_ctx *c);
/* Both halves; @c's `copying` is held. After -EINTR c->tmp may be open: to free a large file lasts. */
int un_copyup_run(struct un_copyup_ctx *c);
