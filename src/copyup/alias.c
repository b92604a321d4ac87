/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of indexed files that are not in the upper yet. While the union is mounted the index leads from
 * them to the changed file. Whoever reads the upper without the index, as a lower of another mount or by
 * hand, would find the old file under them; so each name that somebody has seen gets an entry of its own
 * in the upper: at copy-up if they are few, else within about a second, at the latest when the mount ends.
 */
#include "copyup/alias.h"
#include "copyup/copyup-path.h"
#include "layer/setup.h"
#include "object/attr.h"
#include "object/dir.h"
#include "object/index.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/pending.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

/* So many aliases are made before the call that copied the file up is answered. */
#define AT_ONCE 8u
/* Microseconds at a time: other work waits for the helper thread, too. */
#define SLICE 20000
#define END_MAX (10 * G_USEC_PER_SEC)

static bool is_published(struct un_inode *inode)
{
	bool yes;

	un_inode_lock(inode);
	yes = inode->ix && inode->ix->published && !inode->unlinked;
	un_inode_unlock(inode);
	return yes;
}

/* Is the file in the index, and its name (dir, name) in a lower only? 1, 0, or -errno. */
static int wants_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		       const char *name)
{
	struct un_state state;
	int r;

	if (!is_published(inode))
		return 0;
	if (!dir->upper)
		return 1;
	un_ns_read(dir);
	r = un_name_state(fs, dir, name, false, &state);
	un_ns_unlock(dir);
	return r < 0 ? r : state.exists && !state.in_upper;
}

struct ancestor {
	struct un_inode *dir; /* a reference */
	bool shown;           /* its attributes could not be asked for */
};

/*
 * The directory is in the upper afterwards, and its ancestors; nobody asked for that, so their times of
 * change are shown as before (tar would take them for changed while it reads).
 */
static int prepare_quietly(struct un_fs *fs, struct un_inode *dir)
{
	g_autoptr(GArray) a = g_array_new(FALSE, FALSE, sizeof(struct ancestor));
	struct un_inode *at = un_inode_ref(dir);
	struct statx before, after;
	int r = 0;

	while (at && !at->upper && r == 0) {
		struct ancestor one = { .dir = at };
		char name[NAME_MAX + 1];

		r = un_getattr(fs, at, &before);
		if (r == 0)
			un_attr_hide_begin(at, &before);
		else
			one.shown = true;
		g_array_append_val(a, one);
		if (!un_name_any(one.dir, &at, name))
			at = NULL;
	}
	un_inode_put(fs, at);
	if (r == 0)
		r = un_dir_prepare(fs, dir, false);
	for (unsigned i = 0; i < a->len; i++) {
		struct ancestor *one = &g_array_index(a, struct ancestor, i);

		const bool hide = !one->shown && one->dir->upper &&
				  un_getattr_real(fs, one->dir, &after) == 0;

		if (!one->shown)
			un_attr_hide_end(one->dir, hide ? &after : NULL);
		if (hide && fs->stale)
			fs->stale(fs->stale_data, one->dir->id, UN_STALE_ATTRS);
		un_inode_put(fs, one->dir);
	}
	return r;
}

/* Make the alias, if it is still wanted. 0: nothing is left to be done for the name; or -errno. */
static int do_one(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	struct un_inode *inode;
	int r = un_lookup(fs, dir, name, &inode, NULL);

	if (r < 0)
		return r == -ENOENT || r == -ESTALE || r == -ENOTDIR ? 0 : r;
	r = wants_alias(fs, inode, dir, name);
	if (r > 0) {
		r = prepare_quietly(fs, dir);
		if (r == 0)
			r = un_alias(fs, inode, dir, name, true);
	}
	un_inode_put(fs, inode);
	/* Removed meanwhile, moved, or taken. */
	return r == -EAGAIN || r == -ENOENT || r == -ESTALE ? 0 : r;
}

void un_alias_known(struct un_fs *fs, struct un_inode *inode, bool now)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new();
	bool all = fs->indexdir && is_published(inode);

	un_inode_lock(inode);
	for (struct un_name *n = all ? inode->names : NULL; n; n = n->next) {
		size_t len = strlen(n->name) + 1;
		struct un_pending *p = n->gone ? NULL : g_malloc0(sizeof(*p) + len);

		if (!p)
			continue;
		p->dir = un_inode_ref(n->dir);
		memcpy(p->name, n->name, len);
		g_ptr_array_add(names, p);
	}
	un_inode_unlock(inode);
	for (unsigned i = 0; i < names->len; i++) {
		struct un_pending *p = names->pdata[i];

		if (!now || i >= AT_ONCE || do_one(fs, p->dir, p->name) < 0)
			un_alias_later(fs, p->dir, p->name);
		un_pending_free(fs, p);
	}
}

/* Work on until none is left, or the time is over (true). *ret_failed: how many were refused. */
static bool work_off(struct un_fs *fs, bool stuck, gint64 limit, unsigned *ret_failed)
{
	gint64 end = g_get_monotonic_time() + limit;
	g_autoptr(GPtrArray) failed = g_ptr_array_new();
	struct un_pending *p = NULL;
	bool more = false;

	while (!more && (p = un_pending_take(fs, stuck))) {
		int r = do_one(fs, p->dir, p->name);

		if (r < 0)
			un_debug("alias %s: %s", p->name, g_strerror(-r));
		if (r < 0 && r != -EMLINK)
			g_ptr_array_add(failed, p);
		else
			un_pending_free(fs, p);
		more = g_get_monotonic_time() > end;
	}
	for (unsigned i = 0; i < failed->len; i++) {
		p = failed->pdata[i];
		p->stuck = true;
		un_ignore(un_pending_add(fs, p));
	}
	*ret_failed = failed->len;
	return more;
}

bool un_alias_idle(struct un_fs *fs)
{
	unsigned failed;

	return work_off(fs, false, SLICE, &failed);
}

void un_fs_settle(struct un_fs *fs)
{
	unsigned failed;

	if (un_pending_count(fs) == 0 || fs->read_only)
		return;
	/*
	 * Another mount that has taken the upper over would not know of the change; it makes
	 * aliases itself.
	 */
	if (!un_layers_alone(fs->layers, true))
		return;
	if (work_off(fs, true, END_MAX, &failed) || failed > 0)
		un_log(LOG_WARNING, "some names of changed hard links have no entry in upperdir: "
				    "without its index they show the old file");
	un_layers_alone(fs->layers, false);
}
