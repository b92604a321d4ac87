/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new inode for what a lookup has found in the layers. */
#include "object/found.h"

#include "layer/layer.h"
#include "merge/merge.h"
#include "object/data.h"
#include "object/fdcache.h"
#include "object/index.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/object.h"
#include "object/place.h"
#include "object/prot.h"
#include "object/realdir.h"
#include "object/same.h"
#include "object/stack.h"

void un_found_prot(struct un_inode *inode, const struct statx *st)
{
	inode->prot |= (uint8_t)un_prot_of_stat(st);
	inode->prot_known = !inode->upper;
}

static int fill_file(struct un_fs *fs, struct un_inode *dir, const char *name,
		     const struct un_found *f, struct un_inode *inode) UN_INODE_LOCKED(inode)
{
	const struct un_hit *h = &f->hits[0];
	struct un_realdir *rd = h->dir;
	struct un_fd *fd;
	bool look;
	int r;

	inode->dev = un_stx_dev(&h->st);
	inode->rino = h->st.stx_ino;
	inode->seen_ino = h->real_ino;
	inode->born = un_born(&h->st);
	inode->maybe_setid = h->st.stx_mode & (S_ISUID | S_ISGID);
	inode->covered = un_stx_is_covered(&h->st);
	un_place_set_locked(fs, inode, rd, name);
	inode->data = un_data_new(f, name);
	inode->metacopy = inode->data != NULL;
	if (h->no_xattrs && !fs->revalidate)
		inode->xattrs = UN_XATTR_NONE;
	if (!inode->upper) {
		/* What an index keeps together is one, wherever it is found. */
		inode->ino =
			un_ino_natural(fs, inode->dev, inode->rino,
				       un_index_wanted(fs, h->layer, &h->st) ? 0 : dir->d->salt);
		return 0;
	}
	r = un_realdir_open(fs, rd, &fd);
	if (r < 0)
		return r;
	look = inode->type == DT_REG ? h->origin : rd->impure;
	if (look && h->st.stx_nlink > 1)
		un_index_of_upper(fs, inode, fd->fd, name, &h->st);
	if (inode->ix && inode->ix->ino)
		inode->ino = un_ino_natural(fs, inode->ix->dev, inode->ix->ino, 0);
	else
		inode->ino = un_ino_of_upper(fs, rd, fd->fd, name, &h->st, look, &inode->origin);
	if (!inode->ino)
		un_ino_own(fs, inode, rd, name);
	un_fdcache_put(fs->fds, fd);
	return 0;
}

int un_found_inode(struct un_fs *fs, struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode **ret)
{
	const struct un_hit *top = &f->hits[0];
	struct un_inode *inode = un_inode_new(fs, IFTODT(top->st.stx_mode));
	int r = 0;

	un_inode_is_ours(inode);
	inode->upper = top->layer == fs->upper;
	un_found_prot(inode, &top->st);
	if (S_ISDIR(top->st.stx_mode))
		un_stack_fill(fs, dir, name, f, inode);
	else
		r = fill_file(fs, dir, name, f, inode);
	if (r < 0) {
		un_inode_put(fs, inode);
		return r;
	}
	*ret = inode;
	return 0;
}

bool un_found_is_trap(struct un_fs *fs, const struct un_found *f)
{
	for (unsigned i = 0; fs->upper && i < f->n; i++) {
		const struct statx *st = &f->hits[i].st;

		if (!S_ISDIR(st->stx_mode) || f->hits[i].layer == fs->upper)
			continue;
		for (unsigned t = 0; t < G_N_ELEMENTS(fs->traps); t++)
			if (fs->traps[t].ino == f->hits[i].real_ino &&
			    fs->traps[t].dev == un_stx_dev(st))
				return true;
	}
	return false;
}
