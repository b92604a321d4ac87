/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes. The kernel caches none of them, so "there is none" is answered from memory
 * once a listing has said so (src/transport/README.md, Extended attributes).
 */
#include "copyup/copyup.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/owner.h"
#include "object/cred.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/prot.h"
#include "union/union.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

/* Names the user would see in a layer's list, copied to @out; returns the length. */
static size_t visible(const struct un_layer *l, const char *list, size_t len, bool trusted,
		      char *out)
{
	size_t n = 0;

	for (const char *p = list; p < list + len; p += strlen(p) + 1) {
		char buf[XATTR_NAME_MAX + 1];
		const char *name = un_xattr_from_layer(l, p, buf);

		if (!name || (!trusted && g_str_has_prefix(name, "trusted.")))
			continue;
		strcpy(out + n, name);
		n += strlen(name) + 1;
	}
	return n;
}

static bool has_trusted(const char *list, size_t len)
{
	for (const char *p = list; p < list + len; p += strlen(p) + 1)
		if (g_str_has_prefix(p, "trusted."))
			return true;
	return false;
}

/*
 * Reads the names as @cred sees them (NULL: all); *ret is freed with g_free(). Remembers if there are
 * none. trusted.* is for root's eyes, as on any file system.
 */
static ssize_t list_locked(struct un_fs *fs, struct un_inode *inode, const struct un_cred *cred,
			   char **ret) UN_INODE_LOCKED(inode)
{
	struct un_at at;
	char *list;
	ssize_t n;
	size_t all;
	int r = un_at_locked(fs, inode, &at);

	if (r < 0)
		return r;
	list = NULL;
	n = at.hollow ? 0 : un_xattr_list(&at, &list);
	un_at_done(fs, &at);
	if (n < 0)
		return n;
	*ret = g_malloc((size_t)n + 1);
	all = visible(at.layer, list, (size_t)n, true, *ret);
	inode->xattrs = all ? UN_XATTR_SOME : UN_XATTR_NONE;
	if (cred && has_trusted(*ret, all) && !un_is_root(cred))
		all = visible(at.layer, list, (size_t)n, false, *ret);
	free(list);
	return (ssize_t)all;
}

/* Others do not exist on any file system, which is another answer than "there is none". */
static bool in_known_namespace(const char *name)
{
	return g_str_has_prefix(name, "user.") || g_str_has_prefix(name, "security.") ||
	       g_str_has_prefix(name, "trusted.") || strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}

static ssize_t get_locked(struct un_fs *fs, struct un_inode *inode, const char *name, void *buf,
			  size_t size) UN_INODE_LOCKED(inode)
{
	char real[XATTR_NAME_MAX + 1];
	struct un_at at;
	ssize_t n;

	un_live_settle_locked(fs, inode);
	if (inode->xattrs == UN_XATTR_UNKNOWN && in_known_namespace(name)) {
		g_autofree char *list = NULL;

		n = list_locked(fs, inode, NULL, &list);
		if (n < 0)
			return n;
	}
	/*
	 * Labels where nothing is labelled: "not supported" is what ls(1) remembers of a whole file system,
	 * while it asks for each file again after "none".
	 */
	if (inode->xattrs == UN_XATTR_NONE && !fs->selinux && strcmp(name, "security.selinux") == 0)
		return -EOPNOTSUPP;
	if (inode->xattrs == UN_XATTR_NONE && in_known_namespace(name))
		return -ENODATA;
	n = un_at_locked(fs, inode, &at);
	if (n < 0)
		return n;
	n = at.hollow || un_xattr_to_layer(at.layer, name, real) < 0
		    ? -ENODATA
		    : at.layer->ops->getxattr(at.layer, at.dirfd, at.name, real, buf, size);
	un_at_done(fs, &at);
	return n;
}

static bool is_dead(const struct un_inode *inode)
{
	return inode->type == DT_DIR && inode->d->dead;
}

ssize_t un_getxattr(struct un_fs *fs, struct un_inode *inode, const char *name, void *buf,
		    size_t size)
{
	ssize_t n;

	un_inode_lock(inode);
	n = is_dead(inode) ? -ENODATA : get_locked(fs, inode, name, buf, size);
	un_inode_unlock(inode);
	return n;
}

ssize_t un_listxattr(struct un_fs *fs, struct un_inode *inode, const struct un_cred *cred,
		     char *buf, size_t size)
{
	g_autofree char *list = NULL;
	ssize_t n = 0;

	un_inode_lock(inode);
	un_live_settle_locked(fs, inode);
	if (inode->xattrs != UN_XATTR_NONE && !is_dead(inode))
		n = list_locked(fs, inode, cred, &list);
	un_inode_unlock(inode);
	if (n <= 0 || size == 0)
		return n;
	if ((size_t)n > size)
		return -ERANGE;
	memcpy(buf, list, (size_t)n);
	return n;
}

/* Before a change of an xattr: may it be made? Then the object is copied up. */
static int prepare(struct un_fs *fs, struct un_inode *inode)
{
	int r;

	if (fs->read_only)
		return -EROFS;
	r = un_prot_victim(fs, inode);
	if (r < 0)
		return r;
	if (is_dead(inode))
		return -ENOENT;
	return un_copyup(fs, inode, UN_COPY_META);
}

/* The setter of an ACL is not in the file's group: the set-gid bit goes, as chmod would do it. */
static int drop_sgid(const struct un_at *at)
{
	struct statx st;
	int r = at->layer->ops->stat(at->layer, at->dirfd, at->name, &st);

	if (r < 0 || !(st.stx_mode & S_ISGID))
		return r;
	return at->layer->ops->chmod(at->layer, at->dirfd, at->name,
				     st.stx_mode & 07777 & ~(mode_t)S_ISGID);
}

int un_setxattr(struct un_fs *fs, struct un_inode *inode, const char *name, const void *value,
		size_t size, int flags, bool kill_sgid)
{
	char real[XATTR_NAME_MAX + 1];
	struct un_at at;
	int r = un_xattr_to_layer(&fs->layers->v[0], name, real);

	if (r == 0 && fs->owners && un_layer_owner_hides(fs->owners, real))
		r = -EPERM;
	if (r == 0)
		r = prepare(fs, inode);
	if (r < 0)
		return r;
	un_inode_lock(inode);
	r = un_at_locked(fs, inode, &at);
	if (r == 0) {
		r = at.hollow ? -EXDEV
			      : at.layer->ops->setxattr(at.layer, at.dirfd, at.name, real, value,
							size, flags);
		if (r == 0)
			inode->xattrs = UN_XATTR_UNKNOWN;
		/* The kernel says so for both kinds; file systems act on it for the one that sets a mode. */
		if (r == 0 && kill_sgid && strcmp(name, "system.posix_acl_access") == 0)
			r = drop_sgid(&at);
		un_at_done(fs, &at);
	}
	un_inode_unlock(inode);
	return r;
}

int un_removexattr(struct un_fs *fs, struct un_inode *inode, const char *name)
{
	char real[XATTR_NAME_MAX + 1];
	struct un_at at;
	ssize_t n;
	int r;

	if (fs->read_only)
		return -EROFS;
	/* One that does not exist is no reason to copy anything up. An ACL may be removed twice. */
	n = un_getxattr(fs, inode, name, NULL, 0);
	if (n == -ENODATA && g_str_has_prefix(name, "system.posix_acl_"))
		return 0;
	if (n < 0)
		return (int)n;
	r = un_xattr_to_layer(&fs->layers->v[0], name, real);
	if (r == 0)
		r = prepare(fs, inode);
	if (r < 0)
		return r;
	un_inode_lock(inode);
	r = un_at_locked(fs, inode, &at);
	if (r == 0) {
		r = at.hollow ? -EXDEV
			      : at.layer->ops->removexattr(at.layer, at.dirfd, at.name, real);
		inode->xattrs = UN_XATTR_UNKNOWN;
		un_at_done(fs, &at);
	}
	un_inode_unlock(inode);
	return r;
}
