/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel knows, one after the other. */
#include "object/known.h"
#include "object/changes.h"
#include "object/lock.h"
#include "object/node.h"
#include "object/object.h"
#include "util/lock.h"

#include <limits.h>
#include <string.h>

UN_LOCKS(struct un_shard, lock, shard, un_shard_role);

/* Taken down under the lock, so that nobody waits for what is done with each. */
static GArray *ids_of(struct un_shard *s)
{
	GArray *ids;
	GHashTableIter it;
	gpointer p;

	shard_lock(s);
	ids = g_array_sized_new(FALSE, FALSE, sizeof(uint64_t), g_hash_table_size(s->set));
	g_hash_table_iter_init(&it, s->set);
	while (g_hash_table_iter_next(&it, &p, NULL)) {
		const struct un_inode *inode = p;

		if (inode->nlookup > 0)
			g_array_append_val(ids, inode->id);
	}
	shard_unlock(s);
	return ids;
}

bool un_known_each(struct un_fs *fs, bool (*fn)(void *data, uint64_t id), void *data)
{
	for (int i = 0; i < UN_SHARDS; i++) {
		g_autoptr(GArray) ids = ids_of(&fs->ids[i]);

		for (guint j = 0; j < ids->len; j++)
			if (!fn(data, g_array_index(ids, uint64_t, j)))
				return false;
	}
	return true;
}

struct known_name {
	uint64_t dir;
	char *name;
};

static void name_free(void *p)
{
	g_free(((struct known_name *)p)->name);
}

bool un_known_names(struct un_fs *fs, uint64_t id,
		    bool (*fn)(void *data, uint64_t dir, const char *name), void *data)
{
	struct un_inode *inode = un_inode_get(fs, id);
	g_autoptr(GArray) names = NULL;

	if (!inode)
		return true;
	names = g_array_new(FALSE, FALSE, sizeof(struct known_name));
	g_array_set_clear_func(names, name_free);
	un_inode_lock(inode);
	for (struct un_name *n = inode->names; n; n = n->next) {
		struct known_name k = { n->dir->id, g_strdup(n->name) };

		g_array_append_val(names, k);
	}
	un_inode_unlock(inode);
	un_inode_put(fs, inode);
	for (guint i = 0; i < names->len; i++) {
		const struct known_name *k = &g_array_index(names, struct known_name, i);

		if (!fn(data, k->dir, k->name))
			return false;
	}
	return true;
}

struct below {
	struct un_fs *fs;
	GHashTable *dirs;
	GHashTable *seen; /* id of a directory: is it one of them, or below one? */
	bool is;
	bool (*fn)(void *data, uint64_t id);
	void *data;
};

static bool is_below(struct below *b, uint64_t dir)
{
	g_autoptr(GArray) way = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	char name[NAME_MAX + 1];
	gpointer known = NULL;
	bool is, more = true;

	do {
		is = g_hash_table_contains(b->dirs, &dir);
		if (is)
			break;
		if (g_hash_table_lookup_extended(b->seen, &dir, NULL, &known)) {
			is = GPOINTER_TO_INT(known);
			break;
		}
		g_array_append_val(way, dir);
		more = un_fs_name_of(b->fs, dir, &dir, name);
	} while (more);
	for (guint i = 0; i < way->len; i++)
		g_hash_table_insert(b->seen,
				    g_memdup2(&g_array_index(way, uint64_t, i), sizeof(uint64_t)),
				    GINT_TO_POINTER(is));
	return is;
}

/* A file may have names elsewhere, too. */
static bool look_at_name(void *data, uint64_t dir, const char *name)
{
	struct below *b = data;

	(void)name;
	b->is = is_below(b, dir);
	return !b->is;
}

static bool if_below(void *data, uint64_t id)
{
	struct below *b = data;

	b->is = false;
	(void)un_known_names(b->fs, id, look_at_name, b);
	return !b->is || b->fn(b->data, id);
}

bool un_known_below(struct un_fs *fs, GHashTable *dirs, bool (*fn)(void *data, uint64_t id),
		    void *data)
{
	g_autoptr(GHashTable) seen =
		g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	struct below b = { .fs = fs, .dirs = dirs, .seen = seen, .fn = fn, .data = data };

	return un_known_each(fs, if_below, &b);
}
