/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories of WORK, which one may have to open to oneself first. */
#pragma once

#include <glib.h>

#include "layer/layer.h"

/* All names of the directory open at @fd but "." and "..". */
int un_setup_names(struct un_layer *l, int fd, GPtrArray **ret);

/*
 * Opens the directory @name for listing and changing, with chmod if it is ours and closed to us
 * (the kernel makes it mode 0000). *ret_old_mode: the mode to give back, -1 if it was not changed.
 */
int un_setup_enter(struct un_layer *l, int dirfd, const char *name, int *ret_old_mode);
void un_setup_restore_mode(struct un_layer *l, int dirfd, const char *name, int old_mode);

/*
 * Makes a directory of mode 0000, as the kernel does, or 0700 if that keeps us out; open, or
 * -errno.
 */
int un_setup_make_new(struct un_layer *l, int dirfd, const char *name);

/* The directory @name, made if it is missing, open and ours to change; or -errno. */
int un_setup_make_dir(struct un_layer *l, int dirfd, const char *name);
