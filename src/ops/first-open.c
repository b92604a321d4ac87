/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel learns that OPEN and FLUSH are ENOSYS from the first of them, and sends a RELEASE for every file until then: for
 * all that tar unpacks into a new union, since creating is not opening. So a child of the daemon opens a file through the
 * mount before the daemon says that it is ready. No layer has that file: its name is known here alone and told to nobody, and the
 * kernel asks for it once and keeps neither the name nor the node.
 */
#include "ops_i.h"
#include "reply_i.h"

#include "transport/outside.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ids of inodes are counted from one. */
#define NODE UINT64_MAX

bool un_first_open_is(struct un_ops *ops, uint64_t parent, const char *name)
{
	const char *first = atomic_load(&ops->first_open);

	return first && parent == FUSE_ROOT_ID && strcmp(name, first) == 0;
}

void un_first_open_reply(fuse_req_t req)
{
	/* The owner may read it, and the group has no rights: an ACL is asked for where it has some. */
	const struct fuse_entry_param e = {
		.ino = NODE,
		.attr = { .st_ino = NODE,
			  .st_mode = S_IFREG | 0404,
			  .st_nlink = 1,
			  .st_uid = geteuid(),
			  .st_gid = getegid() },
		.attr_timeout = 60,
	};

	fuse_reply_entry(req, &e);
}

struct first {
	const char *path, *name;
	uint64_t device;
};

/* In a child. The root of our own mount by a descriptor that asks for nothing, then the file. */
static int open_first(const void *arg)
{
	const struct first *f = arg;
	int root = open(f->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statx st;

	if (root < 0 || statx(root, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) < 0)
		return -errno;
	if (((uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor) != f->device)
		return -EXDEV;
	return openat(root, f->name, O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC) < 0 ? -errno : 0;
}

void un_ops_open_first(struct un_ops *ops, const char *path, uint64_t device)
{
	/* Another's lookup may still be comparing it when the file is open. */
	static char name[64];
	const struct first f = { path, name, device };
	uint64_t random[2];
	int r;

	/* With timeout=0 or passthrough it is answered each time. */
	if (!device || ops->timeout == 0 || ops->passing ||
	    getrandom(random, sizeof(random), 0) != sizeof(random))
		return;
	snprintf(name, sizeof(name), ".fuse-unionfs-%016" PRIx64 "%016" PRIx64, random[0],
		 random[1]);
	atomic_store(&ops->first_open, name);
	r = un_outside(open_first, &f);
	/* A root that is closed to us, for one. */
	if (r < 0)
		un_debug("no file can be opened through the mount yet: %s; closing costs a request",
			 strerrordesc_np(-r));
	atomic_store(&ops->first_open, NULL);
}
