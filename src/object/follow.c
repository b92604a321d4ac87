/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a redirect leads to is not in the directories that make up the merged one which shows it, so it is watched
 * besides: every directory on the way, in each layer that was asked, also where the way ends too early; what is missing
 * may come. All of them have one key, and a table says which objects were found by way of a name. A name that is in it
 * is news for these objects wherever it changes, which is too often at worst. Of what is found without a redirect
 * nothing is here.
 *
 * A directory is watched until the union ends, or until it is removed: who else is led by it is not counted.
 */
#include "object/follow.h"

#include "layer/layer.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/inode.h"
#include "object/object.h"
#include "object/tell.h"
#include "util/fd.h"
#include "watch/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define TAR_MARK ".wh."

UN_ROLE(followed_role);

/* An object that was found by redirects. */
struct follower {
	uint64_t id;
	GPtrArray *led; /* un_found.followed */
};

struct un_followed {
	struct un_mutex lock;
	atomic_uint n; /* in by_id */
	atomic_bool has_stores; /* or had some */
	GHashTable *by_id UN_GUARDED_BY(followed_role);
	/* Name -> set of followers. */
	GHashTable *by_name UN_GUARDED_BY(followed_role);
	/* "LAYER/PATH" of directories in layers with data only, which are watched all the way. */
	GHashTable *stores UN_GUARDED_BY(followed_role);
};
UN_LOCKS(struct un_followed, lock, followed, followed_role);

static void follower_free(gpointer p)
{
	struct follower *f = p;

	g_ptr_array_unref(f->led);
	g_free(f);
}

static void set_free(gpointer p)
{
	g_hash_table_destroy(p);
}

void un_follow_init(struct un_fs *fs)
{
	struct un_followed *w = g_new0(struct un_followed, 1);

	un_mutex_init(&w->lock);
	followed_is_ours(w);
	w->by_id = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, follower_free);
	w->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, set_free);
	w->stores = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	fs->followed = w;
}

void un_follow_done(struct un_fs *fs)
{
	struct un_followed *w = fs->followed;

	if (!w)
		return;
	followed_is_ours(w);
	g_hash_table_destroy(w->by_name);
	g_hash_table_destroy(w->by_id);
	g_hash_table_destroy(w->stores);
	un_mutex_done(&w->lock);
	g_free(w);
	fs->followed = NULL;
}

/* ---- who is led by what ------------------------------------------------------------------------------- */

static void enter_name(struct un_followed *w, struct follower *f, const char *name)
	UN_REQUIRES(followed_role)
{
	GHashTable *set = g_hash_table_lookup(w->by_name, name);

	if (!set) {
		set = g_hash_table_new(NULL, NULL);
		g_hash_table_insert(w->by_name, g_strdup(name), set);
	}
	g_hash_table_add(set, f);
}

static void leave_name(struct un_followed *w, struct follower *f, const char *name)
	UN_REQUIRES(followed_role)
{
	GHashTable *set = g_hash_table_lookup(w->by_name, name);

	if (set && g_hash_table_remove(set, f) && g_hash_table_size(set) == 0)
		g_hash_table_remove(w->by_name, name);
}

static void each_name(struct un_followed *w, struct follower *f,
		      void (*fn)(struct un_followed *w, struct follower *f,
				 const char *name)) UN_NO_TSA
{
	for (guint i = 0; i < f->led->len; i++) {
		g_auto(GStrv) parts = g_strsplit(f->led->pdata[i], "/", -1);

		for (char **p = parts; *p; p++)
			if (**p)
				fn(w, f, *p);
	}
}

static bool is_led_alike(const GPtrArray *a, const GPtrArray *b)
{
	if (a->len != b->len)
		return false;
	for (guint i = 0; i < a->len; i++)
		if (strcmp(a->pdata[i], b->pdata[i]) != 0)
			return false;
	return true;
}

static void leave(struct un_followed *w, uint64_t id) UN_REQUIRES(followed_role)
{
	struct follower *f = g_hash_table_lookup(w->by_id, &id);

	if (!f)
		return;
	each_name(w, f, leave_name);
	g_hash_table_remove(w->by_id, &id);
	atomic_fetch_sub(&w->n, 1);
}

static void enter(struct un_followed *w, uint64_t id, GPtrArray *led)
{
	struct follower *f;

	followed_lock(w);
	f = g_hash_table_lookup(w->by_id, &id);
	if (!f || !is_led_alike(f->led, led)) {
		leave(w, id);
		f = g_new0(struct follower, 1);
		f->id = id;
		f->led = g_ptr_array_ref(led);
		g_hash_table_insert(w->by_id, &f->id, f);
		atomic_fetch_add(&w->n, 1);
		each_name(w, f, enter_name);
	}
	followed_unlock(w);
}

void un_follow_forget(struct un_fs *fs, const struct un_inode *inode)
{
	struct un_followed *w = fs->followed;

	if (!w || atomic_load(&w->n) == 0)
		return;
	followed_lock(w);
	leave(w, inode->id);
	followed_unlock(w);
}

/* ---- layers with data only ----------------------------------------------------------------------------- */

/* All directories that are there on the way to @path in @l. */
static bool watch_way(struct un_fs *fs, struct un_layer *l, const char *path)
{
	bool all = !l->remote && un_watch_add(fs->watch, l->root, UN_FOLLOWED) == 0;
	un_autofd int dir = -1;

	for (const char *p = path + 1, *end; all && (end = strchr(p, '/')); p = end + 1) {
		char name[NAME_MAX + 1];
		int fd;

		if (end - p > NAME_MAX)
			break;
		g_strlcpy(name, p, (gsize)(end - p) + 1);
		fd = un_at_open(UN_AT(l, dir >= 0 ? dir : l->root, name),
				O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
		if (fd < 0)
			break;
		un_close(dir);
		dir = fd;
		all = un_watch_add(fs->watch, dir, UN_FOLLOWED) == 0;
	}
	return all;
}

/* Many files are in few directories: each of these is asked for once. */
static bool watch_stores(struct un_fs *fs, const char *path)
{
	struct un_followed *w = fs->followed;
	struct un_layers *ls = fs->layers;
	int dirname = (int)(strrchr(path, '/') - path);
	bool all = true;

	for (unsigned i = ls->n + 1; i <= ls->n + ls->n_data; i++) {
		g_autofree char *key = g_strdup_printf("%u%.*s", i, dirname, path);
		bool known;

		followed_lock(w);
		atomic_store(&w->has_stores, true);
		known = !g_hash_table_add(w->stores, g_strdup(key));
		followed_unlock(w);
		if (known || watch_way(fs, &ls->v[i], path))
			continue;
		all = false;
		followed_lock(w);
		g_hash_table_remove(w->stores, key);
		followed_unlock(w);
	}
	return all;
}

bool un_follow_found(struct un_fs *fs, struct un_inode *inode, const struct un_found *f,
		     unsigned since)
{
	bool all;

	if (!fs->live || !f->followed)
		return true;
	if (!fs->followed)
		return false;
	enter(fs->followed, inode->id, f->followed);
	all = !f->data_path || watch_stores(fs, f->data_path);
	/* Something that came while it was not in the table yet may have been about it. */
	if (atomic_load(&fs->live_seq) != since)
		atomic_store(&inode->doubted, true);
	return all;
}

/* ---- changes ------------------------------------------------------------------------------------------- */

static void add_ids(GHashTable *set, bool values, GArray *ids)
{
	GHashTableIter it;
	gpointer key, value;

	g_hash_table_iter_init(&it, set);
	while (g_hash_table_iter_next(&it, &key, &value)) {
		const struct follower *f = values ? value : key;

		g_array_append_val(ids, f->id);
	}
}

/* Taken down under the lock: nobody is told with it held. */
static GArray *concerned(struct un_followed *w, const struct un_watch_event *e)
{
	GArray *ids = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	const char *name = e->name;
	bool tar = name && g_str_has_prefix(name, TAR_MARK);
	GHashTable *set;

	followed_lock(w);
	/* What is kept of stores says no more which way is whole. */
	if (e->key == UN_FOLLOWED && (!name || e->dir))
		g_hash_table_remove_all(w->stores);
	if (e->key == UN_FOLLOWED && (!name || g_str_has_prefix(name, TAR_MARK TAR_MARK))) {
		add_ids(w->by_id, true, ids);
	} else if (name) {
		set = g_hash_table_lookup(w->by_name, tar ? name + strlen(TAR_MARK) : name);
		if (set)
			add_ids(set, false, ids);
	}
	followed_unlock(w);
	return ids;
}

void un_follow_changed(struct un_fs *fs, const struct un_watch_event *e)
{
	struct un_followed *w = fs->followed;
	g_autoptr(GArray) ids = NULL;

	/* What is known of stores outlives who was led there. */
	if (!w || (atomic_load(&w->n) == 0 && !atomic_load(&w->has_stores)))
		return;
	if (e->what & UN_WATCH_LOST) {
		followed_lock(w);
		g_hash_table_remove_all(w->stores);
		followed_unlock(w);
		return;
	}
	ids = concerned(w, e);
	for (guint i = 0; i < ids->len; i++) {
		struct un_inode *inode = un_inode_get(fs, g_array_index(ids, uint64_t, i));

		if (!inode)
			continue;
		un_tell_doubt(fs, inode);
		un_inode_put(fs, inode);
	}
}
