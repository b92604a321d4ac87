/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of inodes: by node id, by (directory, name), and upper non-directories by real number.
 *
 * An inode lives while anybody holds a reference; what the kernel holds (nlookup) counts as one. A
 * name holds a reference to its directory, never to its inode: when an inode dies, its names go.
 * Finding in a table takes a reference only if the count is not zero yet; the dying take themselves
 * out of the tables, if they are still what is found there.
 */
#include "object/inode.h"
#include "layer/layer.h"
#include "merge/merge.h"
#include "object/children.h"
#include "object/fdcache.h"
#include "object/ino.h"
#include "object/lock.h"
#include "object/missing.h"
#include "object/object.h"
#include "object/place.h"
#include "object/realdir.h"
#include "util/hash.h"
#include "util/log.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

static guint mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	return (guint)x;
}

static guint id_hash(gconstpointer p)
{
	return mix(((const struct un_inode *)p)->id);
}

static gboolean id_equal(gconstpointer a, gconstpointer b)
{
	return ((const struct un_inode *)a)->id == ((const struct un_inode *)b)->id;
}

static guint key_hash(gconstpointer p)
{
	const struct un_inode *i = p;

	return mix(i->rino ^ i->dev << 40);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	const struct un_inode *x = a, *y = b;

	return x->rino == y->rino && x->dev == y->dev;
}

static guint hash_of_name(const struct un_inode *dir, const char *name)
{
	return (guint)un_hash_name_in(dir->id, name);
}

static guint name_hash(gconstpointer p)
{
	const struct un_name *n = p;

	return hash_of_name(n->dir, n->name);
}

static gboolean name_equal(gconstpointer a, gconstpointer b)
{
	const struct un_name *x = a, *y = b;

	return x->dir == y->dir && strcmp(x->name, y->name) == 0;
}

static guint link_hash(gconstpointer p)
{
	const struct un_index *ix = p;

	return mix(ix->ino ^ ix->dev << 40);
}

static gboolean link_equal(gconstpointer a, gconstpointer b)
{
	const struct un_index *x = a, *y = b;

	return x->ino == y->ino && x->dev == y->dev;
}

UN_LOCKS(struct un_shard, lock, shard, un_shard_role);

static struct un_shard *shard(struct un_shard *s, guint hash)
{
	return &s[(hash >> 7) % UN_SHARDS];
}

void un_table_init(struct un_fs *fs)
{
	for (int i = 0; i < UN_SHARDS; i++) {
		un_mutex_init(&fs->ids[i].lock);
		shard_is_ours(&fs->ids[i]);
		un_mutex_init(&fs->names[i].lock);
		shard_is_ours(&fs->names[i]);
		un_mutex_init(&fs->keys[i].lock);
		shard_is_ours(&fs->keys[i]);
		un_mutex_init(&fs->links[i].lock);
		shard_is_ours(&fs->links[i]);
		fs->links[i].set = g_hash_table_new(link_hash, link_equal);
		fs->ids[i].set = g_hash_table_new(id_hash, id_equal);
		fs->names[i].set = g_hash_table_new(name_hash, name_equal);
		fs->keys[i].set = g_hash_table_new(key_hash, key_equal);
	}
	fs->next_id = UN_ROOT_ID;
}

void un_table_done(struct un_fs *fs)
{
	for (int i = 0; i < UN_SHARDS; i++) {
		shard_is_ours(&fs->ids[i]);
		g_hash_table_destroy(fs->ids[i].set);
		g_hash_table_destroy(fs->names[i].set);
		g_hash_table_destroy(fs->keys[i].set);
		un_mutex_done(&fs->ids[i].lock);
		un_mutex_done(&fs->names[i].lock);
		un_mutex_done(&fs->keys[i].lock);
		g_hash_table_destroy(fs->links[i].set);
		un_mutex_done(&fs->links[i].lock);
	}
}

struct un_inode *un_inode_new(struct un_fs *fs, uint8_t type)
{
	struct un_inode *inode = g_new0(struct un_inode, 1);
	struct un_shard *s;

	inode->id = atomic_fetch_add(&fs->next_id, 1);
	inode->refs = 1;
	inode->type = type;
	inode->published = 1; /* for all that is known */
	un_mutex_init(&inode->lock);
	if (type == DT_DIR) {
		inode->d = g_new0(struct un_dirinfo, 1);
		pthread_rwlock_init(&inode->d->ns, NULL);
		un_mutex_init(&inode->d->children_lock);
	}
	s = shard(fs->ids, id_hash(inode));
	shard_lock(s);
	g_hash_table_add(s->set, inode);
	shard_unlock(s);
	atomic_fetch_add(&fs->n_inodes, 1);
	return inode;
}

struct un_inode *un_inode_ref(struct un_inode *inode)
{
	atomic_fetch_add(&inode->refs, 1);
	return inode;
}

/* A reference, unless it is dying. */
static struct un_inode *ref_alive(struct un_inode *inode)
{
	unsigned n = atomic_load(&inode->refs);

	while (n > 0)
		if (atomic_compare_exchange_weak(&inode->refs, &n, n + 1))
			return inode;
	return NULL;
}

static void remove_if_same(struct un_shard *s, gpointer p)
{
	shard_lock(s);
	if (g_hash_table_lookup(s->set, p) == p)
		g_hash_table_remove(s->set, p);
	shard_unlock(s);
}

static void dir_free(struct un_fs *fs, struct un_inode *dir)
{
	struct un_dirinfo *d = dir->d;

	un_ns_is_ours(dir);
	for (unsigned i = 0; i < d->n; i++)
		un_realdir_put(fs, d->stack[i]);
	g_free(d->stack);
	un_listing_free(d->listing);
	g_free(d->last);
	pthread_rwlock_destroy(&d->ns);
	un_mutex_done(&d->children_lock);
	g_free(d);
}

/* Frees @inode; directories whose last reference its names held are added to @more. */
static void inode_free(struct un_fs *fs, struct un_inode *inode, GPtrArray *more)
{
	remove_if_same(shard(fs->ids, id_hash(inode)), inode);
	if (inode->keyed)
		remove_if_same(shard(fs->keys, key_hash(inode)), inode);
	un_ino_release(fs, inode);
	un_inode_is_ours(inode);
	for (struct un_name *n = inode->names, *next; n; n = next) {
		next = n->next;
		remove_if_same(shard(fs->names, name_hash(n)), n);
		un_child_remove(n);
		if (atomic_fetch_sub(&n->dir->refs, 1) == 1)
			g_ptr_array_add(more, n->dir);
		g_free(n);
	}
	un_links_drop(fs, inode);
	g_free(inode->ix);
	un_data_free(fs, inode->data);
	if (inode->gone)
		un_fdcache_clear_gone(fs->fds, &inode->io);
	else
		un_fdcache_clear(fs->fds, &inode->io);
	un_place_free(fs, inode);
	if (fs->freeing)
		fs->freeing(fs, inode);
	if (inode->d) {
		un_missing_forget(fs, inode);
		dir_free(fs, inode);
	}
	un_mutex_done(&inode->lock);
	g_free(inode);
	atomic_fetch_sub(&fs->n_inodes, 1);
	atomic_fetch_add(&fs->n_freed, 1);
}

void un_inode_put(struct un_fs *fs, struct un_inode *inode)
{
	GPtrArray *dying;

	if (!inode || atomic_fetch_sub(&inode->refs, 1) > 1)
		return;
	/* Not recursive: a tree may be deeper than the stack. */
	dying = g_ptr_array_new();
	g_ptr_array_add(dying, inode);
	while (dying->len > 0)
		inode_free(fs, g_ptr_array_steal_index(dying, dying->len - 1), dying);
	g_ptr_array_free(dying, TRUE);
}

uint64_t un_inode_id(const struct un_inode *inode)
{
	return inode->id;
}

struct un_inode *un_inode_get(struct un_fs *fs, uint64_t id)
{
	struct un_inode key = { .id = id }, *inode;
	struct un_shard *s = shard(fs->ids, id_hash(&key));

	shard_lock(s);
	inode = g_hash_table_lookup(s->set, &key);
	if (inode)
		inode = ref_alive(inode);
	shard_unlock(s);
	return inode;
}

void un_inode_remember(struct un_fs *fs, struct un_inode *inode)
{
	struct un_shard *s = shard(fs->ids, id_hash(inode));

	shard_lock(s);
	if (inode->nlookup++ == 0)
		un_inode_ref(inode);
	shard_unlock(s);
}

void un_inode_told(struct un_inode *inode, bool told)
{
	if (atomic_load_explicit(&inode->told, memory_order_relaxed) != told)
		atomic_store_explicit(&inode->told, told, memory_order_relaxed);
}

void un_inode_forget(struct un_fs *fs, uint64_t id, uint64_t n)
{
	struct un_inode key = { .id = id }, *inode;
	struct un_shard *s = shard(fs->ids, id_hash(&key));
	bool drop = false;

	shard_lock(s);
	inode = g_hash_table_lookup(s->set, &key);
	if (inode && inode->nlookup > 0) {
		if (n > inode->nlookup) {
			un_log(LOG_ERR,
			       "the kernel forgets inode %" G_GUINT64_FORMAT
			       " more often than it was told of it",
			       id);
			n = inode->nlookup;
		}
		inode->nlookup -= n;
		drop = inode->nlookup == 0;
	}
	shard_unlock(s);
	if (drop) {
		un_inode_told(inode, false);
		un_inode_put(fs, inode);
	}
}

void un_table_forget(struct un_fs *fs)
{
	for (int i = 0; i < UN_SHARDS; i++) {
		GList *all;

		shard_is_ours(&fs->ids[i]);
		all = g_hash_table_get_keys(fs->ids[i].set);
		for (GList *p = all; p; p = p->next) {
			struct un_inode *inode = p->data;

			if (inode->nlookup == 0)
				p->data = NULL;
			else
				un_inode_ref(inode);
		}
		for (GList *p = all; p; p = p->next) {
			struct un_inode *inode = p->data;

			if (!inode)
				continue;
			un_inode_forget(fs, inode->id, inode->nlookup);
			un_inode_put(fs, inode);
		}
		g_list_free(all);
	}
}

/* ---- names ---------------------------------------------------------------------------------------- */

/* A key for the table on the stack; names are at most NAME_MAX long. */
union name_buf {
	struct un_name n;
	char room[sizeof(struct un_name) + NAME_MAX + 1];
};

static struct un_name *name_key(union name_buf *buf, struct un_inode *dir, const char *name)
{
	buf->n.dir = dir;
	g_strlcpy(buf->room + offsetof(struct un_name, name), name, NAME_MAX + 1);
	return &buf->n;
}

struct un_inode *un_name_find_at(struct un_fs *fs, struct un_inode *dir, const char *name,
				 unsigned *ret_stamp)
{
	union name_buf buf;
	struct un_shard *s = shard(fs->names, hash_of_name(dir, name));
	struct un_inode *inode = NULL;
	struct un_name *n;

	shard_lock(s);
	n = g_hash_table_lookup(s->set, name_key(&buf, dir, name));
	if (n) {
		inode = ref_alive(n->inode);
		*ret_stamp = atomic_load(&n->stamp);
	}
	shard_unlock(s);
	return inode;
}

struct un_inode *un_name_find(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	unsigned stamp;

	return un_name_find_at(fs, dir, name, &stamp);
}

void un_name_confirm(struct un_fs *fs, const struct un_inode *inode, struct un_inode *dir,
		     const char *name, unsigned stamp)
{
	union name_buf buf;
	struct un_shard *s = shard(fs->names, hash_of_name(dir, name));
	struct un_name *n;

	shard_lock(s);
	n = g_hash_table_lookup(s->set, name_key(&buf, dir, name));
	if (n && n->inode == inode)
		atomic_store(&n->stamp, stamp);
	shard_unlock(s);
}

static void list_name_locked(struct un_inode *inode, struct un_name *n) UN_INODE_LOCKED(inode)
{
	n->next = inode->names;
	inode->names = n;
	atomic_fetch_add(&inode->n_names, 1);
	if (inode->ix)
		inode->ix->known++;
	inode->unlinked = false;
}

/*
 * A name comes into the inode's list and into the table, or goes from both, in one step under the inode's
 * lock: what only one of them had, somebody who adds or drops the same name of the same inode at the same
 * time (two names of a hard link looked up, or a listing and a lookup) would free under the other's hands.
 */
struct un_inode *un_name_add(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			     const char *name, bool replace, unsigned stamp)
{
	size_t len = strlen(name) + 1;
	struct un_name *n = g_malloc0(sizeof(*n) + len), *old;
	struct un_shard *s = shard(fs->names, hash_of_name(dir, name));
	struct un_inode *other = NULL;
	bool added;

	n->dir = un_inode_ref(dir);
	n->inode = inode;
	n->stamp = stamp;
	memcpy(n->name, name, len);
	un_inode_lock(inode);
	shard_lock(s);
	old = g_hash_table_lookup(s->set, n);
	if (old && !replace)
		other = ref_alive(old->inode);
	added = !other && !(old && old->inode == inode);
	/* Another's may be from an older look. */
	if (old && old->inode == inode)
		atomic_store(&old->stamp, stamp);
	if (added) {
		g_hash_table_add(s->set, n);
		list_name_locked(inode, n);
	}
	shard_unlock(s);
	if (added) {
		un_child_add(n);
		/* What is watched where it is now. */
		if (fs->live)
			atomic_store(&inode->timed, atomic_load(&dir->d->watched) != UN_WATCHED);
	}
	un_inode_unlock(inode);
	if (added)
		un_missing_found(fs, dir, name);
	if (!added) {
		un_inode_put(fs, n->dir);
		g_free(n);
	}
	return other;
}

bool un_name_drop(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name)
{
	struct un_name **p, *n;
	bool last;

	un_inode_lock(inode);
	for (p = &inode->names; (n = *p); p = &n->next)
		if (n->dir == dir && strcmp(n->name, name) == 0)
			break;
	if (n)
		*p = n->next;
	if (n && inode->ix)
		inode->ix->known--;
	if (n)
		atomic_fetch_sub(&inode->n_names, 1);
	if (n)
		remove_if_same(shard(fs->names, name_hash(n)), n);
	if (n)
		un_child_remove(n);
	last = inode->names == NULL;
	un_inode_unlock(inode);
	if (n) {
		un_inode_put(fs, n->dir);
		g_free(n);
	}
	return last;
}

bool un_name_any(struct un_inode *inode, struct un_inode **dir, char *name)
{
	struct un_name *n;

	un_inode_lock(inode);
	for (n = inode->names; n && n->gone; n = n->next)
		;
	if (n) {
		*dir = un_inode_ref(n->dir);
		g_strlcpy(name, n->name, NAME_MAX + 1);
	}
	un_inode_unlock(inode);
	return n != NULL;
}

/* ---- real numbers, where they last --------------------------------------------------------------------------------- */

struct un_inode *un_key_find(struct un_fs *fs, uint64_t dev, uint64_t rino)
{
	struct un_inode key = { .dev = dev, .rino = rino }, *inode;
	struct un_shard *s = shard(fs->keys, key_hash(&key));

	if (!un_layer_numbers_last(fs->upper, false))
		return NULL;
	shard_lock(s);
	inode = g_hash_table_lookup(s->set, &key);
	if (inode)
		inode = ref_alive(inode);
	shard_unlock(s);
	return inode;
}

void un_key_add(struct un_fs *fs, struct un_inode *inode)
{
	struct un_shard *s = shard(fs->keys, key_hash(inode));

	if (!un_layer_numbers_last(fs->upper, false))
		return;
	shard_lock(s);
	g_hash_table_add(s->set, inode);
	inode->keyed = true;
	shard_unlock(s);
}

struct un_inode *un_key_claim(struct un_fs *fs, struct un_inode *inode)
{
	struct un_shard *s = shard(fs->keys, key_hash(inode));
	struct un_inode *other;

	if (!un_layer_numbers_last(fs->upper, false))
		return NULL;
	shard_lock(s);
	other = g_hash_table_lookup(s->set, inode);
	/* Of another type: the number was given to something else behind our back. */
	if (other)
		other = other->type == inode->type ? ref_alive(other) : NULL;
	if (!other) {
		g_hash_table_add(s->set, inode);
		inode->keyed = true;
	}
	shard_unlock(s);
	return other;
}

void un_key_drop(struct un_fs *fs, struct un_inode *inode)
{
	if (inode->keyed)
		remove_if_same(shard(fs->keys, key_hash(inode)), inode);
}

/* ---- lower files with several names ------------------------------------------------------------------ */

struct un_inode *un_links_find(struct un_fs *fs, uint64_t dev, uint64_t ino)
{
	struct un_index key = { .dev = dev, .ino = ino }, *ix;
	struct un_shard *s = shard(fs->links, link_hash(&key));
	struct un_inode *inode = NULL;

	shard_lock(s);
	ix = g_hash_table_lookup(s->set, &key);
	if (ix)
		inode = ref_alive(ix->inode);
	shard_unlock(s);
	return inode;
}

struct un_inode *un_links_claim(struct un_fs *fs, struct un_inode *inode)
{
	struct un_shard *s = shard(fs->links, link_hash(inode->ix));
	struct un_inode *other = NULL;
	struct un_index *ix;

	shard_lock(s);
	ix = g_hash_table_lookup(s->set, inode->ix);
	if (ix && ix->inode != inode)
		other = ref_alive(ix->inode);
	if (!other)
		g_hash_table_replace(s->set, inode->ix, inode->ix);
	shard_unlock(s);
	return other;
}

void un_links_drop(struct un_fs *fs, struct un_inode *inode)
{
	if (inode->ix && inode->ix->ino)
		remove_if_same(shard(fs->links, link_hash(inode->ix)), inode->ix);
}

void un_data_free(struct un_fs *fs, struct un_data *data)
{
	if (!data)
		return;
	un_fdcache_clear(fs->fds, &data->io);
	un_realdir_put(fs, data->rdir);
	if (data->rname)
		g_ref_string_release(data->rname);
	g_free(data->path);
	g_free(data->redirect);
	g_free(data);
}
