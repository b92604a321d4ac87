/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors under a budget. Nothing tells the daemon of a close (src/transport/README.md,
 * Opening and closing), so what it
 * opened stays open until something else needs the room; an owner that loses its descriptor opens
 * it again. Pinned descriptors cannot be opened again and stay.
 *
 * An owner has a "home": a pointer that is NULL or leads to its descriptor. Homes are read and
 * written under the cache's lock only. The lock is a leaf.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct un_fdcache;
struct un_layer;

struct un_fdcache;
struct un_layer;

enum un_fd_flags {
	UN_FD_READ = 1 << 0,
	UN_FD_WRITE = 1 << 1,
	UN_FD_PIN = 1 << 2, /* it cannot be opened again: kept, as far as the budget allows */
	/*
	 * Written since it was last known to be on disk, possibly by way of another descriptor that this
	 * one replaces: what write-back fails with is told by descriptors that were open then, and as long
	 * as one is, the file's pages and that news are not dropped from memory.
	 */
	UN_FD_DIRTY = 1 << 3,
	UN_FD_APPEND = 1 << 4, /* each write goes to the end of the file, whatever its offset */
};

struct un_fd {
	int fd;
	struct un_layer *layer; /* where it was opened: calls go through its table; borrowed */
	unsigned flags;
	bool append; /* UN_FD_APPEND */
	/* what follows belongs to the cache */
	unsigned users;
	unsigned writers; /* how often it was given out for writing */
	bool cached;
	bool recent;
	struct un_fd **home;
	struct un_fd *prev, *next;
};

/* What the cache does with descriptors that are not just closed; called without the lock. */
struct un_fdcache_ops {
	int (*reopen)(void *data, int fd); /* opens the same file for reading; or -errno */
	void (*closing)(void *data,
			int fd); /* before a close: the last chance to hear of failed write-back */
	/* Closes what is of a lower that may not answer; nobody waits for that. */
	void (*close_later)(void *data, int fd);
};

/*
 * @budget: so many descriptors the cache may hold open. @keep: however much room there is, it holds
 * about so many of those that can be opened again at no loss.
 */
struct un_fdcache *un_fdcache_new(unsigned budget, unsigned keep);
/* To be called before a dirty descriptor is in it. */
void un_fdcache_set_ops(struct un_fdcache *c, const struct un_fdcache_ops *ops, void *data);
/* No descriptor of it may be in use any more. Accepts NULL. */
void un_fdcache_free(struct un_fdcache *c);

/*
 * The descriptor in *@home if it has all of @flags, else NULL. UN_FD_WRITE makes it dirty. The
 * caller gives it back with un_fdcache_put().
 */
struct un_fd *un_fdcache_get(struct un_fdcache *c, struct un_fd **home, unsigned flags);

/*
 * Take over @fd, of @layer, as the descriptor in *@home (one that is there is let go) and return it
 * in use. UN_FD_PIN is dropped from the flags if half of the budget is pinned already, unless the
 * one that was there was pinned.
 */
struct un_fd *un_fdcache_add(struct un_fdcache *c, struct un_fd **home, struct un_layer *layer, int fd,
			     unsigned flags);

/*
 * The same under a lock that others need: what has to be closed for it, which may take long, is left to the caller, who
 * lets un_fdcache_close() do it later (NULL: nothing).
 */
struct un_fd *un_fdcache_add_only(struct un_fdcache *c, struct un_fd **home, struct un_layer *layer,
				  int fd, unsigned flags, struct un_fd **ret_rest);
void un_fdcache_close(struct un_fdcache *c, struct un_fd *rest);

/* One more user of a descriptor that is in use already, or that lies outside the cache. */
struct un_fd *un_fdcache_use(struct un_fdcache *c, struct un_fd *f);

/* Give @f back. Accepts NULL. */
void un_fdcache_put(struct un_fdcache *c, struct un_fd *f);
/*
 * The same; @f will hardly be wanted again: close it, unless it is in use, pinned, writable or
 * dirty.
 */
void un_fdcache_put_done(struct un_fdcache *c, struct un_fd *f);

/* *@home lets go of its descriptor, which is closed when its last user gives it back. */
void un_fdcache_clear(struct un_fdcache *c, struct un_fd **home);
/* The same for a file that is gone: whether its data got to the disk is nobody's concern any more. */
void un_fdcache_clear_gone(struct un_fdcache *c, struct un_fd **home);

/*
 * Pin or unpin the descriptor in *@home. False: there is none, or the budget for pins is used up.
 */
bool un_fdcache_pin(struct un_fdcache *c, struct un_fd **home, bool pin);

/* After EMFILE: close up to half of what is not in use. False if there was nothing to close. */
bool un_fdcache_squeeze(struct un_fdcache *c);

/*
 * Around an fsync of a descriptor in use: begin returns the number that synced is to be given as
 * @before, if the fsync went well. A descriptor that was given out for writing meanwhile stays
 * dirty.
 */
unsigned un_fdcache_sync_begin(struct un_fdcache *c, const struct un_fd *f);
void un_fdcache_synced(struct un_fdcache *c, struct un_fd *f, unsigned before);

/*
 * Close writable descriptors that nobody used since the last call: while one is open the file
 * cannot be executed from its layer (ETXTBSY). A dirty one is replaced by one for reading. True
 * while writable ones remain.
 */
bool un_fdcache_idle(struct un_fdcache *c);

/*
 * Close descriptors that nobody used since the last call, the oldest first, until @enough are left;
 * but no pinned, writable or dirty ones. True: a later call may close more.
 */
bool un_fdcache_age(struct un_fdcache *c, unsigned enough);

size_t un_fdcache_count(struct un_fdcache *c);
/* How many it may hold open by now: after EMFILE fewer. */
unsigned un_fdcache_budget(struct un_fdcache *c);
