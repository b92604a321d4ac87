/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mtime_i.h"

#include "layer/layer.h"
#include "object/lock.h"
#include "union/union.h"
#include "util/err.h"

#include <fcntl.h>

struct un_kept {
	unsigned users; /* writes under way */
	bool restore;
	struct timespec mtime;
};

bool un_mtime_keep(struct un_fs *fs, struct un_inode *inode, int fd)
{
	struct statx st;
	bool ok = true;

	un_inode_lock(inode);
	if (!inode->kept) {
		/* Of a write that began earlier the file may bear the time already. */
		ok = fs->upper->ops->stat(fs->upper, fd, "", &st) == 0;
		if (ok) {
			inode->kept = g_new0(struct un_kept, 1);
			inode->kept->restore = true;
			inode->kept->mtime =
				(struct timespec){ st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec };
		}
	}
	if (ok)
		inode->kept->users++;
	un_inode_unlock(inode);
	return ok;
}

void un_mtime_kept(struct un_fs *fs, struct un_inode *inode, int fd)
{
	struct un_kept *k;

	un_inode_lock(inode);
	k = inode->kept;
	if (--k->users == 0) {
		const struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, k->mtime };

		/* Under the lock: whoever sets it comes before or after. */
		if (k->restore)
			un_ignore(fs->upper->ops->utimens(fs->upper, fd, "", ts));
		g_clear_pointer(&inode->kept, g_free);
	}
	un_inode_unlock(inode);
}

void un_mtime_set_locked(struct un_inode *inode, const struct un_setattr *a)
{
	if (!inode->kept)
		return;
	inode->kept->restore = !(a->valid & UN_SET_MTIME_NOW);
	inode->kept->mtime = a->mtime;
}

void un_mtime_written(struct un_inode *inode)
{
	un_inode_lock(inode);
	if (inode->kept)
		inode->kept->restore = false;
	un_inode_unlock(inode);
}
