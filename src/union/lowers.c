/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lowers come and go while the union is mounted. The root gets another stack, and everything that is known is asked
 * for again: directories stay the same (object/stack.c), files that a layer hides or shows from now on are others, and
 * those that are open stay what they were, for which the layer stays open.
 */
#include "copyup/copyup.h"
#include "layer/layer.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/changes.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/known.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/owner.h"
#include "object/say.h"
#include "object/stack.h"
#include "remove_i.h"
#include "root_i.h"
#include "union/union.h"
#include "util/cancel.h"
#include "util/log.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>


/* Each directory by its path: what is not in the union any more is then in nobody's way. */
static bool refresh(void *data, uint64_t id)
{
	struct un_fs *fs = data;
	struct un_inode *inode = un_inode_get(fs, id);

	if (inode)
		un_fs_refresh(fs, inode);
	un_inode_put(fs, inode);
	return true;
}

/* What the root is made of, but for @without. -1: that cannot be found out, and *ret_err says why. */
static int stack_of(struct un_fs *fs, const struct un_layer *without, struct un_realdir ***ret,
		    unsigned *ret_n, char **ret_err)
{
	const struct un_layer *failed;
	int r = un_root_stack(fs, without, ret, ret_n, &failed);

	if (r < 0)
		*ret_err = g_strdup_printf("lowerdir: %s: %s", failed->path, g_strerror(-r));
	return r < 0 ? -1 : 0;
}

static void restack(struct un_fs *fs, struct un_realdir **stack, unsigned n)
{
	un_ns_write(fs->root);
	un_stack_set_root(fs, stack, n);
	un_ns_unlock(fs->root);
	un_live_all_changed(fs);
	un_known_each(fs, refresh, fs);
}

static int get_ready(void *data, struct un_layer *l)
{
	struct un_fs *fs = data;
	int r;

	l->owner = fs;
	r = un_owners_add_layer(fs, l);
	if (r == 0)
		un_ino_add_layer(fs, l);
	return r;
}

/* The index says over which lower it was made, which is the top one. */
static bool top_is_fixed(const struct un_fs *fs)
{
	return fs->indexdir && atomic_load(&fs->index_marked);
}

static int add(struct un_fs *fs, const char *path, unsigned at, char **ret_err)
{
	struct un_realdir **stack;
	struct un_layer *l;
	unsigned n;

	if (at == 1 && top_is_fixed(fs)) {
		*ret_err = g_strdup_printf(
			"lowerdir: %s: the index of the upper was made over the top "
			"lower, which has to stay that: 'at 2' is possible",
			path);
		return -1;
	}
	l = un_layers_add_lower(fs->layers, path, at, get_ready, fs, ret_err);
	if (!l)
		return -1;
	if (stack_of(fs, NULL, &stack, &n, ret_err) < 0) {
		un_layers_remove_lower(fs->layers, l);
		return -1;
	}
	restack(fs, stack, n);
	if (fs->live)
		un_live_add_layer(l);
	un_log(LOG_INFO, "lowerdir: %s: added as number %u", path, at);
	return 0;
}

int un_fs_add_lower(struct un_fs *fs, const char *path, unsigned at, char **ret_err)
{
	int r;

	un_mutex_lock(&fs->restacking);
	r = add(fs, path, at, ret_err);
	un_mutex_unlock(&fs->restacking);
	return r;
}

/* ---- removing ----------------------------------------------------------------------------------------- */

static struct un_layer *find(struct un_fs *fs, const char *which, char **ret_err)
{
	g_autoptr(GPtrArray) lowers = un_layers_lowers(fs->layers);
	struct un_layer *l = NULL;
	guint64 n;

	if (g_ascii_string_to_unsigned(which, 10, 1, lowers->len, &n, NULL))
		l = lowers->pdata[n - 1];
	else if (which[0] == '/')
		l = un_layers_find_lower(fs->layers, which);
	if (!l)
		*ret_err = g_strdup_printf("lowerdir: %s: is none of the %u lowers", which,
					   lowers->len);
	else if (lowers->len == 1)
		*ret_err = g_strdup_printf("lowerdir: %s: is the only one", l->path);
	else if (l == lowers->pdata[0] && top_is_fixed(fs))
		*ret_err = g_strdup_printf("lowerdir: %s: the index of the upper was made over it",
					   l->path);
	return *ret_err ? NULL : l;
}

struct victim {
	struct un_fs *fs;
	struct un_layer *l;
	GPtrArray *names; /* of what is only in it: struct gone */
	char *why;        /* it has to stay */
	bool late;        /* it has gone, and cannot stay any more */
};

struct gone {
	uint64_t id, dir;
	char name[NAME_MAX + 1];
};

static bool is_only_there(struct un_inode *inode, const struct un_layer *l) UN_INODE_LOCKED(inode)
{
	if (inode->type != DT_DIR)
		return inode->rdir && inode->rdir->layer == l;
	return inode->d->n == 1 && inode->d->stack[0]->layer == l;
}

/* A file of which the upper has everything but the data. */
static bool holds_data(struct un_inode *inode, const struct un_layer *l) UN_INODE_LOCKED(inode)
{
	return inode->upper && inode->data && inode->data->layer == l;
}

static char *why_needed(struct victim *v, struct un_inode *dir, const char *name)
{
	g_autofree char *path = un_say_path(v->fs, dir, name);

	return g_strdup_printf(
		"lowerdir: %s: has the data of '%s', of which the upper has the attributes only: "
		"write to it, or remove it, first",
		v->l->path, path);
}

static bool look_at(void *data, uint64_t id)
{
	struct victim *v = data;
	struct un_inode *inode = un_inode_get(v->fs, id), *dir;
	bool only, needed;
	struct gone *g;
	int r;

	if (!inode)
		return true;
	un_inode_lock(inode);
	only = is_only_there(inode, v->l);
	needed = holds_data(inode, v->l);
	un_inode_unlock(inode);
	if (needed && v->late) {
		/* It has no name any more, but is open: so is the layer, still. */
		un_cancel_hold();
		r = un_copyup(v->fs, inode, UN_COPY_ALL);
		un_cancel_release();
		if (r < 0)
			un_log(LOG_ERR,
			       "data of a file could not be copied up from the lower %s, which was removed",
			       v->l->path);
		needed = false;
	}
	g = g_new0(struct gone, 1);
	if ((only || needed) && un_name_any(inode, &dir, g->name)) {
		if (needed)
			v->why = why_needed(v, dir, g->name);
		g->dir = dir->id;
		g->id = id;
		g_ptr_array_add(v->names, g_steal_pointer(&g));
		un_inode_put(v->fs, dir);
	}
	g_free(g);
	un_inode_put(v->fs, inode);
	return !v->why;
}

/*
 * What nobody has looked at since the mount began is not known: each directory of the upper is looked through for files
 * that have their data elsewhere. Not recursive: a tree may be deeper than the stack.
 */
static bool collect(void *data, const struct un_dirent *e)
{
	GPtrArray *names = data;

	if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0 &&
	    (e->type == DT_DIR || e->type == DT_REG))
		g_ptr_array_add(names, g_strdup(e->name));
	return true;
}

static void look_into(struct victim *v, struct un_inode *dir, GQueue *dirs)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

	if (un_readdir(v->fs, dir, 0, false, collect, names) < 0)
		return;
	for (unsigned i = 0; i < names->len; i++) {
		struct un_inode *inode;
		bool needed;

		if (un_lookup(v->fs, dir, names->pdata[i], &inode, NULL) < 0)
			continue;
		un_inode_lock(inode);
		needed = holds_data(inode, v->l);
		un_inode_unlock(inode);
		if (needed && !v->why)
			v->why = why_needed(v, dir, names->pdata[i]);
		if (inode->type == DT_DIR && inode->upper)
			g_queue_push_tail(dirs, inode);
		else
			un_inode_put(v->fs, inode);
	}
}

static void look_for_data(struct victim *v)
{
	GQueue dirs = G_QUEUE_INIT;
	struct un_inode *dir;

	if (!v->fs->upper || !v->fs->metacopy_follow)
		return;
	g_queue_push_tail(&dirs, un_inode_ref(v->fs->root));
	while ((dir = g_queue_pop_head(&dirs))) {
		if (!v->why)
			look_into(v, dir, &dirs);
		un_inode_put(v->fs, dir);
	}
}

/* A directory that was only there is removed, though its real one is not: nothing is in it any more. */
static void bury(struct un_fs *fs, uint64_t id)
{
	struct un_inode *inode = un_inode_get(fs, id);
	struct statx st;

	if (inode && inode->type == DT_DIR && un_getattr(fs, inode, &st) == 0) {
		un_ns_write(inode);
		un_inode_lock(inode);
		if (!inode->d->dead && !inode->names)
			un_dead_locked(inode, &st);
		un_inode_unlock(inode);
		if (inode->d->dead)
			inode->d->listing = un_listing_free(inode->d->listing);
		un_ns_unlock(inode);
	}
	un_inode_put(fs, inode);
}

static int take_out(struct victim *v, char **ret_err)
{
	struct un_fs *fs = v->fs;
	struct un_realdir **stack;
	unsigned n;

	look_for_data(v);
	if (!v->why)
		un_known_each(fs, look_at, v);
	if (v->why) {
		*ret_err = v->why;
		return -1;
	}
	if (stack_of(fs, v->l, &stack, &n, ret_err) < 0)
		return -1;
	un_log(LOG_INFO, "lowerdir: %s: removed", v->l->path);
	un_layers_remove_lower(fs->layers, v->l);
	restack(fs, stack, n);
	/* Once more: others have looked at it since; and a file without a name may have its data there. */
	v->late = true;
	un_known_each(fs, look_at, v);
	/* The kernel would keep the inodes until it wants the room, and with them the layer open. */
	for (unsigned i = 0; i < v->names->len; i++) {
		const struct gone *g = v->names->pdata[i];

		bury(fs, g->id);
		un_live_gone(fs, g->dir, g->name);
	}
	return 0;
}

/* Files of which only the attributes are copied up have all been made, and no more are, until it is over. */
static int take_out_alone(struct victim *v, char **ret_err)
{
	struct un_fs *fs = v->fs;
	int r;

	atomic_store(&fs->removing_lower, true);
	while (atomic_load(&fs->making_meta) > 0)
		g_usleep(1000);
	r = take_out(v, ret_err);
	atomic_store(&fs->removing_lower, false);
	return r;
}

int un_fs_remove_lower(struct un_fs *fs, const char *which, char **ret_err)
{
	struct victim v = { .fs = fs };
	int r = -1;

	un_mutex_lock(&fs->restacking);
	v.l = find(fs, which, ret_err);
	if (v.l) {
		v.names = g_ptr_array_new_with_free_func(g_free);
		r = take_out_alone(&v, ret_err);
		g_ptr_array_unref(v.names);
	}
	un_mutex_unlock(&fs->restacking);
	return r;
}

unsigned un_fs_lingering(const struct un_fs *fs)
{
	const struct un_layers *ls = fs->layers;
	unsigned n = 0;

	for (unsigned i = 1; i < atomic_load(&ls->used); i++)
		n += atomic_load(&ls->v[i].gone) && atomic_load(&ls->v[i].users) > 0;
	return n;
}
