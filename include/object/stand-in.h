/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers for objects of layers whose own do not last. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct statx;
struct un_layer;
struct un_realdir;

/*
 * Where numbers do not last: a stand-in, a function of where the object is on the layer. Unique among what
 * is in lowers; in an upper, where things move, see un_ino_own().
 */
uint64_t un_stand_in(const struct un_realdir *dir, const char *name);
/* The same, of a directory with the number @where. */
uint64_t un_stand_in_at(uint64_t where, const char *name);
/* Is what @st tells of, found where it should be and of the kind it should be, the object (dev, ino)? */
bool un_is_same(struct un_layer *l, const struct statx *st, uint64_t dev, uint64_t ino);
