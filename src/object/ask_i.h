/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "merge/merge.h"
#include "object/lock.h"
#include "object/realdir.h"

#include <errno.h>
#include <stdbool.h>

struct un_fs;
struct un_inode;

/* What is found refers to it. */
struct un_question {
	struct un_merge_dir md;
	struct un_view v;
};

/* Names in the directory have changed while the layers were asked; no layer says so. */
#define UN_ASK_CHANGED (-ECANCELED)

/*
 * 0: *@f is what the layers have under @name, to be given back by un_found_done() while @q is there; or -errno. @all: what
 * the listing tells of it is not believed, as others may have changed its marks. @apart: ns is let go meanwhile, and
 * UN_ASK_CHANGED may come of it.
 */
int un_ask_layers(struct un_fs *fs, struct un_inode *dir, const char *name, bool all, bool apart,
		  struct un_question *q, struct un_found *f) UN_NS_READ;
