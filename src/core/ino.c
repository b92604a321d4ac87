/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inode numbers as shown. Layers on one file system: the real numbers, of the origin for what was
 * copied up. Further file systems get their place in the order of the layers in bits 56 to 62; a
 * number that needs those bits itself is hashed into the range with bit 63 set.
 *
 * Where a layer's numbers do not last, stand-ins are used for them: a hash of the directory's number and the
 * name. In a lower nothing moves, so that is one for each object, whoever asks when, and a listing can tell
 * it without a question. In an upper an object may come to the place another one was moved away from: who
 * is alive keeps the number, and what comes later takes another, until it is looked up anew when both are
 * forgotten. Hard links have one each, as they have there.
 */
#include "core_i.h"

#include "layer/origin.h"
#include "util/hash.h"

#define INO_BITS 56

struct kept {
	uint64_t dev, rino, shown;
};

static guint kept_hash(gconstpointer p)
{
	const struct kept *k = p;

	return (guint)(k->rino ^ (k->rino >> 32) ^ k->dev * 31);
}

static gboolean kept_equal(gconstpointer a, gconstpointer b)
{
	const struct kept *x = a, *y = b;

	return x->dev == y->dev && x->rino == y->rino;
}

static unsigned dev_index(struct un_fs *fs, uint64_t dev)
{
	unsigned i;

	/* A handful of devices, appended only: a number once given stays. */
	un_mutex_lock(&fs->ino_lock);
	for (i = 0; i < fs->n_ino_devs; i++)
		if (fs->ino_devs[i] == dev)
			break;
	if (i == fs->n_ino_devs && i < G_N_ELEMENTS(fs->ino_devs) - 1)
		fs->ino_devs[fs->n_ino_devs++] = dev;
	un_mutex_unlock(&fs->ino_lock);
	return i;
}

void un_ino_init(struct un_fs *fs)
{
	un_mutex_init(&fs->ino_lock);
	fs->ino_claimed = g_hash_table_new(g_int64_hash, g_int64_equal);
	fs->ino_kept = g_hash_table_new_full(kept_hash, kept_equal, g_free, NULL);
	for (unsigned i = fs->upper ? 0 : 1; i <= fs->layers->n; i++)
		dev_index(fs, fs->layers->v[i].dev);
}

void un_ino_done(struct un_fs *fs)
{
	g_hash_table_destroy(fs->ino_claimed);
	g_hash_table_destroy(fs->ino_kept);
	un_mutex_done(&fs->ino_lock);
}

uint64_t un_ino_map(struct un_fs *fs, uint64_t dev, uint64_t ino)
{
	/* The first is the upper's, or the top lower's: the usual and the only one. */
	unsigned i = dev == fs->ino_devs[0] ? 0 : dev_index(fs, dev);
	uint64_t h;

	if (ino >> INO_BITS == 0 && i < G_N_ELEMENTS(fs->ino_devs) - 1)
		return ino | (uint64_t)i << INO_BITS;
	h = ino * 0x9e3779b97f4a7c15ull ^ dev * 0xc2b2ae3d27d4eb4full;
	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9ull;
	h ^= h >> 32;
	return h | 1ull << 63;
}

/* The lower layer whose file system an origin speaks of, or NULL. */
static struct un_layer *layer_of(struct un_fs *fs, const struct un_origin *o)
{
	for (unsigned i = 1; i <= fs->layers->n; i++) {
		struct un_layer *l = &fs->layers->v[i];

		if (l->caps.handles && memcmp(l->uuid, o->uuid, sizeof(o->uuid)) == 0)
			return l;
	}
	return NULL;
}

void un_ino_of_origin(struct un_fs *fs, const struct un_origin *origin, uint64_t *ret_dev,
		      uint64_t *ret_ino, unsigned *ret_nlink)
{
	struct un_layer *l = layer_of(fs, origin);
	struct statx st;

	*ret_dev = *ret_ino = 0;
	*ret_nlink = 0;
	if (!l || un_origin_stat(l, origin, &st) < 0)
		return;
	*ret_dev = l->dev;
	*ret_ino = st.stx_ino;
	*ret_nlink = st.stx_nlink;
}

static uint64_t ino_kept(struct un_fs *fs, uint64_t dev, uint64_t rino)
{
	struct kept key = { .dev = dev, .rino = rino }, *k;
	uint64_t shown;

	un_mutex_lock(&fs->ino_lock);
	k = g_hash_table_size(fs->ino_kept) ? g_hash_table_lookup(fs->ino_kept, &key) : NULL;
	shown = k ? k->shown : 0;
	un_mutex_unlock(&fs->ino_lock);
	return shown;
}

uint64_t un_ino_of_upper(struct un_fs *fs, int dirfd, const char *name, const struct statx *st,
			 bool look, bool *ret_origin)
{
	uint64_t dev = un_stx_dev(st), ino = ino_kept(fs, dev, st->stx_ino);
	uint8_t value[UN_ORIGIN_MAX];
	struct un_origin origin;
	struct un_layer *l;
	ssize_t n;

	*ret_origin = ino != 0;
	if (ino || !look)
		return ino;
	n = un_mark_get(fs->upper, fs->layers->dialect, dirfd, name, UN_MARK_ORIGIN, value,
			sizeof(value));
	*ret_origin = n >= 0;
	if (n > 0 && un_origin_parse(value, (size_t)n, &origin) == 0) {
		l = layer_of(fs, &origin);
		ino = l ? un_origin_ino(l, &origin) : 0;
		if (ino)
			return un_ino_map(fs, l->dev, ino);
	}
	return 0;
}

/* ---- stand-ins ------------------------------------------------------------------------------------ */

/* Bit 63: no number of a file system that has some. */
static uint64_t stand_in(uint64_t where, const char *name)
{
	return un_hash_name_in(where, name) | 1ull << 63;
}

uint64_t un_stand_in(const struct un_realdir *dir, const char *name)
{
	return stand_in(dir->ino, name);
}

void un_ino_own(struct un_fs *fs, struct un_inode *inode, const struct un_realdir *dir,
		const char *name)
{
	uint64_t where = dir ? dir->ino : inode->id;

	if (un_layer_numbers_last(fs->upper, inode->type == DT_DIR)) {
		inode->ino = un_ino_map(fs, inode->dev, inode->rino);
		return;
	}
	un_mutex_lock(&fs->ino_lock);
	do {
		inode->ino = stand_in(where++, name);
	} while (g_hash_table_contains(fs->ino_claimed, &inode->ino));
	g_hash_table_add(fs->ino_claimed, &inode->ino);
	inode->ino_claimed = true;
	un_mutex_unlock(&fs->ino_lock);
}

void un_ino_own_dir(struct un_fs *fs, struct un_inode *dir)
{
	if (!un_layer_numbers_last(fs->upper, true))
		dir->d->stack[0]->ino = dir->ino;
}

/* The next lookup may give it another number: listings that the kernel keeps tell the present one. */
static void forget_in_listings(struct un_fs *fs, struct un_inode *inode)
{
	for (struct un_name *n = inode->names; n && fs->stale; n = n->next)
		if (inode->ino != stand_in(n->dir->ino, n->name))
			fs->stale(fs->stale_data, n->dir->id, UN_STALE_LISTING);
}

void un_ino_release(struct un_fs *fs, struct un_inode *inode)
{
	if (inode->upper && !un_layer_numbers_last(fs->upper, inode->type == DT_DIR))
		forget_in_listings(fs, inode);
	if (!inode->ino_claimed)
		return;
	un_mutex_lock(&fs->ino_lock);
	g_hash_table_remove(fs->ino_claimed, &inode->ino);
	un_mutex_unlock(&fs->ino_lock);
}

bool un_is_same(struct un_layer *l, const struct statx *st, uint64_t dev, uint64_t ino)
{
	if (un_stx_dev(st) != dev)
		return false;
	return st->stx_ino == ino || un_layer_number_changed(l, S_ISDIR(st->stx_mode));
}

/* ---- numbers that no origin tells ------------------------------------------------------------------ */

void un_ino_keep(struct un_fs *fs, uint64_t dev, uint64_t rino, uint64_t shown)
{
	struct kept *k;

	/* The number would lead to another file one day. */
	if (!un_layer_numbers_last(fs->upper, false))
		return;
	k = g_new(struct kept, 1);
	*k = (struct kept){ .dev = dev, .rino = rino, .shown = shown };
	un_mutex_lock(&fs->ino_lock);
	g_hash_table_replace(fs->ino_kept, k, k);
	un_mutex_unlock(&fs->ino_lock);
}

void un_ino_unkeep(struct un_fs *fs, uint64_t dev, uint64_t rino)
{
	struct kept key = { .dev = dev, .rino = rino };

	un_mutex_lock(&fs->ino_lock);
	if (g_hash_table_size(fs->ino_kept))
		g_hash_table_remove(fs->ino_kept, &key);
	un_mutex_unlock(&fs->ino_lock);
}
