/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel knows, one after the other. */
#include "object/known.h"
#include "object/changes.h"
#include "object/lock.h"
#include "object/missing.h"
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
	uint64_t dir, id;
	char *name;
};

static void name_free(void *p)
{
	g_free(((struct known_name *)p)->name);
}

static GArray *new_names(void)
{
	GArray *names = g_array_new(FALSE, FALSE, sizeof(struct known_name));

	g_array_set_clear_func(names, name_free);
	return names;
}

bool un_known_names(struct un_fs *fs, uint64_t id,
		    bool (*fn)(void *data, uint64_t dir, const char *name), void *data)
{
	struct un_inode *inode = un_inode_get(fs, id);
	g_autoptr(GArray) names = NULL;

	if (!inode)
		return true;
	names = new_names();
	un_inode_lock(inode);
	for (struct un_name *n = inode->names; n; n = n->next) {
		struct known_name k = { n->dir->id, id, g_strdup(n->name) };

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

bool un_known_children(struct un_fs *fs, uint64_t dir,
		       bool (*fn)(void *data, uint64_t dir, const char *name, uint64_t id),
		       void *data)
{
	struct un_inode *inode = un_inode_get(fs, dir);
	g_autoptr(GArray) names = new_names();

	if (inode && inode->d) {
		un_children_lock(inode->d);
		for (struct un_name *n = inode->d->children; n; n = n->sibling) {
			struct known_name k = { dir, n->inode->id, g_strdup(n->name) };

			g_array_append_val(names, k);
		}
		un_children_unlock(inode->d);
	}
	un_inode_put(fs, inode);
	for (guint i = 0; i < names->len; i++) {
		const struct known_name *k = &g_array_index(names, struct known_name, i);

		if (!fn(data, k->dir, k->name, k->id))
			return false;
	}
	return true;
}

void un_known_missing(struct un_fs *fs, uint64_t dir,
		      bool (*fn)(void *data, uint64_t dir, const char *name), void *data)
{
	struct un_inode *inode = dir ? un_inode_get(fs, dir) : NULL;

	if (!dir || (inode && inode->d))
		un_known_missing_tell(un_missing_copy(fs, inode), fn, data);
	un_inode_put(fs, inode);
}

struct below {
	struct un_fs *fs;
	GQueue dirs; /* node ids still to be looked into, borrowed from: */
	GHashTable *seen;
	bool (*fn)(void *data, uint64_t id);
	void *data;
};

static bool one_below(void *data, uint64_t dir, const char *name, uint64_t id)
{
	struct below *b = data;
	uint64_t *own;

	(void)dir;
	(void)name;
	/* A file may have several names. */
	if (g_hash_table_contains(b->seen, &id))
		return true;
	own = g_memdup2(&id, sizeof(id));
	g_hash_table_add(b->seen, own);
	g_queue_push_tail(&b->dirs, own);
	return b->fn(b->data, id);
}

bool un_known_below(struct un_fs *fs, GHashTable *dirs, bool (*fn)(void *data, uint64_t id),
		    void *data)
{
	g_autoptr(GHashTable) seen =
		g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	struct below b = { .fs = fs, .seen = seen, .fn = fn, .data = data };
	const uint64_t *dir;
	GHashTableIter it;
	gpointer p;
	bool more = true;

	g_queue_init(&b.dirs);
	g_hash_table_iter_init(&it, dirs);
	while (g_hash_table_iter_next(&it, &p, NULL)) {
		uint64_t *own = g_memdup2(p, sizeof(*own));

		g_hash_table_add(seen, own);
		g_queue_push_tail(&b.dirs, own);
	}
	while (more && (dir = g_queue_pop_head(&b.dirs)))
		more = un_known_children(fs, *dir, one_below, &b);
	g_queue_clear(&b.dirs);
	return more;
}
