/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inode numbers as shown. Layers on one file system: the real numbers, of the origin for what was
 * copied up. Further file systems get their place in the order of the layers in bits 56 to 62; a
 * number that needs those bits itself is hashed into the range with bit 63 set.
 */
#include "core_i.h"

#include "layer/origin.h"

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
	fs->ino_kept = g_hash_table_new_full(kept_hash, kept_equal, g_free, NULL);
	for (unsigned i = fs->upper ? 0 : 1; i <= fs->layers->n; i++)
		dev_index(fs, fs->layers->v[i].dev);
}

void un_ino_done(struct un_fs *fs)
{
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
		return ino ? ino : un_ino_map(fs, dev, st->stx_ino);
	n = un_mark_get(fs->upper, fs->layers->dialect, dirfd, name, UN_MARK_ORIGIN, value,
			sizeof(value));
	*ret_origin = n >= 0;
	if (n > 0 && un_origin_parse(value, (size_t)n, &origin) == 0) {
		l = layer_of(fs, &origin);
		ino = l ? un_origin_ino(l, &origin) : 0;
		if (ino)
			return un_ino_map(fs, l->dev, ino);
	}
	return un_ino_map(fs, dev, st->stx_ino);
}

void un_ino_keep(struct un_fs *fs, uint64_t dev, uint64_t rino, uint64_t shown)
{
	struct kept *k = g_new(struct kept, 1);

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
