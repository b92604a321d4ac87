/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers for objects of layers whose own do not last. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct statx;
struct un_layer;
struct un_realdir;

/*
 * A stand-in, where numbers do not last: a function of where the object is on the layer. Unique
 * among the objects of lowers; for an upper, where objects move, see un_ino_own().
 */
uint64_t un_stand_in(const struct un_realdir *dir, const char *name);
/* The same in a directory with the number @where. */
uint64_t un_stand_in_at(uint64_t where, const char *name);
/*
 * @st was found at the place of the object (@dev, @ino), and is of its kind: is it still that
 * object?
 */
bool un_is_same(struct un_layer *l, const struct statx *st, uint64_t dev, uint64_t ino);
