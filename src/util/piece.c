/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/piece.h"

#include <glib.h>

#define FIRST ((size_t)1 << 20)
#define LEAST ((size_t)128 << 10)
/* A memory copies this in a few milliseconds: larger pieces are no faster (tests/bench). */
#define MOST ((size_t)4 << 20)
/* What goes through at this rate, in bytes a microsecond, is not moved at all: a reflink, or a hole. */
#define NOT_MOVED (16 * 1024)
#define MOST_NOT_MOVED ((size_t)1 << 30)

/* us */
#define QUICK 10000
#define SLOW 100000

size_t un_piece_begin(struct un_piece *p, uint64_t rest)
{
	if (!p->size)
		p->size = FIRST;
	p->begin = g_get_monotonic_time();
	return (size_t)MIN(rest, p->size);
}

void un_piece_end(struct un_piece *p, size_t done)
{
	int64_t took = g_get_monotonic_time() - p->begin;

	if (took > SLOW)
		p->size = MAX(MIN(p->size, MOST) / 2, LEAST);
	else if (done >= p->size && (int64_t)(done / NOT_MOVED) > took)
		p->size = MIN(p->size * 4, MOST_NOT_MOVED);
	else if (done >= p->size && took < QUICK)
		p->size = MIN(p->size * 2, MOST);
	else
		p->size = MIN(p->size, MOST);
}
