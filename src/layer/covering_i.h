/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file of a lower that something is mounted on, in a layer that is not a private clone of its mount: what
 * is mounted there is shown, since what it covers cannot be reached. Nothing is asked of it before it is
 * known not to lie in our own mount, where the answer would be ours to give.
 */
#pragma once

#include "layer/layer.h"

/* The file that is mounted on @name: O_PATH; -EXDEV if it is a directory or must not be asked, or -errno. */
int un_covering_open(struct un_layer *l, int dirfd, const char *name);

/* *ret is of @name as seen from outside; if it can be, it is of the covering file afterwards. */
void un_covering_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret);
