/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where fanotify is refused, or a file system has no handles. It does not tell whose change it was. */
#include "watch_i.h"

#include "util/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/*
 * IN_MASK_ADD: without it the kernel (6.18) clears the mask of a watch that is there before it sets it again, and
 * tells nothing of what happens in between.
 */
#define MASK                                                                                       \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB |             \
	 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_MASK_ADD)

int un_inotify_open(void)
{
	return un_errno(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
}

static void make_fid(int wd, struct un_fid *ret)
{
	ret->len = sizeof(wd);
	memcpy(ret->bytes, &wd, sizeof(wd));
}

int un_inotify_add(int fd, int dirfd, struct un_fid *ret)
{
	char path[64];
	int wd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	wd = un_errno(inotify_add_watch(fd, path, MASK));
	if (wd < 0)
		return wd;
	make_fid(wd, ret);
	return 0;
}

void un_inotify_remove(int fd, const struct un_fid *fid)
{
	int wd;

	memcpy(&wd, fid->bytes, sizeof(wd));
	un_ignore(inotify_rm_watch(fd, wd));
}

static void tell_event(struct un_watch *w, const struct inotify_event *e)
{
	unsigned what = 0;
	struct un_fid fid;

	if (e->mask & IN_Q_OVERFLOW) {
		un_watch_tell_lost(w);
		return;
	}
	if (e->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO))
		what |= UN_WATCH_NAME;
	if (e->mask & IN_MODIFY)
		what |= UN_WATCH_DATA;
	if (e->mask & IN_ATTRIB)
		what |= UN_WATCH_ATTR;
	if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF))
		what |= UN_WATCH_GONE;
	make_fid(e->wd, &fid);
	if (what || (e->mask & IN_IGNORED))
		un_watch_tell(w, &fid, e->len ? e->name : NULL, what, e->mask & IN_ISDIR, false,
			      e->mask & IN_IGNORED);
}

void un_inotify_read(struct un_watch *w)
{
	char buf[16384] __attribute__((aligned(8)));
	ssize_t n;

	do {
		n = read(w->inotify, buf, sizeof(buf));
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const void *)(buf + at);

			tell_event(w, e);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
	} while (un_watch_has_more(n, sizeof(buf)));
}
