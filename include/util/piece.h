/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Long work that is done by calls nobody can interrupt is done in pieces, with a look at un_cancelled() before
 * each. How large a piece is depends on how fast the last ones were: a tenth of a second at most, and no more
 * calls than that takes. Zero-initialised before its first use; memory only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct un_piece {
	size_t size;
	int64_t begin; /* us */
};

/* How much of what is left to do (@rest, more than 0) to do now. */
size_t un_piece_begin(struct un_piece *p, uint64_t rest);
/* So much was done; 0: it failed. */
void un_piece_end(struct un_piece *p, size_t done);
