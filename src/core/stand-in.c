/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a layer's numbers do not last, stand-ins are used for them: a hash of the directory's number and the
 * name. In a lower nothing moves, so that is one for each object, whoever asks when, and a listing can tell
 * it without a question. In an upper an object may come to the place another one was moved away from: who
 * is alive keeps the number, and what comes later takes another, until it is looked up anew when both are
 * forgotten. Hard links have one each, as they have there.
 */
#include "core_i.h"

#include "util/hash.h"

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
		inode->ino = un_ino_natural(fs, inode->dev, inode->rino, 0);
		return;
	}
	un_mutex_lock(&fs->ino_lock);
	do {
		inode->ino = stand_in(where++, name);
	} while (g_hash_table_contains(fs->stand_ins, &inode->ino));
	g_hash_table_add(fs->stand_ins, &inode->ino);
	inode->stand_in = true;
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
	if (!inode->stand_in)
		return;
	un_mutex_lock(&fs->ino_lock);
	g_hash_table_remove(fs->stand_ins, &inode->ino);
	un_mutex_unlock(&fs->ino_lock);
}

bool un_is_same(struct un_layer *l, const struct statx *st, uint64_t dev, uint64_t ino)
{
	if (un_stx_dev(st) != dev)
		return false;
	return st->stx_ino == ino || un_layer_number_changed(l, S_ISDIR(st->stx_mode));
}
