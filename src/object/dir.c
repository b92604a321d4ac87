/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is at a name of a merged directory, as far as changing it needs to know, and its listing as a
 * whole.
 */
#include "object/dir.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/realdir.h"
#include "util/err.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

bool un_name_too_long(const char *name)
{
	return strlen(name) > NAME_MAX;
}

bool un_name_reserved(struct un_fs *fs, const char *name)
{
	return fs->upper && fs->upper->tar_names && g_str_has_prefix(name, ".wh.");
}

static int lower_positive(struct un_fs *fs, struct un_inode *dir, const char *name, bool *ret)
	UN_NS_READ
{
	struct un_merge_dir md;
	struct un_view v;
	int r;

	un_dir_merge(fs, dir, &v, &md);
	r = un_merge_lower_positive(&md, name, un_dir_upper(fs, dir) != NULL);
	if (r < 0)
		return r;
	*ret = r;
	return 0;
}

/*
 * A listing does not look into regular files, so one that nobody has looked up yet may turn out to be
 * an xattr whiteout.
 */
static bool trusted_entry(struct un_fs *fs, struct un_inode *dir, const struct un_entry *e)
	UN_NS_READ
{
	struct un_inode *known;

	if ((e->flags & UN_ENTRY_HIDDEN) || (e->type != DT_REG && e->type != DT_UNKNOWN))
		return true;
	known = un_name_find(fs, dir, e->name);
	un_inode_put(fs, known);
	return known != NULL;
}

int un_name_state(struct un_fs *fs, struct un_inode *dir, const char *name, bool want_lower,
		  struct un_state *ret)
{
	struct un_merge_dir md;
	struct un_view v;
	struct un_found f;
	bool has_upper = un_dir_upper(fs, dir) != NULL;
	int r;

	*ret = (struct un_state){ 0 };
	if (un_dir_listing(fs, dir)) {
		struct un_entry *e = un_listing_find(dir->d->listing, name);

		if (!e)
			return 0;
		if (!trusted_entry(fs, dir, e))
			goto ask;
		ret->whiteout = e->flags & UN_ENTRY_WHITEOUT;
		ret->lower = e->flags & UN_ENTRY_LOWER;
		ret->exists = !(e->flags & UN_ENTRY_HIDDEN);
		ret->in_upper = ret->exists && has_upper && e->pos == 0;
		ret->type = e->type;
		return 0;
	}
ask:
	un_dir_merge(fs, dir, &v, &md);
	r = un_merge_lookup(&md, name, 0, true, &f);
	if (r < 0)
		return r == -ENODATA ? -EIO : r;
	ret->whiteout = f.upper_whiteout;
	ret->exists = f.n > 0;
	if (f.n > 0) {
		ret->in_upper = has_upper && f.hits[0].pos == 0;
		ret->type = IFTODT(f.hits[0].st.stx_mode);
	}
	un_found_done(&f);
	if (ret->exists && !ret->in_upper)
		ret->lower = true;
	else if (want_lower)
		return lower_positive(fs, dir, name, &ret->lower);
	return 0;
}

void un_dir_note(struct un_fs *fs, struct un_inode *dir, const char *name,
		 const struct un_state *now, uint64_t ino)
{
	uint8_t flags = now->lower ? UN_ENTRY_LOWER : 0;

	atomic_store(&dir->d->accessed, 0);
	atomic_store(&dir->told, false);
	if (!dir->d->listing)
		return;
	if (now->exists)
		un_listing_put(dir->d->listing, name, 0, now->type, flags, ino);
	else if (now->whiteout)
		un_listing_put(dir->d->listing, name, 0, DT_CHR,
			       flags | UN_ENTRY_WHITEOUT | UN_ENTRY_HIDDEN, 0);
	else
		un_listing_remove(dir->d->listing, name);
}

const struct un_listing *un_dir_listing(struct un_fs *fs, struct un_inode *dir)
{
	if (fs->revalidate || !dir->d->listing || dir->d->listing_stamp != un_live_stamp(fs, dir))
		return NULL;
	return dir->d->listing;
}

static void install_locked(struct un_inode *dir, struct un_listing *l, unsigned stamp,
			   bool access) UN_NS_WRITE
{
	un_listing_free(dir->d->listing);
	dir->d->listing = l;
	dir->d->listing_stamp = stamp;
	if (access)
		atomic_store(&dir->d->accessed, un_monotonic_seconds());
}

static int list_locked(struct un_fs *fs, struct un_inode *dir, bool access) UN_NS_WRITE
{
	struct un_merge_dir md;
	struct un_view v;
	struct un_listing *l;
	int r;

	unsigned stamp = un_live_look(fs, dir);

	un_dir_merge(fs, dir, &v, &md);
	md.access = access && !fs->read_only;
	r = un_merge_list(&md, dir->d->listing, &l);
	if (r == 0)
		install_locked(dir, l, stamp, access);
	return r;
}

int un_dir_list_locked(struct un_fs *fs, struct un_inode *dir)
{
	un_ignore((int)un_live_look(fs, dir));
	return un_dir_listing(fs, dir) ? 0 : list_locked(fs, dir, false);
}

/* Names have changed while it was read. */
#define CHANGED 1
/* So often it is read with ns let go, before it is read with it. */
#define TRIES_APART 3

/* The positions in an older listing go on being good, so that must not change; where there is none nobody has to wait. */
static int read_layers(struct un_inode *dir, struct un_merge_dir *md,
		       struct un_listing **ret) UN_NS_READ
{
	int r;

	if (dir->d->listing)
		return un_merge_list(md, dir->d->listing, ret);
	un_ns_unlock(dir);
	r = un_merge_list(md, NULL, ret);
	un_ns_read(dir);
	return r;
}

static int list_apart(struct un_fs *fs, struct un_inode *dir, bool access, bool again)
{
	struct un_listing *l = NULL;
	struct un_merge_dir md;
	struct un_view v;
	unsigned stamp;
	bool same;
	int r;

	un_ns_read(dir);
	stamp = un_live_look(fs, dir);
	if (dir->d->dead || (un_dir_listing(fs, dir) && !again)) {
		un_ns_unlock(dir);
		return 0;
	}
	un_dir_merge_apart(fs, dir, &v, &md);
	md.access = access && !fs->read_only;
	r = read_layers(dir, &md, &l);
	un_ns_unlock(dir);

	un_ns_write(dir);
	same = un_view_done(fs, &v, true);
	if (same && r == 0)
		install_locked(dir, g_steal_pointer(&l), stamp, access);
	un_ns_unlock(dir);
	un_listing_free(l);
	return same ? r : CHANGED;
}

int un_dir_list(struct un_fs *fs, struct un_inode *dir, bool access, bool again)
{
	int r = CHANGED;

	for (int i = 0; r == CHANGED && i < TRIES_APART; i++)
		r = list_apart(fs, dir, access, again);
	if (r != CHANGED)
		return r;
	un_ns_write(dir);
	r = dir->d->dead || (un_dir_listing(fs, dir) && !again) ? 0 : list_locked(fs, dir, access);
	un_ns_unlock(dir);
	return r;
}
