/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/number-map.h"

#include <glib.h>

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

/* ---- map: open addressing, the next free place ------------------------------------------------------- */

#define FIRST_ROOM 64

static size_t place_of(const struct un_number_map *m, uint64_t key)
{
	size_t i = mix(key) & (m->room - 1);

	while (m->v[i].key && m->v[i].key != key)
		i = (i + 1) & (m->room - 1);
	return i;
}

static void grow(struct un_number_map *m)
{
	struct un_number_map old = *m;

	m->room = old.room ? old.room * 2 : FIRST_ROOM;
	m->v = g_new0(struct un_number_pair, m->room);
	for (size_t i = 0; i < old.room; i++)
		if (old.v[i].key)
			m->v[place_of(m, old.v[i].key)] = old.v[i];
	g_free(old.v);
}

void un_number_map_put(struct un_number_map *m, uint64_t key, uint64_t value)
{
	struct un_number_pair *p;

	if (!key)
		return;
	if (m->n + m->n / 4 >= m->room)
		grow(m);
	p = &m->v[place_of(m, key)];
	if (!p->key)
		m->n++;
	*p = (struct un_number_pair){ key, value };
}

bool un_number_map_get(const struct un_number_map *m, uint64_t key, uint64_t *ret)
{
	const struct un_number_pair *p;

	if (m->n == 0 || !key)
		return false;
	p = &m->v[place_of(m, key)];
	if (p->key)
		*ret = p->value;
	return p->key != 0;
}

void un_number_map_remove(struct un_number_map *m, uint64_t key)
{
	size_t mask = m->room - 1, hole;

	if (m->n == 0 || !key)
		return;
	hole = place_of(m, key);
	if (!m->v[hole].key)
		return;
	/* Whatever would not be found behind the hole moves into it. */
	for (size_t i = (hole + 1) & mask; m->v[i].key; i = (i + 1) & mask) {
		size_t home = mix(m->v[i].key) & mask;

		if (((i - home) & mask) >= ((i - hole) & mask)) {
			m->v[hole] = m->v[i];
			hole = i;
		}
	}
	m->v[hole].key = 0;
	m->n--;
}

void un_number_map_clear(struct un_number_map *m)
{
	g_free(m->v);
	*m = (struct un_number_map){ 0 };
}

/* ---- sieve: Bloom filters, each four times the one before; five bits in one cache line ----------------- */

#define LINE_WORDS 8
#define BITS 5
#define MEMBERS_A_LINE 16

static size_t lines_of(unsigned level)
{
	return (size_t)64 << (2 * level);
}

static uint64_t *line_of(const struct un_number_sieve *s, unsigned level, uint64_t h)
{
	return s->v[level] + ((h >> (9 * BITS)) & (lines_of(level) - 1)) * LINE_WORDS;
}

static bool is_in(const uint64_t *line, uint64_t h)
{
	for (unsigned i = 0; i < BITS; i++, h >>= 9)
		if (!(line[(h >> 6) & (LINE_WORDS - 1)] >> (h & 63) & 1))
			return false;
	return true;
}

bool un_number_sieve_may_have(const struct un_number_sieve *s, uint64_t number)
{
	uint64_t h = mix(number);

	for (unsigned level = 0; level < s->n; level++)
		if (is_in(line_of(s, level, h), h))
			return true;
	return false;
}

void un_number_sieve_add(struct un_number_sieve *s, uint64_t number)
{
	uint64_t h = mix(number), *line;

	if (un_number_sieve_may_have(s, number))
		return;
	if (s->n == 0 ||
	    (s->added >= lines_of(s->n - 1) * MEMBERS_A_LINE && s->n < UN_NUMBER_SIEVES)) {
		s->v[s->n] = g_new0(uint64_t, lines_of(s->n) * LINE_WORDS);
		s->n++;
		s->added = 0;
	}
	line = line_of(s, s->n - 1, h);
	for (unsigned i = 0; i < BITS; i++, h >>= 9)
		line[(h >> 6) & (LINE_WORDS - 1)] |= 1ull << (h & 63);
	s->added++;
}

void un_number_sieve_clear(struct un_number_sieve *s)
{
	for (unsigned level = 0; level < s->n; level++)
		g_free(s->v[level]);
	*s = (struct un_number_sieve){ 0 };
}
