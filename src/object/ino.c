/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inode numbers as shown. Layers on one file system: the real numbers, of the origin for what was
 * copied up. Further file systems get their place in the order of the layers in bits 56 to 62; a
 * number that needs those bits itself is hashed into the range with bit 63 set.
 *
 * An origin is a mark that somebody may have copied along, and what it leads to may be seen again, so
 * it decides only as long as nobody else shows that number:
 *
 *   shown     every number that an object has shown because it is the real one of a layer
 *   claimed   every number that a mark has laid claim to, successfully: it had not been shown. Whoever
 *             really has it shows another one from then on.
 *   kept      for the objects with such a mark, what they show; those copied up in this mount too
 *
 * The first two only ever grow and one decision is final, so that an object that was forgotten comes
 * back with its number. Layers whose numbers do not last: stand-in.c.
 */
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/origin.h"
#include "merge/merge.h"
#include "layer/setup.h"
#include "object/ino.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/stand-in.h"
#include "util/number-map.h"

#include <errno.h>

#define INO_BITS 56

static unsigned dev_index_locked(struct un_fs *fs, uint64_t dev) UN_INOS_LOCKED(fs)
{
	unsigned i;

	/* A handful of devices, appended only: a number once given stays. */
	for (i = 0; i < fs->n_ino_devs; i++)
		if (fs->ino_devs[i] == dev)
			break;
	if (i == fs->n_ino_devs && i < G_N_ELEMENTS(fs->ino_devs) - 1)
		fs->ino_devs[fs->n_ino_devs++] = dev;
	return i;
}

static uint64_t scramble(uint64_t a, uint64_t b)
{
	uint64_t h = a * 0x9e3779b97f4a7c15ull ^ b * 0xc2b2ae3d27d4eb4full;

	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9ull;
	h ^= h >> 32;
	return h | 1ull << 63;
}

static uint64_t map_locked(struct un_fs *fs, uint64_t dev, uint64_t ino) UN_INOS_LOCKED(fs)
{
	unsigned i = dev_index_locked(fs, dev);

	if (ino >> INO_BITS == 0 && i < G_N_ELEMENTS(fs->ino_devs) - 1)
		return ino | (uint64_t)i << INO_BITS;
	return scramble(ino, dev);
}

void un_ino_init(struct un_fs *fs)
{
	un_mutex_init(&fs->ino_lock);
	un_inos_is_ours(fs);
	fs->stand_ins = g_hash_table_new(g_int64_hash, g_int64_equal);
	for (unsigned i = fs->upper ? 0 : 1; i <= fs->layers->n; i++)
		dev_index_locked(fs, fs->layers->v[i].dev);
}

void un_ino_add_layer(struct un_fs *fs, const struct un_layer *l)
{
	un_inos_lock(fs);
	dev_index_locked(fs, l->dev);
	un_inos_unlock(fs);
}

void un_ino_done(struct un_fs *fs)
{
	un_inos_is_ours(fs);
	un_number_map_clear(&fs->ino_claimed);
	un_number_map_clear(&fs->ino_kept);
	un_number_map_clear(&fs->ino_salts);
	un_number_sieve_clear(&fs->ino_shown);
	g_hash_table_destroy(fs->stand_ins);
	un_mutex_done(&fs->ino_lock);
}

static uint64_t natural_locked(struct un_fs *fs, uint64_t dev, uint64_t ino, uint64_t salt)
	UN_INOS_LOCKED(fs)
{
	uint64_t shown = map_locked(fs, dev, ino), owner;

	if (salt)
		return scramble(shown, salt);
	if (un_number_map_get(&fs->ino_claimed, shown, &owner))
		return scramble(shown, 1);
	un_number_sieve_add(&fs->ino_shown, shown);
	return shown;
}

uint64_t un_ino_natural(struct un_fs *fs, uint64_t dev, uint64_t ino, uint64_t salt)
{
	uint64_t shown;

	un_inos_lock(fs);
	shown = natural_locked(fs, dev, ino, salt);
	un_inos_unlock(fs);
	return shown;
}

/* @owner, by the number that is its own, shows @shown from now on, if nobody else has. */
static bool claim_locked(struct un_fs *fs, uint64_t shown, uint64_t owner) UN_INOS_LOCKED(fs)
{
	uint64_t by;

	if (un_number_map_get(&fs->ino_claimed, shown, &by))
		return by == owner;
	if (un_number_sieve_may_have(&fs->ino_shown, shown))
		return false;
	un_number_map_put(&fs->ino_claimed, shown, owner);
	return true;
}

/* ---- what is kept ----------------------------------------------------------------------------------- */

static uint64_t ino_kept(struct un_fs *fs, uint64_t dev, uint64_t rino)
{
	uint64_t shown = 0;

	un_inos_lock(fs);
	if (!un_number_map_get(&fs->ino_kept, map_locked(fs, dev, rino), &shown))
		shown = 0;
	un_inos_unlock(fs);
	return shown;
}

void un_ino_keep(struct un_fs *fs, uint64_t dev, uint64_t rino, uint64_t shown)
{
	/* The number would lead to another file one day. */
	if (!un_layer_numbers_last(fs->upper, false))
		return;
	un_inos_lock(fs);
	un_number_map_put(&fs->ino_kept, map_locked(fs, dev, rino), shown);
	un_inos_unlock(fs);
}

void un_ino_unkeep(struct un_fs *fs, uint64_t dev, uint64_t rino)
{
	uint64_t key;

	un_inos_lock(fs);
	key = map_locked(fs, dev, rino);
	un_number_map_remove(&fs->ino_kept, key);
	un_number_map_remove(&fs->ino_salts, key);
	un_inos_unlock(fs);
}

/* ---- files ------------------------------------------------------------------------------------------ */

/* The lower layer that is on the file system of the origin, held; or NULL. */
static struct un_layer *layer_of(struct un_fs *fs, const struct un_origin *o)
{
	for (struct un_layer *l = NULL; (l = un_layers_next(fs->layers, l));)
		if (l->index > 0 && !l->data_only && un_origin_is_of(l, o) && un_layer_hold(l))
			return l;
	return NULL;
}

void un_ino_of_origin(struct un_fs *fs, const struct un_origin *origin, uint64_t *ret_dev,
		      uint64_t *ret_ino, unsigned *ret_nlink)
{
	struct un_layer *l = layer_of(fs, origin);
	struct statx st;

	*ret_dev = *ret_ino = 0;
	*ret_nlink = 0;
	if (!l)
		return;
	if (un_origin_stat(l, origin, &st) == 0) {
		*ret_dev = l->dev;
		*ret_ino = st.stx_ino;
		*ret_nlink = st.stx_nlink;
	}
	un_layer_release(l);
}

/*
 * The number of a file with the origin @value, unless that is none to go by: then its own, or 0 where it has
 * none that lasts but its @place.
 */
static uint64_t decide(struct un_fs *fs, const struct statx *st, uint64_t place,
		       const uint8_t *value, size_t len)
{
	uint64_t dev = un_stx_dev(st), low_dev = 0, low_ino = 0, shown = 0, key;
	struct un_origin origin;
	unsigned nlink = 0;

	if (un_origin_parse(value, len, &origin) == 0)
		un_ino_of_origin(fs, &origin, &low_dev, &low_ino, &nlink);
	un_inos_lock(fs);
	key = place ? place : map_locked(fs, dev, st->stx_ino);
	/* Of several links below one was broken by the copy-up; the others have the number. */
	if (low_ino && nlink <= 1) {
		shown = map_locked(fs, low_dev, low_ino);
		if (!claim_locked(fs, shown, key))
			shown = 0;
	}
	if (!shown && !place)
		shown = natural_locked(fs, dev, st->stx_ino, 0);
	if (!place)
		un_number_map_put(&fs->ino_kept, key, shown);
	un_inos_unlock(fs);
	return shown;
}

uint64_t un_ino_of_upper(struct un_fs *fs, struct un_realdir *rd, int dirfd, const char *name,
			 const struct statx *st, bool look, bool *ret_origin)
{
	bool lasts = un_layer_numbers_last(fs->upper, false);
	uint64_t ino = lasts ? ino_kept(fs, un_stx_dev(st), st->stx_ino) : 0;
	uint8_t value[UN_ORIGIN_MAX];
	ssize_t n = look ? 0 : -ENODATA;

	*ret_origin = ino != 0;
	if (ino)
		return ino;
	/* Without the impure mark it was brought there by hand, and listings do not look for it. */
	if (look && rd->impure)
		n = un_mark_get(UN_AT(fs->upper, dirfd, name), UN_MARK_ORIGIN, value,
				sizeof(value));
	*ret_origin = n >= 0;
	if (n < 0)
		return 0;
	return decide(fs, st, lasts ? 0 : un_stand_in(rd, name), value, (size_t)n);
}

/* ---- directories ------------------------------------------------------------------------------------ */

void un_ino_keep_dir(struct un_fs *fs, struct un_inode *dir)
{
	uint64_t key;

	if (!un_layer_numbers_last(fs->upper, true))
		return;
	un_inos_lock(fs);
	key = map_locked(fs, dir->dev, dir->rino);
	un_number_map_put(&fs->ino_kept, key, dir->ino);
	if (dir->d->salt)
		un_number_map_put(&fs->ino_salts, key, dir->d->salt);
	else
		un_number_map_remove(&fs->ino_salts, key);
	un_inos_unlock(fs);
}

/*
 * The first directory of the stack that only a redirect leads to, or n. The redirect is a mark as an
 * origin is, and what it claims is that directory with everything below.
 */
static unsigned redirected_from(const struct un_inode *dir, const struct un_found *f)
{
	for (unsigned i = 1; i < f->n; i++)
		if (f->hits[i].name || f->hits[i].dir != dir->d->stack[f->hits[i].pos])
			return i;
	return f->n;
}

/* What the lower directories @first to @at of the stack show at their own place: that of the first. */
static uint64_t placed_locked(struct un_fs *fs, struct un_dirinfo *d, unsigned first, unsigned at,
			      uint64_t salt) UN_INOS_LOCKED(fs)
{
	uint64_t ret = 0;

	d->salt = salt;
	for (unsigned i = first; i < at; i++) {
		const struct un_realdir *rd = d->stack[i];
		uint64_t shown = natural_locked(fs, rd->dev, rd->ino, salt);

		if (i == first)
			ret = shown;
		/* Somebody else shows it and what is in it. */
		if (!salt && shown != map_locked(fs, rd->dev, rd->ino))
			d->salt = shown;
	}
	return ret;
}

void un_ino_of_dir(struct un_fs *fs, const struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode *inode)
{
	bool lasts = !inode->upper || un_layer_numbers_last(fs->upper, true);
	struct un_dirinfo *d = inode->d;
	unsigned first = inode->upper ? 1 : 0, at = redirected_from(dir, f);
	uint64_t key, target;
	bool claimed = false;

	un_inos_lock(fs);
	key = map_locked(fs, inode->dev, inode->rino);
	if (lasts && un_number_map_get(&fs->ino_kept, key, &inode->ino)) {
		if (!un_number_map_get(&fs->ino_salts, key, &d->salt))
			d->salt = 0;
		un_inos_unlock(fs);
		return;
	}
	inode->ino = placed_locked(fs, d, first, at, first < at ? dir->d->salt : 0);
	if (at < f->n) {
		target = map_locked(fs, d->stack[at]->dev, d->stack[at]->ino);
		key = map_locked(fs, d->stack[at - 1]->dev, d->stack[at - 1]->ino);
		claimed = claim_locked(fs, target, key);
		if (!claimed || d->salt)
			d->salt = scramble(key, 2);
		if (claimed && first == at)
			inode->ino = target;
	}
	if (!inode->ino && lasts)
		inode->ino = natural_locked(fs, inode->dev, inode->rino, 0);
	un_inos_unlock(fs);
	if (!inode->ino)
		un_ino_own(fs, inode, f->hits[0].dir, name);
}

/* ---- listings --------------------------------------------------------------------------------------- */

uint64_t un_ino_listed(struct un_fs *fs, const struct un_realdir *rd, uint64_t ino)
{
	uint64_t kept = rd->layer == fs->upper ? ino_kept(fs, rd->dev, ino) : 0;

	return kept ? kept : un_ino_natural(fs, rd->dev, ino, 0);
}

void un_ino_own(struct un_fs *fs, struct un_inode *inode, const struct un_realdir *dir,
		const char *name)
{
	uint64_t where = dir ? dir->ino : inode->id;

	if (un_layer_numbers_last(fs->upper, inode->type == DT_DIR)) {
		inode->ino = un_ino_natural(fs, inode->dev, inode->rino, 0);
		return;
	}
	un_inos_lock(fs);
	do {
		inode->ino = un_stand_in_at(where++, name);
	} while (g_hash_table_contains(fs->stand_ins, &inode->ino));
	g_hash_table_add(fs->stand_ins, &inode->ino);
	inode->stand_in = true;
	un_inos_unlock(fs);
}

void un_ino_own_dir(struct un_fs *fs, struct un_inode *dir)
{
	if (!un_layer_numbers_last(fs->upper, true))
		dir->d->stack[0]->ino = dir->ino;
}

/* The next lookup may give it another number: listings that the kernel keeps tell the present one. */
static void forget_in_listings(struct un_fs *fs, struct un_inode *inode)
	UN_REQUIRES(un_inode_role)
{
	for (struct un_name *n = inode->names; n && fs->stale; n = n->next)
		if (inode->ino != un_stand_in_at(n->dir->ino, n->name))
			fs->stale(fs->stale_data, n->dir->id, UN_STALE_LISTING);
}

void un_ino_release(struct un_fs *fs, struct un_inode *inode)
{
	un_inode_is_ours(inode);
	if (inode->upper && !un_layer_numbers_last(fs->upper, inode->type == DT_DIR))
		forget_in_listings(fs, inode);
	if (!inode->stand_in)
		return;
	un_inos_lock(fs);
	g_hash_table_remove(fs->stand_ins, &inode->ino);
	un_inos_unlock(fs);
}
