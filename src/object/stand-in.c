/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a layer's numbers do not last, stand-ins are used for them: a hash of the directory's number and the
 * name. In a lower nothing moves, so that is one for each object, whoever asks when, and a listing can tell
 * it without a question. In an upper an object may come to the place another one was moved away from: who
 * is alive keeps the number, and what comes later takes another, until it is looked up anew when both are
 * forgotten. Hard links have one each, as they have there.
 */
#include "layer/layer.h"
#include "object/object.h"
#include "object/stand-in.h"
#include "util/hash.h"

/* Bit 63: no number of a file system that has some. */
uint64_t un_stand_in_at(uint64_t where, const char *name)
{
	return un_hash_name_in(where, name) | 1ull << 63;
}

uint64_t un_stand_in(const struct un_realdir *dir, const char *name)
{
	return un_stand_in_at(dir->ino, name);
}

bool un_is_same(struct un_layer *l, const struct statx *st, uint64_t dev, uint64_t ino)
{
	if (un_stx_dev(st) != dev)
		return false;
	return st->stx_ino == ino || un_layer_number_changed(l, S_ISDIR(st->stx_mode));
}
