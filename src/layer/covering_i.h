/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Covered files: a file of a lower that something is mounted on, in a layer that is not a private
 * clone of its mount. The covering file is shown, since the covered one cannot be reached. It is
 * asked nothing before it is known not to lie in our own mount: there the answer would be ours to
 * give.
 */
#pragma once

#include "layer/layer.h"

/* The file that is mounted on @name: O_PATH; -EXDEV if it is a directory or must not be asked, or -errno. */
int un_covering_open(struct un_layer *l, int dirfd, const char *name);

/*
 * *ret has the attributes of the mountpoint @name: replace them by the covering file's, if it may
 * be asked. -ENFILE: it could not be found out.
 */
int un_covering_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret);
