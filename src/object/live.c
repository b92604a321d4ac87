/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers that others change while they are mounted. The real directories of each merged directory that is
 * looked into are watched; what happens in one of them puts what is known of the merged directory in doubt
 * (un_live_stamp()), and whoever asks next asks the layers. Which layer it was does not matter. Then the kernel
 * is told, by another thread.
 *
 * A directory is watched first and looked at afterwards, so that nothing falls between. Where it cannot be
 * watched, what is known of it is in doubt from one second to the next.
 *
 * Nothing here takes a lock of the union while it hands an event on, so no directory that is slow holds up the
 * news of another.
 */
#include "object/live.h"
#include "live_i.h"

#include "layer/layer.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/changes.h"
#include "object/fdcache.h"
#include "object/follow.h"
#include "object/inode.h"
#include "object/known.h"
#include "object/later.h"
#include "object/object.h"
#include "object/realdir.h"
#include "object/tell.h"
#include "util/err.h"
#include "util/log.h"
#include "watch/watch.h"

#include <errno.h>
#include <limits.h>

/* Seconds. */
#define TRY_AGAIN 10
#define IN_USE 2

/*
 * Others changed the object that is known under the name: what was remembered of it is asked again. If only the name
 * has gone, or leads elsewhere, who has the object open goes on with what the kernel has of it; but the other names of
 * a hard link show a link less.
 */
static void child_changed(struct un_fs *fs, struct un_inode *dir, const struct un_watch_event *e)
{
	struct un_inode *inode = un_name_find(fs, dir, e->name);

	if (!inode)
		return;
	/* It may be made of other directories from now on, by what came or went under its name, or by a mark. */
	if (inode->d && (e->what & (UN_WATCH_NAME | UN_WATCH_ATTR)))
		un_tell_doubt(fs, inode);
	/* Not under its lock, which somebody may hold for long (un_live_settle_locked()). */
	atomic_store(&inode->changed, true);
	inode->maybe_setid = true;
	/* It may be its data below that was changed, or replaced. */
	if (atomic_load(&inode->metacopy))
		un_tell_doubt(fs, inode);
	else if (e->what & UN_WATCH_DATA)
		un_tell(fs, UN_CHANGE_DATA, inode->id, NULL);
	else if ((e->what & UN_WATCH_ATTR) || atomic_load(&inode->n_names) > 1)
		un_tell(fs, UN_CHANGE_ATTRS, inode->id, NULL);
	un_inode_put(fs, inode);
}

static void dir_changed(struct un_fs *fs, struct un_inode *dir, const struct un_watch_event *e)
{
	/* An object's own change may change what its name means: a mark makes a whiteout, or an opaque directory. */
	if (e->what & (UN_WATCH_NAME | UN_WATCH_ATTR | UN_WATCH_GONE))
		atomic_fetch_add(&dir->d->changed, 1);
	if (!e->name) {
		/* The watch has gone with it, and another directory may come to have its number. */
		if (e->what & UN_WATCH_GONE)
			un_live_moved(fs, dir);
		/* Told with the directory's own name, and not with its name in the one above. */
		un_tell_doubt(fs, dir);
		return;
	}
	child_changed(fs, dir, e);
	if (e->what & (UN_WATCH_NAME | UN_WATCH_ATTR))
		un_tell(fs, UN_CHANGE_NAME, dir->id, e->name);
}

void un_live_all_changed(struct un_fs *fs)
{
	atomic_fetch_add(&fs->all_changed, 1);
	atomic_fetch_add(&fs->stacks, 1);
	un_tell(fs, UN_CHANGE_ALL, 0, NULL);
}

void un_live_gone(struct un_fs *fs, uint64_t dir, const char *name)
{
	un_tell(fs, UN_CHANGE_GONE, dir, name);
}

/*
 * Somebody has written to a file that the kernel lets its users write by themselves (passthrough): it looks as if
 * others had. The kernel knows of each of their writes, and is told once that others' may be among them: until all
 * have closed it, it is to keep nothing of what it is told (un_pass_is_unheard()).
 */
static bool is_passed(struct un_fs *fs, const struct un_watch_event *e)
{
	struct un_inode *dir, *inode;
	bool passed;

	if (e->what != UN_WATCH_DATA || !e->name || atomic_load(&fs->pass_writers) == 0 ||
	    e->key == UN_FOLLOWED)
		return false;
	dir = un_inode_get(fs, e->key);
	inode = dir ? un_name_find(fs, dir, e->name) : NULL;
	passed = inode && atomic_load(&inode->pass_writers) > 0;
	if (passed && !atomic_exchange(&inode->pass_missed, true))
		un_tell(fs, UN_CHANGE_ATTRS, inode->id, NULL);
	un_inode_put(fs, inode);
	un_inode_put(fs, dir);
	return passed;
}

static void on_event(void *data, const struct un_watch_event *e)
{
	struct un_fs *fs = data;
	struct un_inode *dir;

	if (is_passed(fs, e))
		return;
	/* Also what is told to nobody: of who is being looked for by way of it (un_follow_found()). */
	atomic_fetch_add(&fs->live_seq, 1);
	un_follow_changed(fs, e);
	if (e->key == UN_FOLLOWED)
		return;
	if (e->what & UN_WATCH_LOST)
		un_log(LOG_WARNING,
		       "too many changes of layers at once: everything is asked again");
	if (e->what & UN_WATCH_LOST)
		un_live_lost(fs);
	if (e->what & (UN_WATCH_LOST | UN_WATCH_SOME)) {
		un_live_all_changed(fs);
		return;
	}
	dir = un_inode_get(fs, e->key);
	if (!dir)
		return;
	if (dir->d)
		dir_changed(fs, dir, e);
	un_inode_put(fs, dir);
}

struct unwatching {
	struct un_realdir *rd; /* a reference */
	uint64_t id;
};

static void unwatch(struct un_fs *fs, void *data)
{
	struct unwatching *u = data;

	un_live_unwatch(fs, u->id, u->rd);
	un_realdir_put(fs, u->rd);
	g_free(u);
}

static void unwatch_later(struct un_fs *fs, uint64_t id, struct un_realdir *rd)
{
	struct unwatching *u = g_new(struct unwatching, 1);

	*u = (struct unwatching){ .rd = un_realdir_ref(rd), .id = id };
	un_later(fs, unwatch, u);
}

/* Nobody waits for it, least of all who tells of an event. */
static void unwatch_dead(struct un_fs *fs, uint64_t id, struct un_realdir *rd)
{
	/* A file system far away is asked even if it is open, by fstatfs(2). */
	struct un_fd *fd = rd->layer->remote ? NULL : un_realdir_get(fs, rd);

	if (!fd) {
		unwatch_later(fs, id, rd);
		return;
	}
	un_watch_remove(fs->watch, fd->fd, id);
	un_fdcache_put(fs->fds, fd);
}

void un_live_left(struct un_fs *fs, const struct un_inode *dir, struct un_realdir *rd)
{
	if (!fs->live)
		return;
	/* It may have come back by then, and not be watched: but nobody relies on what is told of such a layer. */
	if (rd->layer->remote)
		unwatch_later(fs, dir->id, rd);
	else
		un_live_unwatch(fs, dir->id, rd);
}

/* @inode is being freed. */
static void forget(struct un_fs *fs, struct un_inode *inode)
{
	un_follow_forget(fs, inode);
	if (!inode->d || !fs->watch || atomic_load(&inode->d->tried) == 0)
		return;
	un_live_set(fs, inode, UN_WATCHED_NOT_YET);
	/* What was removed has taken its watch with it; what is only hidden from now on has not. */
	for (unsigned i = 0; i < inode->d->n; i++)
		if (!inode->d->dead || inode->d->stack[i]->layer != fs->upper)
			unwatch_dead(fs, inode->id, inode->d->stack[i]);
}

void un_live_add_layer(const struct un_layer *l)
{
	if (l->remote)
		un_log(LOG_INFO,
		       "%s: what others change there need not be told here: it is asked for again after "
		       "a second",
		       l->path);
}

void un_live_init(struct un_fs *fs, unsigned budget)
{
	const struct un_watch_config config = { .budget = budget, .fn = on_event, .data = fs };

	fs->watch = un_watch_new(&config);
	if (fs->watch)
		un_follow_init(fs);
	else
		un_log(LOG_WARNING,
		       "layers cannot be watched (%s): what others change in them is seen after a second",
		       g_strerror(errno));
	for (struct un_layer *l = NULL; (l = un_layers_next(fs->layers, l));)
		if (!l->data_only)
			un_live_add_layer(l);
	un_live_budget_init(fs);
	fs->live = true;
	fs->freeing = forget;
	un_ns_is_ours(fs->root);
	un_live_look(fs, fs->root);
}

void un_live_done(struct un_fs *fs)
{
	/* All watches go at once. */
	fs->freeing = NULL;
	fs->live = false;
	un_watch_free(fs->watch);
	fs->watch = NULL;
	un_live_budget_done(fs);
	un_follow_done(fs);
}

unsigned un_live_stamp(struct un_fs *fs, struct un_inode *dir)
{
	unsigned stamp = atomic_load(&dir->d->changed) + atomic_load(&fs->all_changed);

	/* It only ever grows, too. */
	if (fs->live && atomic_load(&dir->d->watched) == UN_WATCHED_TIMED)
		stamp += un_monotonic_seconds();
	return stamp;
}

/* 0, or why not all that is to be watched is; -ENOSPC: there is no room for more. */
static int watch_all(struct un_fs *fs, struct un_inode *dir)
{
	int r = fs->watch ? 0 : -ENOSYS;

	for (unsigned i = 0; fs->watch && i < dir->d->n; i++) {
		struct un_realdir *rd = dir->d->stack[i];
		struct un_fd *fd;
		int one;

		/* A mountpoint is not entered. */
		if (rd->hollow)
			continue;
		one = un_realdir_open(fs, rd, &fd);
		if (one == 0) {
			one = un_watch_add(fs->watch, fd->fd, dir->id);
			un_fdcache_put(fs->fds, fd);
		}
		if (one == -ENOSPC)
			return one;
		/* It is told of in part, which no one may rely on. */
		if (one < 0 || rd->layer->remote)
			r = one < 0 ? one : -EREMOTE;
	}
	return r;
}

static int watch_alone(struct un_fs *fs, struct un_inode *dir)
{
	const unsigned lost = atomic_load(&fs->lost);
	int r;

	/* What others find meanwhile is good for a second. */
	un_live_set(fs, dir, UN_WATCHED_TIMED);
	r = watch_all(fs, dir);
	/* Of no use to it, and others need the room. */
	for (unsigned i = 0; r == -ENOSPC && i < dir->d->n; i++)
		un_live_unwatch(fs, dir->id, dir->d->stack[i]);
	/* What was known before nobody watched: before anybody sees that it is watched. */
	atomic_fetch_add(&dir->d->changed, 1);
	atomic_store(&dir->changed, true);
	un_live_set(fs, dir, r == 0 ? UN_WATCHED : UN_WATCHED_TIMED);
	if (atomic_load(&fs->lost) != lost)
		un_live_set(fs, dir, UN_WATCHED_NOT_YET);
	return r;
}

/*
 * One at a time: who gives back what he got must not give back another's. The others do not wait for him, who may wait
 * for a layer; nor is the inode's lock held, which everybody needs who asks for the attributes of the root.
 */
static int watch_once(struct un_fs *fs, struct un_inode *dir)
{
	int r = 0;

	if (atomic_exchange(&dir->d->watching, true))
		return 0;
	atomic_store(&dir->d->tried, un_monotonic_seconds());
	if (atomic_load(&dir->d->watched) != UN_WATCHED)
		r = watch_alone(fs, dir);
	atomic_store(&dir->d->watching, false);
	return r;
}

static void watch(struct un_fs *fs, struct un_inode *dir)
{
	atomic_store(&dir->d->blind, false);
	if (watch_once(fs, dir) == -ENOSPC && un_live_make_room(fs))
		un_ignore(watch_once(fs, dir));
}

/* Not yet, or it could not be a while ago: others may have been forgotten since. */
static bool wants_watch(struct un_inode *dir)
{
	int watched = atomic_load(&dir->d->watched);

	if (watched == UN_WATCHED_TIMED)
		return un_monotonic_seconds() - atomic_load(&dir->d->tried) >= TRY_AGAIN;
	return watched == UN_WATCHED_NOT_YET;
}

bool un_live_wants_look(struct un_fs *fs, struct un_inode *dir)
{
	return fs->live && wants_watch(dir);
}

unsigned un_live_look(struct un_fs *fs, struct un_inode *dir)
{
	if (fs->live)
		un_live_used(dir);
	if (un_live_wants_look(fs, dir))
		watch(fs, dir);
	return un_live_stamp(fs, dir);
}

void un_live_moved(struct un_fs *fs, struct un_inode *dir)
{
	if (fs->live)
		un_live_set(fs, dir, UN_WATCHED_NOT_YET);
}

void un_live_arrived(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	if (fs->live && atomic_load(&dir->d->watched) != UN_WATCHED)
		un_tell(fs, UN_CHANGE_NAME, dir->id, name);
}

/* Is nothing in the upper directory of @dir, which is new? 0, or -errno: -ENOTEMPTY, or that it cannot be told. */
static int is_empty(struct un_fs *fs, struct un_inode *dir, bool add)
{
	struct un_realdir *rd = dir->d->stack[0];
	struct un_fd *fd;
	int r = un_realdir_open(fs, rd, &fd);

	if (r < 0)
		return r;
	if (add)
		r = un_watch_add(fs->watch, fd->fd, dir->id);
	if (r == 0)
		r = un_realdir_is_empty(rd, fd->fd);
	un_fdcache_put(fs->fds, fd);
	return r;
}

bool un_live_made(struct un_fs *fs, struct un_inode *dir, unsigned *ret_stamp)
{
	if (fs->live)
		watch(fs, dir);
	*ret_stamp = un_live_stamp(fs, dir);
	if (!fs->live)
		return true;
	return is_empty(fs, dir, false) == 0;
}

void un_live_raised_locked(struct un_fs *fs, struct un_inode *dir)
{
	bool was = atomic_load(&dir->d->watched) == UN_WATCHED;

	/* What was known stays known: the copy has nothing new. */
	if (!fs->live || (was && is_empty(fs, dir, true) == 0))
		return;
	un_live_moved(fs, dir);
	if (!was)
		return;
	/* Or it has: nothing else tells the kernel, which does not see that the directory has been copied. */
	atomic_fetch_add(&dir->d->changed, 1);
	un_tell(fs, UN_CHANGE_LEFT, dir->id, NULL);
}

void un_live_led(struct un_fs *fs, struct un_inode *dir, struct un_inode *inode,
		 const struct un_found *f, unsigned since)
{
	if (un_follow_found(fs, inode, f, since) && !(f->followed && atomic_load(&dir->d->blind)))
		return;
	atomic_store(&dir->d->tried, un_monotonic_seconds());
	un_live_set(fs, dir, UN_WATCHED_TIMED);
}

void un_live_redirected(struct un_fs *fs, struct un_inode *inode)
{
	char name[NAME_MAX + 1];
	struct un_inode *dir;

	/* By our own hand: all that is known goes on being so. */
	if (!fs->live || !un_name_any(inode, &dir, name))
		return;
	atomic_store(&inode->doubted, true);
	un_tell(fs, UN_CHANGE_NAME, dir->id, name);
	un_inode_put(fs, dir);
}

void un_live_found(struct un_fs *fs, const struct un_inode *dir, struct un_inode *inode)
{
	if (fs->live)
		atomic_store(&inode->timed, atomic_load(&dir->d->watched) != UN_WATCHED);
}

/* Is it certain that a change since the last look would have been told? What is not watched is known for a second. */
static bool is_sure_locked(struct un_fs *fs, struct un_inode *inode) UN_INODE_LOCKED(inode)
{
	int watched = inode->type == DT_DIR ? atomic_load(&inode->d->watched) : UN_WATCHED;

	if (inode->all_seen != atomic_load(&fs->all_changed) || atomic_load(&inode->changed))
		return false;
	if (watched == UN_WATCHED_NOT_YET)
		return false;
	return (watched == UN_WATCHED && !atomic_load(&inode->timed)) ||
	       inode->settled == un_monotonic_seconds();
}

void un_live_settle_locked(struct un_fs *fs, struct un_inode *inode)
{
	/* With timeout=0 nothing is. */
	if (!fs->revalidate && (!fs->live || is_sure_locked(fs, inode)))
		return;
	inode->all_seen = atomic_load(&fs->all_changed);
	inode->settled = un_monotonic_seconds();
	atomic_store(&inode->changed, false);
	inode->xattrs = UN_XATTR_UNKNOWN;
	inode->prot_known = false;
	inode->prot_again = true;
}

/* ---- for who serves requests ---------------------------------------------------------------------------- */

int un_fs_watch_fd(struct un_fs *fs)
{
	return fs->watch ? un_watch_fd(fs->watch) : -1;
}

void un_inode_in_hand(struct un_inode *inode, int by)
{
	atomic_fetch_add(&inode->in_hand, (unsigned)by);
}

bool un_fs_is_in_hand(struct un_fs *fs, uint64_t id)
{
	struct un_inode *inode = un_inode_get(fs, id);
	bool is = inode && atomic_load(&inode->in_hand) > 0;

	un_inode_put(fs, inode);
	return is;
}

bool un_fs_is_dir(struct un_fs *fs, uint64_t id)
{
	struct un_inode *inode = un_inode_get(fs, id);
	bool is = inode && inode->type == DT_DIR;

	un_inode_put(fs, inode);
	return is;
}

void un_fs_catch_up(struct un_fs *fs)
{
	if (fs->watch && un_watch_pending(fs->watch))
		un_watch_process(fs->watch);
}

unsigned un_fs_live_seq(const struct un_fs *fs)
{
	return atomic_load(&fs->live_seq);
}

bool un_fs_dir_is_watched(const struct un_fs *fs, const struct un_inode *dir)
{
	return !fs->live || (dir->d && atomic_load(&dir->d->watched) == UN_WATCHED);
}

bool un_fs_name_is_watched(const struct un_fs *fs, const struct un_inode *inode)
{
	return !fs->live || !atomic_load(&inode->timed);
}

bool un_fs_is_watched(const struct un_fs *fs, const struct un_inode *inode)
{
	return un_fs_name_is_watched(fs, inode) &&
	       (inode->type != DT_DIR || un_fs_dir_is_watched(fs, inode));
}

bool un_fs_watch_dir(struct un_fs *fs, struct un_inode *dir)
{
	bool new;

	if (!fs->live || dir->type != DT_DIR)
		return false;
	un_live_used(dir);
	if (atomic_load(&dir->d->watched) != UN_WATCHED_NOT_YET)
		return false;
	un_ns_read(dir);
	new = !dir->d->dead;
	if (new)
		un_ignore((int)un_live_look(fs, dir));
	un_ns_unlock(dir);
	return new;
}

bool un_fs_is_used(struct un_fs *fs, uint64_t id)
{
	struct un_inode *dir = un_inode_get(fs, id);
	bool is = dir && dir->d && un_live_age(dir) <= IN_USE;

	un_inode_put(fs, dir);
	return is;
}

/* Of a directory that was only listed: the kernel has its attributes for a second. */
static bool tell_unwatched(void *data, uint64_t id)
{
	struct un_fs *fs = data;
	struct un_inode *dir = un_inode_get(fs, id);

	if (dir && dir->d && atomic_load(&dir->d->watched) != UN_WATCHED)
		un_tell(fs, UN_CHANGE_ATTRS, id, NULL);
	un_inode_put(fs, dir);
	return true;
}

void un_fs_doubt_unwatched(struct un_fs *fs)
{
	if (fs->live)
		un_ignore(un_known_each(fs, tell_unwatched, fs));
}

void un_fs_on_change(struct un_fs *fs, un_change_fn fn, void *data, bool give_up)
{
	fs->change_data = data;
	fs->change = fn;
	fs->gives_up = give_up;
}

unsigned un_fs_timed(const struct un_fs *fs)
{
	return atomic_load(&fs->timed_dirs);
}

unsigned un_fs_given_up(const struct un_fs *fs)
{
	return atomic_load(&fs->given_up);
}

bool un_fs_watch_stats(struct un_fs *fs, struct un_watch_stats *ret)
{
	if (!fs->watch)
		return false;
	un_watch_stats(fs->watch, ret);
	return true;
}
