/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "This name of this directory has changed", for directories on disk that others change. It knows nothing of unions.
 *
 * fanotify(7) tells whose change it was, so this process does not hear of its own; inotify(7), where fanotify is
 * refused or a file system has no handles, does not, and this process hears of its own changes as well. Neither
 * tells of stores through a shared mapping, nor of what another host changes on a network file system.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_watch;

/* What has happened; one event may tell of several. */
enum un_watch_what {
	UN_WATCH_NAME = 1 << 0, /* the name came, went, or means another object */
	UN_WATCH_DATA = 1 << 1, /* the content of the file with that name */
	UN_WATCH_ATTR = 1 << 2, /* attributes or extended attributes of the object with that name */
	UN_WATCH_GONE = 1 << 3, /* the watched directory itself was removed or moved away */
	/*
	 * Attributes of some directory in a watched one, which is not watched itself: fanotify calls it by its own
	 * handle only. The key is 0.
	 */
	UN_WATCH_SOME = 1 << 5,
	/*
	 * Events were lost: anything may have changed anywhere; the key is 0. Directories may have gone, too, and their
	 * watches with them: none is to be relied on that is not added once more.
	 */
	UN_WATCH_LOST = 1 << 4,
};

struct un_watch_event {
	uint64_t key;     /* of the directory */
	const char *name; /* in it; NULL: the directory itself */
	unsigned what;
	bool dir; /* the object with that name is a directory */
};
/* Called by un_watch_process(), which may call un_watch_add() and un_watch_remove(), but not itself. */
typedef void (*un_watch_fn)(void *data, const struct un_watch_event *e);

struct un_watch_config {
	unsigned
		budget; /* directories at most; 0: a tenth of what the system allows a user, at least 1024 */
	un_watch_fn fn;
	void *data;
	bool no_fanotify; /* tests */
};

/* NULL and errno: there is no way to watch anything. */
struct un_watch *un_watch_new(const struct un_watch_config *c);
/* Nobody else uses it any more. Accepts NULL. */
void un_watch_free(struct un_watch *w);

/*
 * Events of the directory @dirfd (O_PATH will do) are told under @key from now on; one directory may have several
 * keys, and a key several directories. 0, also if it is so already; -ENOSPC: the budget is used up; or -errno.
 */
int un_watch_add(struct un_watch *w, int dirfd, uint64_t key);
/* No more; @dirfd as before. A directory that is gone needs none of this. */
void un_watch_remove(struct un_watch *w, int dirfd, uint64_t key);

/* Are there events that have not been told? One cheap system call, and no lock. */
bool un_watch_pending(struct un_watch *w);
/* When it returns, all events that were there when it was called have been told, by this thread or another. */
void un_watch_process(struct un_watch *w);
/* To poll(2) for events. */
int un_watch_fd(const struct un_watch *w);

struct un_watch_stats {
	unsigned by_fanotify, by_inotify; /* directories */
	unsigned budget;
	uint64_t events; /* of others; with inotify, of all */
	uint64_t own;    /* told by fanotify, and not heard of here */
	uint64_t lost;   /* how often the queue was full */
};
void un_watch_stats(struct un_watch *w, struct un_watch_stats *ret);
