/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Groups that report directory handles and names need no privilege (Linux 5.13). Such a listener is told its own
 * process id with what its process did, and 0 with what others did; root is told all of them.
 */
#include "watch_i.h"

#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* Linux 6.5: a handle that nobody can open */
#endif

#define MASK                                                                                       \
	(FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_MODIFY | FAN_ATTRIB |       \
	 FAN_DELETE_SELF | FAN_MOVE_SELF | FAN_ONDIR | FAN_EVENT_ON_CHILD)

int un_fanotify_open(void)
{
	return un_errno(fanotify_init(
		FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY));
}

static void make_fid(const void *fsid, const struct file_handle *h, struct un_fid *ret)
{
	uint32_t type = (uint32_t)h->handle_type;

	ret->len = 8 + 4 + MIN(h->handle_bytes, 128);
	memcpy(ret->bytes, fsid, 8);
	memcpy(ret->bytes + 8, &type, 4);
	memcpy(ret->bytes + 12, h->f_handle, ret->len - 12);
}

int un_fanotify_fid(int dirfd, struct un_fid *ret)
{
	union {
		struct file_handle h;
		uint8_t room[sizeof(struct file_handle) + 128];
	} fh = { .h.handle_bytes = 128 };
	struct statfs fs;
	int mount_id;

	if (fstatfs(dirfd, &fs) < 0)
		return -errno;
	if (name_to_handle_at(dirfd, "", &fh.h, &mount_id, AT_EMPTY_PATH | AT_HANDLE_FID) < 0) {
		fh.h.handle_bytes = 128;
		if (name_to_handle_at(dirfd, "", &fh.h, &mount_id, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	make_fid(&fs.f_fsid, &fh.h, ret);
	return 0;
}

int un_fanotify_mark(int fd, int dirfd, bool add)
{
	unsigned flags = (add ? FAN_MARK_ADD : FAN_MARK_REMOVE) | FAN_MARK_ONLYDIR;
	char path[64];
	int r;

	/* An O_PATH descriptor itself is EBADF. "." in it costs half as much as a path, but has to be searched. */
	r = un_errno(fanotify_mark(fd, flags, MASK, dirfd, "."));
	if (r != -EACCES)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	return un_errno(fanotify_mark(fd, flags, MASK, AT_FDCWD, path));
}

static unsigned what_of(uint64_t mask, bool self)
{
	unsigned what = 0;

	if (mask & (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO))
		what |= UN_WATCH_NAME;
	if (mask & FAN_MODIFY)
		what |= UN_WATCH_DATA;
	if (mask & FAN_ATTRIB)
		what |= UN_WATCH_ATTR;
	if (self && (mask & (FAN_DELETE_SELF | FAN_MOVE_SELF)))
		what |= UN_WATCH_GONE;
	return what;
}

/* @own: by this process. */
static void tell_one(struct un_watch *w, const struct fanotify_event_metadata *m,
		     const struct fanotify_event_info_fid *info, bool own)
{
	const struct file_handle *h = (const void *)info->handle;
	const char *name = (const char *)h->f_handle + h->handle_bytes;
	bool self = info->hdr.info_type != FAN_EVENT_INFO_TYPE_DFID_NAME || strcmp(name, ".") == 0;
	bool gone = self && (m->mask & FAN_DELETE_SELF);
	unsigned what = what_of(m->mask, self);
	struct un_fid fid;

	if (!what && !gone)
		return;
	make_fid(&info->fsid, h, &fid);
	un_watch_tell(w, &fid, self ? NULL : name, what, m->mask & FAN_ONDIR, own, gone);
}

/* The records behind the event @m, which is at @at: only the directory's is of interest. */
static void tell_event(struct un_watch *w, const struct fanotify_event_metadata *m, const char *at,
		       pid_t self)
{
	const char *p = at + m->metadata_len, *end = at + m->event_len;
	bool own = m->pid == self;

	if (m->mask & FAN_Q_OVERFLOW) {
		un_watch_tell_lost(w);
		return;
	}
	if (own) {
		atomic_fetch_add(&w->own, 1);
		/*
		 * Nobody need be told, as a rule. But a directory is gone when nobody has it open any more, whoever
		 * removed it, and the watch with it.
		 */
		if (!(m->mask & FAN_DELETE_SELF) && !atomic_load(&w->shared))
			return;
	}
	while (p + sizeof(struct fanotify_event_info_header) <= end) {
		const struct fanotify_event_info_fid *info = (const void *)p;

		if (info->hdr.len < sizeof(info->hdr) || p + info->hdr.len > end)
			break;
		if (info->hdr.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME ||
		    info->hdr.info_type == FAN_EVENT_INFO_TYPE_DFID)
			tell_one(w, m, info, own);
		p += info->hdr.len;
	}
}

/* Events are as long as they are, and not aligned as their structs want it. */
static void tell_all(struct un_watch *w, const char *buf, ssize_t n)
{
	struct fanotify_event_metadata m;
	pid_t self = getpid();

	for (ssize_t at = 0; at + (ssize_t)sizeof(m) <= n; at += m.event_len) {
		memcpy(&m, buf + at, sizeof(m));
		if (m.event_len < sizeof(m) || at + m.event_len > n)
			return;
		if (m.vers == FANOTIFY_METADATA_VERSION)
			tell_event(w, &m, buf + at, self);
	}
}

void un_fanotify_read(struct un_watch *w)
{
	char buf[16384] __attribute__((aligned(8)));
	ssize_t n;

	do {
		n = read(w->fanotify, buf, sizeof(buf));
		if (n > 0)
			tell_all(w, buf, n);
	} while (un_watch_has_more(n, sizeof(buf)));
}
