/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines that say why a lookup refuses a name. */
#pragma once

#include "layer/marks.h"

struct un_fs;
struct un_inode;
struct un_layer;

void un_say_init(struct un_fs *fs, const char *shown_at);
void un_say_done(struct un_fs *fs);

/* Where (dir, name) is, as far as that is known, on one line; freed by g_free(). */
char *un_say_path(struct un_fs *fs, struct un_inode *dir, const char *name);

/*
 * A mark of (dir, name) is not followed, or leads nowhere: one line a name, up to a limit, with its path
 * as far as that is known. No inode's lock is held.
 */
void un_say_refused(struct un_fs *fs, struct un_inode *dir, const char *name,
		    const struct un_layer *l, enum un_mark mark);
/* A line that is logged once, up to the same limit. Takes @line over. An inode's lock may be held. */
void un_say_once(struct un_fs *fs, int level, char *line);
void un_say_no_data(struct un_fs *fs, struct un_inode *dir, const char *name);
