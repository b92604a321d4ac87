/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/idmap.h"

#include <glib.h>

/* The id (uint32_t)-1 means "none" to the kernel. */
#define MAX_ID (UINT32_MAX - 1)

/* One number and the ':' behind it, if there is one; false: there is no number. */
static bool next_number(const char **at, uint32_t *ret)
{
	char *end;
	guint64 n;

	if (!g_ascii_isdigit(**at))
		return false;
	n = g_ascii_strtoull(*at, &end, 10);
	if (n > UINT32_MAX || (*end && *end != ':'))
		return false;
	*at = end + (*end == ':' && end[1]);
	*ret = (uint32_t)n;
	return true;
}

static bool overlaps(uint32_t a, uint32_t a_count, uint32_t b, uint32_t b_count)
{
	return a <= b ? b - a < a_count : a - b < b_count;
}

static const char *check(const struct un_idrange *all, unsigned n, const struct un_idrange *r)
{
	if (r->count == 0)
		return "has a range of no ids";
	if (r->stored > MAX_ID || r->shown > MAX_ID || r->count - 1 > MAX_ID - r->stored ||
	    r->count - 1 > MAX_ID - r->shown)
		return "has a range beyond the largest id, 4294967294";
	for (unsigned i = 0; i < n; i++)
		if (overlaps(all[i].stored, all[i].count, r->stored, r->count) ||
		    overlaps(all[i].shown, all[i].count, r->shown, r->count))
			return "has ranges that overlap";
	return NULL;
}

const char *un_idmap_parse(const char *text, struct un_idmap *ret)
{
	g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct un_idrange));
	const char *why = NULL, *at = text + (*text == ':');

	while (*at) {
		struct un_idrange r;

		if (!next_number(&at, &r.stored) || !next_number(&at, &r.shown) ||
		    !next_number(&at, &r.count))
			return "must be triples FIRST:MAPPED:COUNT of numbers, joined by ':'";
		why = check((const struct un_idrange *)(void *)all->data, all->len, &r);
		if (why)
			return why;
		g_array_append_val(all, r);
	}
	ret->n = all->len;
	ret->v = (struct un_idrange *)(void *)g_array_free(g_steal_pointer(&all), FALSE);
	return NULL;
}

void un_idmap_done(struct un_idmap *map)
{
	g_free(map->v);
	*map = (struct un_idmap){ 0 };
}

bool un_idmap_show(const struct un_idmap *map, uint32_t id, uint32_t *ret)
{
	*ret = id;
	for (unsigned i = 0; i < map->n; i++) {
		const struct un_idrange *r = &map->v[i];

		if (id >= r->stored && id - r->stored < r->count) {
			*ret = r->shown + (id - r->stored);
			return true;
		}
	}
	return map->n == 0;
}

bool un_idmap_store(const struct un_idmap *map, uint32_t id, uint32_t *ret)
{
	*ret = id;
	for (unsigned i = 0; i < map->n; i++) {
		const struct un_idrange *r = &map->v[i];

		if (id >= r->shown && id - r->shown < r->count) {
			*ret = r->stored + (id - r->shown);
			return true;
		}
	}
	return map->n == 0;
}
