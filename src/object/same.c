/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "object/same.h"
#include "layer/layer.h"
#include "merge/merge.h"
#include "object/object.h"
#include "object/stand-in.h"

uint64_t un_born(const struct statx *st)
{
	if (!(st->stx_mask & STATX_BTIME))
		return 0;
	return (uint64_t)st->stx_btime.tv_sec * 1000000000u + st->stx_btime.tv_nsec;
}

bool un_is_as_old(const struct un_inode *inode, const struct statx *st)
{
	uint64_t b = un_born(st);

	return !inode->born || !b || inode->born == b;
}

bool un_is_it(struct un_layer *l, const struct un_inode *inode, const struct statx *st)
{
	return IFTODT(st->stx_mode) == inode->type &&
	       (inode->type == DT_DIR || un_is_same(l, st, inode->dev, inode->rino));
}

static bool is_same_dir(const struct un_inode *dir, const struct un_found *f)
{
	if (dir->d->n != f->n)
		return false;
	for (unsigned i = 0; i < f->n; i++)
		if (dir->d->stack[i]->dev != un_stx_dev(&f->hits[i].st) ||
		    (dir->d->stack[i]->ino != f->hits[i].st.stx_ino &&
		     un_layer_numbers_last(f->hits[i].layer, true)))
			return false;
	return true;
}

bool un_is_still(struct un_fs *fs, struct un_inode *inode, const struct un_found *f)
{
	const struct un_hit *h = &f->hits[0];

	if (inode->type != IFTODT(h->st.stx_mode) || inode->upper != (h->layer == fs->upper))
		return false;
	if (inode->type == DT_DIR)
		return is_same_dir(inode, f);
	return inode->dev == un_stx_dev(&h->st) && un_is_as_old(inode, &h->st) &&
	       (inode->rino == h->st.stx_ino || !un_layer_numbers_last(h->layer, false));
}
