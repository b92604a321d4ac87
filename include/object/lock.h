/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks, outermost first; one further down may be taken while one further up is held:
 *
 *   0. restacking (union/lowers.c): nobody who holds another takes it
 *   1. copying (a flag of an inode, un_copyup): one copy-up per inode; of a parent before its child
 *   2. dirinfo.ns of directories: several at once only through un_ns_write_set(), which waits for one only while
 *      it holds no other: somebody may be in a directory whose layer does not answer, and that is no reason for
 *      others to wait at its parent. Or by un_ns_try_write(), which waits for nobody: for a directory that is
 *      given up (live-budget.c)
 *   3. inode.lock: one at a time; two (a rename's) in the order of their node ids
 *   4. fs->tree, which whoever waits for the rename of a real directory lets go (tree_settled)
 *   5. the fd cache; un_fs.copying; the table shards; the number maps (ino_lock); pending names; what was
 *      said; the whiteout pool; the children of a directory; which directories are watched; which names
 *      are told as missing; who reads file after file (union/ahead.c); and what is done later. None of these encloses another one; the cache closes
 *      descriptors without its lock, and without fs->tree.
 *
 * What may be held over a system call on a layer, which may hang: ns, while names in that very directory are changed
 * (whoever asks for that has its lock in the kernel, too), or are asked for by who goes through its listing, or it gets
 * its watch, be it that another directory loses one for it. inode.lock, while that very inode's location is used or
 * changes. The whiteout pool's, while one whiteout is made. No other; nor while descriptors are waited for (un_fd_wait()).
 * None is held while a name is looked up or a directory read by a user (ask_apart(), list_apart()), unless names in it
 * change again and again; and none while data is copied: `copying` is a flag, and its mutex is held to look at it.
 *
 * The compiler checks who holds what (util/lock.h); the thread sanitizer the order, in tests under load.
 */
#pragma once

#include "object/object.h"
#include "util/assert.h"

#include <pthread.h>

/* For a function that is called with @inode's lock held. */
#define UN_INODE_LOCKED(inode) UN_REQUIRES((inode)->lock, un_inode_role)
/*
 * For a function that is called with ns of its directory held, for writing, or at least for
 * reading.
 */
#define UN_NS_WRITE UN_REQUIRES(un_ns_role)
#define UN_NS_READ UN_REQUIRES_SHARED(un_ns_role)
#define UN_TREE_LOCKED(fs) UN_REQUIRES((fs)->tree, un_tree_role)
#define UN_INOS_LOCKED(fs) UN_REQUIRES((fs)->ino_lock, un_inos_role)

static inline uint32_t un_monotonic_seconds(void)
{
	return (uint32_t)(g_get_monotonic_time() / G_USEC_PER_SEC) + 1;
}

UN_LOCKS(struct un_inode, lock, un_inode, un_inode_role);
UN_LOCKS(struct un_dirinfo, children_lock, un_children, un_children_role);
UN_LOCKS(struct un_fs, tree, un_tree, un_tree_role);
UN_LOCKS(struct un_fs, copying, un_copying, un_copying_role);
UN_LOCKS(struct un_fs, ino_lock, un_inos, un_inos_role);

static inline void un_ns_read(struct un_inode *dir) UN_ACQUIRES_SHARED(un_ns_role) UN_NO_TSA
{
	pthread_rwlock_rdlock(&dir->d->ns);
}

static inline void un_ns_write(struct un_inode *dir) UN_ACQUIRES(un_ns_role) UN_NO_TSA
{
	pthread_rwlock_wrlock(&dir->d->ns);
	dir->d->writes++;
}

/* True: it is held, without a wait; so it may be asked for whatever else is held. False: somebody changes names. */
static inline bool un_ns_try_read(struct un_inode *dir) UN_TRIES_SHARED(true, un_ns_role) UN_NO_TSA
{
	return pthread_rwlock_tryrdlock(&dir->d->ns) == 0;
}

/* The same. */
static inline bool un_ns_try_write(struct un_inode *dir) UN_TRIES(true, un_ns_role) UN_NO_TSA
{
	if (pthread_rwlock_trywrlock(&dir->d->ns) != 0)
		return false;
	dir->d->writes++;
	return true;
}

static inline void un_ns_unlock(struct un_inode *dir) UN_RELEASES_ANY(un_ns_role) UN_NO_TSA
{
	pthread_rwlock_unlock(&dir->d->ns);
}

/*
 * For the thread safety analysis: nobody else can reach the object, since it is being made or
 * freed; or its lock is held by a caller that the analysis cannot see, as through a callback.
 */
static inline void un_ns_is_ours(struct un_inode *dir) UN_ASSERTS(un_ns_role)
{
	(void)dir;
}

static inline void un_ns_is_held(struct un_inode *dir) UN_ASSERTS(un_ns_role) UN_NO_TSA
{
	UN_ASSERT(pthread_rwlock_tryrdlock(&dir->d->ns) != 0);
}

static inline void un_inode_is_held(struct un_inode *inode)
	UN_ASSERTS(inode->lock, un_inode_role) UN_NO_TSA
{
	UN_ASSERT(pthread_mutex_trylock(&inode->lock.m) != 0);
}

static inline void un_index_is_ours(struct un_index *ix) UN_ASSERTS(un_inode_role)
{
	(void)ix;
}

static inline void un_realdir_is_ours(struct un_realdir *rd) UN_ASSERTS(un_tree_role)
{
	(void)rd;
}

/* Several directories at once, the same one twice or NULL allowed; at most 3. */
struct un_ns_set {
	struct un_inode *dirs[3];
	unsigned n;
};

/*
 * So often one is waited for without another before they are waited for in the order of their node ids: then it is not
 * that somebody hangs in one, but that there is always somebody in each.
 */
#define UN_NS_ROUNDS 1000

/* Waits for dirs[@first] and takes the others without a wait. -1: all are held; else none is, and this one was not to be had. */
static inline int un_ns_write_from(struct un_ns_set *set, unsigned first) UN_NO_TSA
{
	un_ns_write(set->dirs[first]);
	for (unsigned i = 0; i < set->n; i++) {
		if (i == first || un_ns_try_write(set->dirs[i]))
			continue;
		for (unsigned j = 0; j < i; j++)
			if (j != first)
				un_ns_unlock(set->dirs[j]);
		un_ns_unlock(set->dirs[first]);
		return (int)i;
	}
	return -1;
}

static inline void un_ns_write_set(struct un_ns_set *set, struct un_inode *a, struct un_inode *b,
				   struct un_inode *c) UN_ACQUIRES(un_ns_role) UN_NO_TSA
{
	struct un_inode *all[3] = { a, b, c };

	set->n = 0;
	for (int i = 0; i < 3; i++) {
		unsigned at = set->n;

		if (!all[i] || (i > 0 && all[i] == a) || (i > 1 && all[i] == b))
			continue;
		for (; at > 0 && set->dirs[at - 1]->id > all[i]->id; at--)
			set->dirs[at] = set->dirs[at - 1];
		set->dirs[at] = all[i];
		set->n++;
	}
	for (int round = 0, first = 0; round < UN_NS_ROUNDS; round++) {
		first = un_ns_write_from(set, (unsigned)first);
		if (first < 0)
			return;
	}
	for (unsigned i = 0; i < set->n; i++)
		un_ns_write(set->dirs[i]);
}

static inline void un_ns_unlock_set(struct un_ns_set *set) UN_RELEASES(un_ns_role) UN_NO_TSA
{
	for (unsigned i = set->n; i-- > 0;)
		un_ns_unlock(set->dirs[i]);
}
