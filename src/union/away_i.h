/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the upper to the work directory. */
#pragma once

#include <stdbool.h>

struct un_fs;

/* (dirfd, name) goes to @staged in work. @lower: a whiteout takes its place. 0 or -errno. */
int un_move_away(struct un_fs *fs, int dirfd, const char *name, const char *staged, bool lower);
/*
 * Remove (dirfd, name), an upper directory that shows no names but may hold whiteouts. @lower: a
 * whiteout takes its place.
 */
int un_clear_dir(struct un_fs *fs, int dirfd, const char *name, bool lower);
