/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Maps of user or group ids, as fuse-overlayfs and containers/storage write them: triples
 * FIRST:MAPPED:COUNT, all joined by ':'. Files are stored with ids from FIRST on and shown with
 * those from MAPPED on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_idrange {
	uint32_t stored, shown, count;
};

/* Without ranges every id is itself. */
struct un_idmap {
	unsigned n;
	struct un_idrange *v; /* owned: un_idmap_done() */
};

/*
 * A ':' in front is allowed, and nothing at all is the empty map. NULL and *ret, or why it is no map
 * (static, to follow "the value"), and *ret untouched.
 */
const char *un_idmap_parse(const char *text, struct un_idmap *ret);
void un_idmap_done(struct un_idmap *map);

/* False: @id is in no range. */
bool un_idmap_show(const struct un_idmap *map, uint32_t id, uint32_t *ret);
bool un_idmap_store(const struct un_idmap *map, uint32_t id, uint32_t *ret);
