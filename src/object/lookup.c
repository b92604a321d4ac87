/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a name in a merged directory to its inode. A name that is known is answered from the table; a
 * directory with a complete listing says at once that a name is missing, or in which layer it is.
 */
#include "object/lookup.h"
#include "ask_i.h"

#include "layer/layer.h"
#include "layer/marks.h"
#include "merge/merge.h"
#include "object/attr.h"
#include "object/data.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/found.h"
#include "object/index.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/pending.h"
#include "object/place.h"
#include "object/realdir.h"
#include "object/same.h"
#include "object/say.h"
#include "object/stack.h"
#include "util/err.h"

#include <errno.h>

/*
 * A directory without a listing is asked layer by layer; after this many questions the whole of it
 * is read, which costs about as much as the questions did.
 */
#define ASKED_ENOUGH 48

/* By another name, or after a change of its directory: others may have changed it meanwhile. */
static void found_again(struct un_inode *inode)
{
	atomic_store(&inode->changed, true);
}

/* One more name of an upper file that is known already; NULL if it is not. */
static struct un_inode *known_upper_file(struct un_fs *fs, const struct un_found *f,
					 const char *name)
{
	const struct un_hit *h = &f->hits[0];
	struct un_inode *inode = un_key_find(fs, un_stx_dev(&h->st), h->st.stx_ino);

	if (inode && (inode->type != IFTODT(h->st.stx_mode) || !un_is_as_old(inode, &h->st))) {
		/* Its number was given to something else behind our back. */
		un_key_drop(fs, inode);
		un_inode_put(fs, inode);
		inode = NULL;
	}
	if (inode) {
		found_again(inode);
		un_data_found(fs, inode, f, name);
	}
	return inode;
}

/* @inode is new: into the tables with it, or take the one somebody else put there meanwhile. */
static struct un_inode *enter_tables(struct un_fs *fs, struct un_inode *inode)
{
	struct un_inode *other = NULL;

	if (inode->type == DT_DIR)
		return inode;
	if (inode->upper)
		other = un_key_claim(fs, inode);
	if (!other && inode->ix && inode->ix->ino)
		other = un_links_claim(fs, inode);
	if (other) {
		un_inode_put(fs, inode);
		inode = other;
	}
	return inode;
}

/* The inode of an upper file in the index, as a lower name of it leads there. */
static int inode_in_index(struct un_fs *fs, const char *name, struct un_found *f,
			  struct un_index *ix, const struct statx *st, struct un_inode **ret)
{
	struct un_inode *inode = un_key_find(fs, un_stx_dev(st), st->stx_ino);
	struct un_found here = *f;
	int meta;

	un_index_is_ours(ix);
	if (inode && un_index_has(inode)) {
		found_again(inode);
		un_index_resolve(fs, inode, ix->lower_nlink);
		g_free(ix);
		*ret = inode;
		return 0;
	}
	un_inode_put(fs, inode);
	meta = un_index_is_metacopy(fs, ix);
	if (meta > 0 && !fs->metacopy_follow) {
		f->refused = fs->upper;
		f->refused_mark = UN_MARK_METACOPY;
		meta = -EPERM;
	}
	if (meta < 0) {
		g_free(ix);
		return meta;
	}
	inode = un_inode_new(fs, IFTODT(st->stx_mode));
	un_inode_is_ours(inode);
	inode->upper = true;
	un_found_prot(inode, st);
	inode->dev = un_stx_dev(st);
	inode->rino = st->stx_ino;
	inode->maybe_setid = st->stx_mode & (S_ISUID | S_ISGID);
	inode->ino = un_ino_natural(fs, ix->dev, ix->ino, 0);
	un_index_attach(fs, inode, ix, st);
	/* Its data, if it has none: that of the lower file which led here. */
	if (meta) {
		if (!here.metacopy) {
			here.metacopy = true;
			here.data = &here.hits[0];
		}
		here.redirect = NULL;
		inode->data = un_data_new(&here, name);
		inode->data->redirect = un_index_redirect(fs, ix);
		inode->metacopy = true;
	}
	*ret = enter_tables(fs, inode);
	return 0;
}

/*
 * A lower file with several names. 1: *ret is the inode that stands for all of them; 0: there is
 * none yet, *ret_ix makes a new inode that one (NULL: it cannot); or -errno.
 */
static int find_linked(struct un_fs *fs, const char *name, struct un_found *f,
		       struct un_inode **ret, struct un_index **ret_ix)
{
	const struct un_hit *top = &f->hits[0];
	struct un_index *ix;
	struct un_fd *fd;
	struct statx st;
	int r;

	*ret_ix = NULL;
	*ret = un_links_find(fs, un_stx_dev(&top->st), top->st.stx_ino);
	if (*ret && (*ret)->type == IFTODT(top->st.stx_mode)) {
		found_again(*ret);
		un_index_resolve(fs, *ret, top->st.stx_nlink);
		return 1;
	}
	un_inode_put(fs, *ret);
	r = un_realdir_open(fs, top->dir, &fd);
	if (r < 0)
		return r;
	r = un_index_new(fs, UN_AT(top->layer, fd->fd, top->name ? top->name : name), &top->st,
			 &ix);
	un_fdcache_put(fs->fds, fd);
	if (r < 0 || !ix)
		return r;
	r = un_index_look(fs, ix, &top->st, &st);
	if (r > 0) {
		r = inode_in_index(fs, name, f, ix, &st, ret);
		return r < 0 ? r : 1;
	}
	if (r < 0)
		g_free(ix);
	else
		*ret_ix = ix;
	return r;
}

static int inode_from_found(struct un_fs *fs, struct un_inode *dir, const char *name,
			    struct un_found *f, struct un_inode **ret)
{
	const struct un_hit *top = &f->hits[0];
	struct un_inode *inode = NULL;
	struct un_index *ix;
	unsigned seq;
	int r;
again:
	ix = NULL;
	r = 0;
	seq = atomic_load(&fs->index_seq);
	if (top->layer == fs->upper && !S_ISDIR(top->st.stx_mode))
		inode = known_upper_file(fs, f, name);
	if (inode) {
		*ret = inode;
		return 0;
	}
	if (un_found_is_trap(fs, f))
		return -ELOOP;
	if (un_index_wanted(fs, top->layer, &top->st))
		r = find_linked(fs, name, f, ret, &ix);
	if (r != 0)
		return r < 0 ? r : 0;
	r = un_found_inode(fs, dir, name, f, &inode);
	if (r < 0) {
		g_free(ix);
		return r;
	}
	if (ix) {
		inode->ix = ix;
		ix->inode = inode;
	}
	*ret = enter_tables(fs, inode);
	/* Copied up, and forgotten again, between the look into the index and now? */
	if (ix && *ret == inode && atomic_load(&fs->index_seq) != seq) {
		un_inode_put(fs, inode);
		inode = NULL;
		goto again;
	}
	return 0;
}

/*
 * timeout=0, and a lower file whose number tells nothing: another may mean another file, which what is
 * open would not lead to.
 */
static void seen_again(struct un_fs *fs, struct un_inode *inode, const struct un_hit *h)
{
	if (inode->type != DT_REG || un_layer_numbers_last(h->layer, false))
		return;
	un_inode_lock(inode);
	if (!inode->upper && inode->seen_ino != h->real_ino) {
		un_fdcache_clear(fs->fds, &inode->io);
		inode->seen_ino = h->real_ino;
	}
	un_inode_unlock(inode);
}

/*
 * That is where it is; others may have moved it, or a directory on the way to where it was. An upper file that
 * is in the index stays there.
 */
static void place(struct un_fs *fs, struct un_inode *dir, const char *name,
		  const struct un_found *f, struct un_inode *inode) UN_NS_READ
{
	if (inode->type == DT_DIR)
		un_stack_found(fs, name, f, inode);
	else if (!inode->upper)
		un_place_seen(fs, inode, f->hits[0].dir, name);
	else
		un_place_named(fs, inode, un_dir_upper(fs, dir), name);
}

static int publish(struct un_fs *fs, struct un_inode *dir, const char *name,
		   const struct un_found *f, unsigned stamp, struct un_inode **inode) UN_NS_READ
{
	struct un_inode *other, *again;
	unsigned seen;

	/* A hard link found again under a name it has. */
	other = un_name_find(fs, dir, name);
	if (other == *inode) {
		un_name_confirm(fs, other, dir, name, stamp);
		un_inode_put(fs, other);
		return 0;
	}
	un_inode_put(fs, other);
	if ((*inode)->type != DT_DIR)
		place(fs, dir, name, f, *inode);
	other = un_name_add(fs, *inode, dir, name, false, stamp);
	if (!other)
		return 0;
	un_inode_put(fs, *inode);
	*inode = other;
	/* Somebody was faster, but looked earlier: then it is looked for again. */
	again = un_name_find_at(fs, dir, name, &seen);
	un_inode_put(fs, again);
	if (again != other || seen == stamp)
		return 0;
	un_inode_put(fs, other);
	*inode = NULL;
	return -ESTALE;
}

/* A name of a file in the index was found: it is counted, and if @below it gets its own entry. */
static void indexed_name(struct un_fs *fs, struct un_inode *dir, const char *name,
			 struct un_inode *inode, bool below)
{
	if (!inode->ix || !inode->upper)
		return;
	un_index_named(fs, inode);
	if (below)
		un_alias_later(fs, dir, name);
}

/* The attributes of what was found just now, if nobody but us has @inode: then they are still true. */
static bool attrs_told(struct un_fs *fs, struct un_inode *inode, const struct un_found *f,
		       struct statx *st)
{
	const struct statx *top = &f->hits[0].st;
	bool ok;

	un_inode_lock(inode);
	ok = atomic_load(&inode->refs) == 1 && inode->upper == (f->hits[0].layer == fs->upper) &&
	     un_stx_dev(top) == inode->dev && top->stx_ino == inode->rino;
	if (ok) {
		*st = *top;
		un_attr_adjust(fs, inode, st);
	}
	un_inode_unlock(inode);
	return ok;
}

/* Once: who asks finds it out. */
static bool is_doubted(struct un_inode *inode)
{
	return atomic_load(&inode->doubted) && atomic_exchange(&inode->doubted, false);
}

/* Others have given it a second name: from now on it is one of those that an index keeps together. */
static bool joins_index(struct un_fs *fs, const struct un_inode *inode, const struct un_found *f)
{
	return !inode->upper && !inode->ix && un_index_wanted(fs, f->hits[0].layer, &f->hits[0].st);
}

#define STALE_TRIES 3

/* What is known is not it any more: that goes, and another comes, or none. @r: what the layers said. */
static int take_other(struct un_fs *fs, struct un_inode *dir, const char *name,
		      struct un_inode *known, struct un_found *f, unsigned stamp, int r, bool told,
		      struct un_inode **ret) UN_NS_READ
{
	/* Only proof takes the name away, not a question that failed. */
	if (known && (r == 0 || r == -ENOENT)) {
		un_name_drop(fs, known, dir, name);
		/* If the answer goes to the kernel, it sees by itself that the name leads elsewhere. */
		if (!told)
			un_live_gone(fs, dir->id, name);
	}
	if (r == 0)
		r = inode_from_found(fs, dir, name, f, ret);
	if (r == 0)
		r = publish(fs, dir, name, f, stamp, ret);
	if (r == 0)
		indexed_name(fs, dir, name, *ret, f->hits[0].layer != fs->upper);
	return r;
}

/* What the layers have under the name; *ret_told: @st is filled in. Of @f all is given back. */
static int ask_once(struct un_fs *fs, struct un_inode *dir, const char *name,
		    struct un_inode *known, bool doubted, bool apart, unsigned stamp,
		    struct un_inode **ret, struct statx *st, bool *ret_told) UN_NS_READ
{
	unsigned since = atomic_load(&fs->live_seq);
	struct un_found f = { .n = 0 };
	struct un_question q;
	int r = un_ask_layers(fs, dir, name, doubted, apart, &q, &f);
	bool asked = r == 0;

	if (r == -ENODATA) {
		un_say_no_data(fs, dir, name);
		r = -EIO;
	}
	if (r == 0 && f.n == 0)
		r = -ENOENT;
	if (r == 0 && known && un_is_still(fs, known, &f) && !joins_index(fs, known, &f)) {
		*ret = un_inode_ref(known);
		seen_again(fs, known, &f.hits[0]);
		un_data_found(fs, known, &f, name);
		place(fs, dir, name, &f, known);
		found_again(known);
		un_name_confirm(fs, known, dir, name, stamp);
	} else if (r == 0 && known && un_stack_is_akin(fs, known, &f)) {
		r = -ERESTART;
	} else {
		r = take_other(fs, dir, name, known, &f, stamp, r, st != NULL, ret);
		*ret_told = r == 0 && st && attrs_told(fs, *ret, &f, st);
	}
	if (r == 0)
		un_live_led(fs, dir, *ret, &f, since);
	if (r == -EPERM && f.refused)
		un_say_refused(fs, dir, name, f.refused, f.refused_mark);
	if (asked)
		un_found_done(&f);
	return r;
}

static int lookup_once(struct un_fs *fs, struct un_inode *dir, const char *name, bool apart,
		       struct un_inode **ret, struct statx *st) UN_NS_READ
{
	struct un_inode *inode = NULL, *known = NULL;
	bool doubted, told = false;
	unsigned stamp, seen = 0;
	int r = 0;

	if (dir->d->dead)
		return -ENOENT;
	stamp = un_live_look(fs, dir);
	known = un_name_find_at(fs, dir, name, &seen);
	doubted = known && is_doubted(known);
	if (known && !fs->revalidate && seen == stamp && !doubted) {
		inode = known;
	} else {
		r = ask_once(fs, dir, name, known, doubted, apart, stamp, &inode, st, &told);
		if (r < 0 && r != -ENOENT && known && (seen == stamp || doubted))
			atomic_store(&known->doubted, true);
		un_inode_put(fs, known);
	}
	if (r < 0)
		return r;
	un_live_found(fs, dir, inode);
	if (st && !told) {
		r = un_getattr(fs, inode, st);
		if (r < 0) {
			un_inode_put(fs, inode);
			return r;
		}
	}
	*ret = inode;
	return 0;
}

static int lookup_locked(struct un_fs *fs, struct un_inode *dir, const char *name, bool apart,
			 struct un_inode **ret, struct statx *st) UN_NS_READ
{
	int r;

	/* What was found is not there any more, by the hand of others: it is looked for again. */
	for (int tries = 0;; tries++) {
		r = lookup_once(fs, dir, name, apart, ret, st);
		if (r != -ESTALE || !fs->live || tries == STALE_TRIES)
			return r;
		atomic_fetch_add(&dir->d->changed, 1);
	}
}

int un_lookup_locked(struct un_fs *fs, struct un_inode *dir, const char *name,
		     struct un_inode **ret, struct statx *st)
{
	return lookup_locked(fs, dir, name, false, ret, st);
}

/* So often the layers are asked with ns let go, before they are asked with it: names may change all the time. */
#define TRIES_APART 3

static int lookup_apart(struct un_fs *fs, struct un_inode *dir, const char *name,
			struct un_inode **ret, struct statx *st) UN_NS_READ
{
	for (int i = 0; i < TRIES_APART; i++) {
		int r = lookup_locked(fs, dir, name, true, ret, st);

		if (r != UN_ASK_CHANGED)
			return r;
	}
	return lookup_locked(fs, dir, name, false, ret, st);
}

/* The listing tells whether a directory merges. */
static void note_more(struct un_fs *fs, struct un_inode *dir, const char *name,
		      bool more) UN_NS_WRITE
{
	struct un_entry *e =
		un_dir_listing(fs, dir) ? un_listing_find(dir->d->listing, name) : NULL;

	if (e && more)
		e->flags |= UN_ENTRY_MORE;
}

static void change_known_locked(struct un_fs *fs, struct un_inode *dir, const char *name,
				struct un_inode *known) UN_NS_WRITE
{
	struct un_inode *now = un_name_find(fs, dir, name);
	struct un_found f = { .n = 0 };
	struct un_question q;
	unsigned stamp, since = atomic_load(&fs->live_seq);

	un_inode_put(fs, now);
	if (now != known || dir->d->dead)
		return;
	stamp = un_live_look(fs, dir);
	if (un_ask_layers(fs, dir, name, true, false, &q, &f) < 0)
		return;
	if (f.n > 0 && !un_found_is_trap(fs, &f) && !un_is_still(fs, known, &f) &&
	    un_stack_is_akin(fs, known, &f)) {
		un_stack_change(fs, dir, name, &f, known);
		note_more(fs, dir, name, f.n > 1);
		un_name_confirm(fs, known, dir, name, stamp);
		atomic_store(&known->doubted, false);
		un_live_led(fs, dir, known, &f, since);
	}
	un_found_done(&f);
}

/* Others changed what the directory @name is made of: so it is, for all who have it. No lock is held. */
static void change_known(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	struct un_inode *known = un_name_find(fs, dir, name);
	struct un_ns_set set;

	if (known && known->type == DT_DIR) {
		un_ns_write_set(&set, dir, known, NULL);
		change_known_locked(fs, dir, name, known);
		un_ns_unlock_set(&set);
	}
	un_inode_put(fs, known);
}

/*
 * Somebody asks for the names of a very long directory one by one. The kernel takes them from the listing it keeps, in
 * which most had no attributes: so it is to ask for the rest once more, and gets those with it (un_readdir()).
 */
static bool wants_other_listing(struct un_inode *dir) UN_NS_READ
{
	if (!dir->d->listing || un_listing_shown(dir->d->listing) <= UN_ATTRS_FIRST)
		return false;
	return atomic_fetch_add(&dir->d->looked_up, 1) + 1 >= UN_ATTRS_WANTED &&
	       atomic_exchange(&dir->d->bare, false);
}

/* -EAGAIN: the name is not known, or in doubt. No lock is held, and no directory is looked into. */
static int lookup_known(struct un_fs *fs, struct un_inode *dir, const char *name,
			struct un_inode **ret, struct statx *st)
{
	unsigned seen = 0, stamp = un_live_stamp(fs, dir);
	struct un_inode *known = NULL;
	int r = -EAGAIN;

	if (!fs->revalidate && !un_live_wants_look(fs, dir))
		known = un_name_find_at(fs, dir, name, &seen);
	if (known && seen == stamp && !atomic_load(&known->doubted)) {
		un_live_found(fs, dir, known);
		r = st ? un_getattr(fs, known, st) : 0;
	}
	if (r < 0)
		un_inode_put(fs, known);
	else
		*ret = known;
	return r;
}

/* A name of a directory of which so many were asked for that it is time to read all of it. */
static void list_at_last(struct un_fs *fs, struct un_inode *dir)
{
	/* One does; others ask on meanwhile. A directory that cannot be read can be searched all the same. */
	if (atomic_exchange(&dir->d->asked, 0) > ASKED_ENOUGH)
		un_ignore(un_dir_list(fs, dir, false, false));
}

int un_lookup(struct un_fs *fs, struct un_inode *dir, const char *name, struct un_inode **ret,
	      struct statx *st)
{
	bool drop;
	int r;

	if (un_name_too_long(name))
		return -ENAMETOOLONG;
	if (dir->type != DT_DIR)
		return -ENOTDIR;
	if (atomic_load(&dir->d->asked) > ASKED_ENOUGH && !fs->revalidate)
		list_at_last(fs, dir);
	if (!un_ns_try_read(dir)) {
		/* Somebody changes names in it, which may take long; of this one nothing has to be asked. */
		r = lookup_known(fs, dir, name, ret, st);
		if (r != -EAGAIN)
			return r;
		un_ns_read(dir);
	}
	for (int tries = 0;; tries++) {
		r = lookup_apart(fs, dir, name, ret, st);
		if (r != -ERESTART || tries == STALE_TRIES)
			break;
		un_ns_unlock(dir);
		change_known(fs, dir, name);
		un_ns_read(dir);
	}
	if (r == -ERESTART)
		r = -ESTALE;
	drop = r == 0 && wants_other_listing(dir);
	un_ns_unlock(dir);
	if (drop && fs->stale)
		fs->stale(fs->stale_data, dir->id, UN_STALE_LISTING);
	return r;
}

int un_lookup_data(struct un_fs *fs, struct un_inode *inode)
{
	struct un_inode *dir, *found;
	char name[NAME_MAX + 1];
	int r;

	if (!atomic_load(&inode->metacopy) || !atomic_load(&inode->doubted) ||
	    !un_name_any(inode, &dir, name))
		return 0;
	r = un_lookup(fs, dir, name, &found, NULL);
	un_inode_put(fs, dir);
	if (r == 0)
		un_inode_put(fs, found);
	return r == -EIO ? r : 0;
}
