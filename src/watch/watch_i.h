/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the table of directories (watch.c) and the two ways to watch them. */
#pragma once

#include "util/lock.h"
#include "watch/watch.h"

#include <errno.h>
#include <glib.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>

/* Of one event at most: its head, two handles of directories and a name. */
#define UN_EVENT_MAX 1024

/* More than there are threads that change watches at the same time. */
#define UN_WATCH_STRIPES 64

/* What a kernel's interface calls a directory: a file system and a handle, or a watch descriptor. */
struct un_fid {
	uint32_t len;
	uint8_t bytes[8 + 4 + 128];
};

struct un_watch_dir {
	struct un_fid fid;
	GArray *keys; /* uint64_t */
	bool inotify;
	uint64_t since; /* un_watch.lost when it was last asked for */
};

UN_ROLE(watch_role);

struct un_watch {
	struct un_watch_config config;
	int fanotify;            /* -1: refused */
	int inotify;             /* -1 */
	int poll;                /* epoll(7) of both */
	struct un_mutex reading; /* one thread reads and tells at a time; outside of: */
	/*
	 * One change of a directory's watch at a time, in the kernel and in the table: else a mark that one thread
	 * takes off might be what another has just relied on. By number of the directory, for setting a mark may have to
	 * wait for its file system. Who reads events does not need them, and has them outside of:
	 */
	struct un_mutex changing[UN_WATCH_STRIPES];
	struct un_mutex lock;
	GHashTable *dirs UN_GUARDED_BY(watch_role); /* struct un_watch_dir by fid */
	unsigned by_fanotify UN_GUARDED_BY(watch_role);
	unsigned by_inotify UN_GUARDED_BY(watch_role);
	unsigned adding UN_GUARDED_BY(watch_role); /* about to be one of those */
	uint64_t swept UN_GUARDED_BY(watch_role);  /* un_watch.lost then, see sweep_locked() */
	atomic_bool telling;     /* what was read is being told */
	atomic_uint shared;      /* directories with several keys */
	atomic_bool has_inotify; /* something is, or was, watched by inotify */
	atomic_uint_fast64_t events, own, lost;
};
UN_LOCKS(struct un_watch, lock, watch, watch_role);

/* table.c */
guint un_fid_hash(gconstpointer fid);
void un_watch_table_init(struct un_watch *w);
void un_watch_table_done(struct un_watch *w);
/*
 * Is there room for one more, or is it there already (@fid; NULL: not known)? True: it is kept until
 * un_watch_unreserve().
 */
bool un_watch_reserve(struct un_watch *w, const struct un_fid *fid);
void un_watch_unreserve(struct un_watch *w);
/* For who holds the stripe, so that it stays so but for an event of its end. */
bool un_watch_is_known(struct un_watch *w, const struct un_fid *fid);
/* The kernel watches it already, so that no event is lost between. @lost: un_watch.lost before it was asked to. */
void un_watch_enter(struct un_watch *w, const struct un_fid *fid, bool inotify, uint64_t key,
		    uint64_t lost);
enum un_watch_left {
	UN_WATCH_UNKNOWN, /* there is no such directory */
	UN_WATCH_STAYS,   /* it has other keys, or never had this one */
	UN_WATCH_LAST,    /* it has none any more: the kernel need not watch it */
};
/* Takes @key off. */
enum un_watch_left un_watch_leave(struct un_watch *w, const struct un_fid *fid, uint64_t key);
/*
 * Tell of an event to all who have a key of @fid; @own: only if there are several, for what was done under one of them
 * is news to the others. @gone: it is watched no more, which is always told: it may be another directory by now.
 */
void un_watch_tell(struct un_watch *w, const struct un_fid *fid, const char *name, unsigned what,
		   bool dir, bool own, bool gone);
/* Events were lost. */
void un_watch_tell_lost(struct un_watch *w);

/*
 * Is there more after a read(2) of events that gave @n of @size bytes? Another event would have fitted into what it
 * left, so the next look would find nothing.
 */
static inline bool un_watch_has_more(ssize_t n, size_t size)
{
	return n < 0 ? errno == EINTR : (size_t)n + UN_EVENT_MAX > size;
}

/* fanotify.c. A descriptor, or -errno. */
int un_fanotify_open(void);
/* 0 and *ret, or -errno; -EOPNOTSUPP: the file system has no handles. */
int un_fanotify_fid(int dirfd, struct un_fid *ret);
int un_fanotify_mark(int fd, int dirfd, bool add);
void un_fanotify_read(struct un_watch *w);

/* inotify.c */
int un_inotify_open(void);
int un_inotify_add(int fd, int dirfd, struct un_fid *ret);
void un_inotify_remove(int fd, const struct un_fid *fid);
void un_inotify_read(struct un_watch *w);
