/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that the kernel keeps as missing, for nothing else here knows them: when it is not certain any more that what
 * others make would be told by its name (events were lost, a directory is not watched any more) the kernel is to ask for
 * these again. (To have it forget all at once, FUSE_NOTIFY_INC_EPOCH, takes away what is mounted.)
 *
 * What the kernel keeps is in the table, but not the other way round: it forgets names without saying so, and those
 * that it was told to ask for again stay until they are found or make room. It is told of the oldest when the table is
 * full, so what is missing is warm for as long as it is here.
 */
#include "object/missing.h"
#include "object/known.h"
#include "object/object.h"
#include "util/hash.h"

#include <string.h>

/*
 * 8 MiB when it is full of names of 30 bytes: 96 bytes for each, and 24 in the hash table; 20 MiB at most, with names of
 * 255. Fewer would do for what they are there for. But whoever goes over more names than these again and again, as
 * compilers do in search paths, finds none of them warm.
 */
#define MOST 65536u
/* So many are told at once when it is full: to wake who tells them costs more than to tell one. */
#define AT_ONCE 256u

UN_ROLE(un_missing_role);

struct un_missing {
	struct un_missing *
		next UN_GUARDED_BY(un_missing_role); /* younger; or of a list of its own */
	struct un_missing *prev UN_GUARDED_BY(un_missing_role);
	/* In the same directory, which is alive. */
	struct un_missing *sibling UN_GUARDED_BY(un_missing_role);
	struct un_missing **sibling_at UN_GUARDED_BY(un_missing_role);
	struct un_dirinfo *d;
	uint64_t dir;
	guint hash;
	char name[];
};

struct un_missing_table {
	struct un_mutex lock; /* for an instant */
	GHashTable *set UN_GUARDED_BY(un_missing_role);
	struct un_missing *oldest UN_GUARDED_BY(un_missing_role);
	struct un_missing *youngest UN_GUARDED_BY(un_missing_role);
	/* Not in the table any more, and the kernel is not told yet. */
	struct un_missing *dropped UN_GUARDED_BY(un_missing_role);
};
UN_LOCKS(struct un_missing_table, lock, missing, un_missing_role);

static guint hash(gconstpointer p)
{
	return ((const struct un_missing *)p)->hash;
}

static gboolean equal(gconstpointer a, gconstpointer b)
{
	const struct un_missing *x = a, *y = b;

	return x->hash == y->hash && x->dir == y->dir && strcmp(x->name, y->name) == 0;
}

void un_missing_init(struct un_fs *fs)
{
	struct un_missing_table *t = g_new0(struct un_missing_table, 1);

	un_mutex_init(&t->lock);
	missing_is_ours(t);
	t->set = g_hash_table_new(hash, equal);
	fs->missing = t;
}

static void free_list(struct un_missing *m) UN_REQUIRES(un_missing_role)
{
	for (struct un_missing *next; m; m = next) {
		next = m->next;
		g_free(m);
	}
}

void un_missing_done(struct un_fs *fs)
{
	struct un_missing_table *t = fs->missing;

	if (!t)
		return;
	fs->missing = NULL;
	missing_is_ours(t);
	free_list(t->oldest);
	free_list(t->dropped);
	g_hash_table_destroy(t->set);
	un_mutex_done(&t->lock);
	g_free(t);
}

static struct un_missing *new_missing(const struct un_inode *dir, const char *name)
{
	size_t len = strlen(name) + 1;
	struct un_missing *m = g_malloc0(sizeof(*m) + len);

	m->d = dir->d;
	m->dir = dir->id;
	m->hash = (guint)un_hash_name_in(dir->id, name);
	memcpy(m->name, name, len);
	return m;
}

static void append_locked(struct un_missing_table *t, struct un_missing *m)
	UN_REQUIRES(un_missing_role)
{
	m->next = NULL;
	m->prev = t->youngest;
	*(m->prev ? &m->prev->next : &t->oldest) = m;
	t->youngest = m;
}

static void unchain_locked(struct un_missing_table *t, struct un_missing *m)
	UN_REQUIRES(un_missing_role)
{
	*(m->prev ? &m->prev->next : &t->oldest) = m->next;
	*(m->next ? &m->next->prev : &t->youngest) = m->prev;
}

static void enter_locked(struct un_missing_table *t, struct un_missing *m)
	UN_REQUIRES(un_missing_role)
{
	append_locked(t, m);
	g_hash_table_add(t->set, m);
	m->sibling = m->d->missing;
	m->sibling_at = &m->d->missing;
	if (m->sibling)
		m->sibling->sibling_at = &m->sibling;
	m->d->missing = m;
	atomic_fetch_add(&m->d->n_missing, 1);
}

static void leave_locked(struct un_missing_table *t, struct un_missing *m)
	UN_REQUIRES(un_missing_role)
{
	unchain_locked(t, m);
	g_hash_table_remove(t->set, m);
	*m->sibling_at = m->sibling;
	if (m->sibling)
		m->sibling->sibling_at = m->sibling_at;
	atomic_fetch_sub(&m->d->n_missing, 1);
}

/* True: there are some to be told. */
static bool make_room_locked(struct un_missing_table *t) UN_REQUIRES(un_missing_role)
{
	if (g_hash_table_size(t->set) < MOST)
		return false;
	for (unsigned i = 0; i < AT_ONCE; i++) {
		struct un_missing *m = t->oldest;

		leave_locked(t, m);
		m->next = t->dropped;
		t->dropped = m;
	}
	return true;
}

void un_known_missing_add(struct un_fs *fs, const struct un_inode *dir, const char *name)
{
	const struct un_change dropped = { .what = UN_CHANGE_MISSING };
	struct un_missing_table *t = fs->missing;
	struct un_missing *m, *known;
	bool full = false;

	if (!t)
		return;
	m = new_missing(dir, name);
	missing_lock(t);
	known = g_hash_table_lookup(t->set, m);
	if (known) {
		unchain_locked(t, known);
		append_locked(t, known);
	} else {
		full = make_room_locked(t);
		enter_locked(t, m);
	}
	missing_unlock(t);
	if (known)
		g_free(m);
	if (full && fs->change)
		fs->change(fs->change_data, &dropped);
}

void un_missing_found(struct un_fs *fs, const struct un_inode *dir, const char *name)
{
	struct un_missing_table *t = fs->missing;
	struct un_missing *key, *known;

	if (!t || atomic_load(&dir->d->n_missing) == 0)
		return;
	key = new_missing(dir, name);
	missing_lock(t);
	known = g_hash_table_lookup(t->set, key);
	if (known)
		leave_locked(t, known);
	missing_unlock(t);
	g_free(known);
	g_free(key);
}

void un_missing_forget(struct un_fs *fs, const struct un_inode *dir)
{
	struct un_missing_table *t = fs->missing;
	struct un_missing *m;

	if (!t || atomic_load(&dir->d->n_missing) == 0)
		return;
	missing_lock(t);
	while ((m = dir->d->missing)) {
		leave_locked(t, m);
		g_free(m);
	}
	missing_unlock(t);
}

struct un_missing *un_known_missing_take(struct un_fs *fs)
{
	struct un_missing_table *t = fs->missing;
	struct un_missing *all;

	if (!t)
		return NULL;
	missing_lock(t);
	all = t->dropped;
	t->dropped = NULL;
	missing_unlock(t);
	return all;
}

void un_known_missing_tell(struct un_missing *m,
			   bool (*fn)(void *data, uint64_t dir, const char *name),
			   void *data) UN_NO_TSA /* the list is the caller's */
{
	bool more = true;

	for (struct un_missing *next; m; m = next) {
		more = more && fn(data, m->dir, m->name);
		next = m->next;
		g_free(m);
	}
}

static struct un_missing *copy_onto(struct un_missing *list, const struct un_missing *m)
	UN_REQUIRES(un_missing_role)
{
	struct un_missing *copy = g_memdup2(m, sizeof(*m) + strlen(m->name) + 1);

	copy->next = list;
	return copy;
}

struct un_missing *un_missing_copy(struct un_fs *fs, const struct un_inode *dir)
{
	struct un_missing_table *t = fs->missing;
	struct un_missing *list = NULL;

	if (!t || (dir && atomic_load(&dir->d->n_missing) == 0))
		return NULL;
	missing_lock(t);
	if (dir)
		for (const struct un_missing *m = dir->d->missing; m; m = m->sibling)
			list = copy_onto(list, m);
	else
		for (const struct un_missing *m = t->oldest; m; m = m->next)
			list = copy_onto(list, m);
	missing_unlock(t);
	return list;
}
