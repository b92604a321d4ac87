/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the root of the union is made of. */
#pragma once

struct un_fs;
struct un_layer;
struct un_realdir;

/*
 * The stack of the layers' roots as they are now, but for @without (or NULL); of those that the root has already, the same real directories. The
 * array has room for UN_MAX_LOWERS and an upper; the caller owns it and a reference to each. -errno: of the layer
 * *ret_failed.
 */
int un_root_stack(struct un_fs *fs, const struct un_layer *without, struct un_realdir ***ret,
		  unsigned *ret_n, const struct un_layer **ret_failed);
