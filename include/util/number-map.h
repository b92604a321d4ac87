/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Maps of 64-bit numbers to 64-bit numbers, 16 bytes a place and no allocation for each entry: they
 * hold one for every object of a tree. Nothing is locked. 0 is no key.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct un_number_map {
	struct un_number_pair {
		uint64_t key, value;
	} * v;
	size_t n, room; /* room: 0 or a power of two */
};

/* Adds or replaces. */
void un_number_map_put(struct un_number_map *m, uint64_t key, uint64_t value);
/* False: it is not there. */
bool un_number_map_get(const struct un_number_map *m, uint64_t key, uint64_t *ret);
void un_number_map_remove(struct un_number_map *m, uint64_t key);
/* Frees all; the map is empty then. */
void un_number_map_clear(struct un_number_map *m);

/*
 * A set that may say yes for what was never added (one in a few thousand), never no for what was. About
 * four bytes a member up to a million of them (6 MiB); beyond it stays and says yes ever more often.
 */
#define UN_NUMBER_SIEVES 6

struct un_number_sieve {
	uint64_t *v[UN_NUMBER_SIEVES];
	unsigned n;
	size_t added; /* members of the last one */
};

void un_number_sieve_add(struct un_number_sieve *s, uint64_t number);
bool un_number_sieve_may_have(const struct un_number_sieve *s, uint64_t number);
void un_number_sieve_clear(struct un_number_sieve *s);
