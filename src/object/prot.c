/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Immutable and append-only. In a lower they are the real file's flags, which statx tells; in the upper a
 * mark says so, for the real flags would keep the daemon itself from what the union allows.
 */
#include "object/prot.h"
#include "layer/marks.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/realdir.h"

#include <errno.h>
#include <string.h>

unsigned un_prot_of_stat(const struct statx *st)
{
	return (st->stx_attributes & STATX_ATTR_IMMUTABLE ? UN_PROT_IMMUTABLE : 0) |
	       (st->stx_attributes & STATX_ATTR_APPEND ? UN_PROT_APPEND : 0);
}

static unsigned prot_from_text(const char *v, ssize_t n)
{
	unsigned prot = 0;

	for (ssize_t i = 0; i < n; i++)
		prot |= v[i] == 'i' ? UN_PROT_IMMUTABLE : v[i] == 'a' ? UN_PROT_APPEND : 0;
	return prot;
}

int un_prot_mark(struct un_fs *fs, int dirfd, const char *name, unsigned prot)
{
	char v[3] = "";

	if (prot & UN_PROT_APPEND)
		strcat(v, "a");
	if (prot & UN_PROT_IMMUTABLE)
		strcat(v, "i");
	if (!v[0])
		return un_mark_clear(UN_AT(fs->upper, dirfd, name), UN_MARK_PROTATTR);
	return un_mark_set(UN_AT(fs->upper, dirfd, name), UN_MARK_PROTATTR, v, strlen(v));
}

static int read_prot_locked(struct un_fs *fs, struct un_inode *inode) UN_INODE_LOCKED(inode)
{
	struct un_at at;
	char v[8];
	ssize_t n;
	int r = un_at_locked(fs, inode, &at);

	if (r < 0)
		return r;
	if (at.hollow) {
		un_at_done(fs, &at);
		inode->prot_known = true;
		return 0;
	}
	if (inode->prot_again) {
		struct statx st;

		r = at.layer->ops->stat(at.layer, at.dirfd, at.name, &st);
		if (r < 0) {
			un_at_done(fs, &at);
			return r;
		}
		inode->prot = (uint8_t)un_prot_of_stat(&st);
		inode->prot_again = false;
		/* A lower's mark is none of this union's. */
		if (!inode->upper) {
			un_at_done(fs, &at);
			inode->prot_known = true;
			return 0;
		}
	}
	n = un_mark_get(&at, UN_MARK_PROTATTR, v, sizeof(v));
	un_at_done(fs, &at);
	if (n < 0 && n != -ENODATA && n != -ERANGE && n != -EACCES && n != -EPERM)
		return (int)n;
	inode->prot |= (uint8_t)prot_from_text(v, n);
	inode->prot_known = true;
	return 0;
}

int un_prot(struct un_fs *fs, struct un_inode *inode)
{
	int r = 0;

	if (inode->type != DT_DIR && inode->type != DT_REG)
		return 0;
	un_inode_lock(inode);
	un_live_settle_locked(fs, inode);
	if (!inode->prot_known && !(inode->type == DT_DIR && inode->d->dead))
		r = read_prot_locked(fs, inode);
	if (r == 0)
		r = inode->prot;
	un_inode_unlock(inode);
	return r;
}

int un_prot_dir(struct un_fs *fs, struct un_inode *dir, bool remove)
{
	int p = un_prot(fs, dir);

	if (p < 0)
		return p;
	/* Nothing can be made where something unknown is mounted, but for an upper directory over it. */
	if (un_dir_is_mountpoint(dir, true))
		return -EXDEV;
	if ((p & UN_PROT_IMMUTABLE) || (remove && (p & UN_PROT_APPEND)))
		return -EPERM;
	return 0;
}

int un_prot_victim(struct un_fs *fs, struct un_inode *inode)
{
	int p = un_prot(fs, inode);

	return p < 0 ? p : p ? -EPERM : 0;
}

int un_prot_set(struct un_fs *fs, struct un_inode *inode, unsigned prot)
{
	struct un_at at;
	int r;

	un_inode_lock(inode);
	r = un_at_locked(fs, inode, &at);
	UN_ASSERT(inode->upper);
	if (r == 0) {
		r = un_prot_mark(fs, at.dirfd, at.name, prot);
		if (r == 0)
			inode->prot = (uint8_t)prot;
		un_at_done(fs, &at);
	}
	un_inode_unlock(inode);
	return r;
}
