/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the one who runs the daemon asks of it: what it is made of, and to forget what it keeps. */
#include "layer/layer.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/cred.h"
#include "object/fdcache.h"
#include "object/known.h"
#include "object/lock.h"
#include "object/node.h"
#include "object/object.h"
#include "union/union.h"

#include <malloc.h>
#include <string.h>

bool un_may_control(const struct un_cred *cred)
{
	return un_is_user(cred, 0) || un_is_user(cred, geteuid());
}

static void add(struct un_layer_status *s, bool has, const char *word)
{
	if (has)
		s->has[s->n_has++] = word;
	else
		s->lacks[s->n_lacks++] = word;
}

static const char *numbers(const struct un_layer *l)
{
	switch (atomic_load(&l->numbers)) {
	case UN_NUMBERS_LAST:
		return "last";
	case UN_NUMBERS_FILES:
		return "last but for directories";
	default:
		return "change";
	}
}

/* From the top down; behind them those that were taken out and are still in use. */
static GPtrArray *all_layers(const struct un_fs *fs)
{
	const struct un_layers *ls = fs->layers;
	GPtrArray *all = un_layers_lowers(ls);

	if (fs->upper)
		g_ptr_array_insert(all, 0, fs->upper);
	for (unsigned i = ls->n + 1; i <= ls->n + ls->n_data; i++)
		g_ptr_array_add(all, &ls->v[i]);
	for (unsigned i = 1; i < atomic_load(&ls->used); i++)
		if (atomic_load(&ls->v[i].gone) && atomic_load(&ls->v[i].users) > 0)
			g_ptr_array_add(all, &ls->v[i]);
	return all;
}

bool un_fs_layer(const struct un_fs *fs, unsigned n, struct un_layer_status *ret)
{
	g_autoptr(GPtrArray) all = all_layers(fs);
	const struct un_layer *l = n < all->len ? all->pdata[n] : NULL;

	if (!l)
		return false;
	*ret = (struct un_layer_status){
		.kind = l == fs->upper ? "upper"
			: l->gone      ? "removed"
			: l->data_only ? "data"
				       : "lower",
		.path = l->path,
		.numbers = numbers(l),
	};
	add(ret, l->caps.acl, "acl");
	add(ret, l->caps.handles, "handles");
	if (l != fs->upper)
		return true;
	/* What follows is asked where it is needed. */
	add(ret, l->caps.xattr, "xattr");
	add(ret, l->caps.tmpfile, "tmpfile");
	add(ret, l->caps.mknod_whiteout, "device_whiteout");
	add(ret, l->caps.rename_whiteout, "rename_whiteout");
	add(ret, l->caps.rename_exchange, "rename_exchange");
	add(ret, l->caps.rename_new, "rename_noreplace");
	add(ret, l->caps.link, "link");
	add(ret, l->caps.d_type, "d_type");
	return true;
}

void un_fs_effect(const struct un_fs *fs, struct un_fs_effect *ret)
{
	const struct un_layer *any = fs->upper ? fs->upper : &fs->layers->v[1];

	*ret = (struct un_fs_effect){
		.read_only = fs->read_only,
		.userxattr = any->dialect == UN_DIALECT_USER,
		.redirect_create = fs->redirect_create,
		.metacopy_create = fs->metacopy_create,
		.index = fs->indexdir != NULL,
	};
}

static bool forget(void *data, uint64_t id)
{
	struct un_fs *fs = data;
	struct un_inode *inode = un_inode_get(fs, id);

	if (!inode)
		return true;
	if (inode->type == DT_DIR) {
		un_ns_write(inode);
		/* A dead one's says that it is empty. */
		if (!inode->d->dead)
			inode->d->listing = un_listing_free(inode->d->listing);
		un_ns_unlock(inode);
	}
	un_inode_lock(inode);
	inode->xattrs = UN_XATTR_UNKNOWN;
	un_inode_unlock(inode);
	un_inode_put(fs, inode);
	return true;
}

void un_fs_drop(struct un_fs *fs)
{
	un_known_each(fs, forget, fs);
	/* Each closes what was not used since it looked last. */
	for (int i = 0; i < 2; i++) {
		un_fdcache_idle(fs->fds);
		un_fdcache_age(fs->fds, 0);
	}
	malloc_trim(0);
}
