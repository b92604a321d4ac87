/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To whom the files of a layer are shown to belong: with other ids (maps), with one id for all
 * (squash), or with owner and mode kept in an xattr of a file that really is the daemon's
 * ("override": what containers/storage and fuse-overlayfs write).
 *
 * All of it is a decorator of the layer (src/layer/layer-owner.c): its operations take and give
 * ids, modes and kinds as shown. If no option asks for that, no layer is decorated, and nothing
 * costs anything.
 */
#pragma once

#include "layer/choices.h"
#include "layer/layer.h"
#include "util/idmap.h"

#include <stddef.h>

struct un_owners {
	struct un_idmap uids, gids; /* owned by whoever made the struct */
	bool squash_uid, squash_gid;
	uid_t uid; /* with squash_uid */
	gid_t gid;
	uid_t overflow_uid; /* shown for what no range has */
	gid_t overflow_gid;
	enum un_override override;
};

/* Set the overflow ids to the kernel's (/proc/sys/kernel/overflowuid and -gid). */
void un_owners_set_overflow(struct un_owners *o);

/* Does anything in @o ask for a decorator? */
bool un_owners_any(const struct un_owners *o);

/* An id as stored to that shown; an id in no range becomes the overflow id. */
uid_t un_owners_show_uid(const struct un_owners *o, uid_t uid);
gid_t un_owners_show_gid(const struct un_owners *o, gid_t gid);
/*
 * An id as shown to that stored. False: it is in no range, *ret is the overflow id. Ignores
 * squash_*.
 */
bool un_owners_store_uid(const struct un_owners *o, uid_t uid, uid_t *ret);
bool un_owners_store_gid(const struct un_owners *o, gid_t gid, gid_t *ret);

/* ---- the value of the xattr: UID:GID:0MODE[:TYPE] -------------------------------------------------- */

struct un_override_stat {
	uid_t uid;
	gid_t gid;
	mode_t mode; /* permission and set-id bits; with type S_IFIFO, S_IFSOCK, S_IFBLK or S_IFCHR
			  if a regular file stands for one */
	unsigned major, minor; /* of devices */
};

#define UN_OVERRIDE_MAX 80

/*
 * 0, or -EINVAL. The types file, dir and symlink are read and dropped: the file itself tells them.
 */
int un_override_parse(const char *text, size_t len, struct un_override_stat *ret);
/* Returns the length of the value. */
size_t un_override_format(const struct un_override_stat *o, char ret[UN_OVERRIDE_MAX]);
/* The mode of the real object: nobody gets more than all have, and the owner can always get in. */
mode_t un_override_real_mode(mode_t real_type, mode_t shown);

/* ---- POSIX ACLs, as the system.posix_acl_* xattrs have them ---------------------------------------- */

/* Turn the ids in @acl into those shown, in place. A value that is no ACL stays as it is. */
void un_owners_show_acl(const struct un_owners *o, void *acl, size_t len);
/* Turn the ids in @acl into those stored, in place. 0, or -EOVERFLOW: one is in no range. */
int un_owners_store_acl(const struct un_owners *o, void *acl, size_t len);
/* The permission bits of a file that gets @acl as its access ACL; -1: it is no ACL. */
int un_acl_get_mode(const void *acl, size_t len);
/* Set the entries that stand for permission bits to @mode. */
void un_acl_set_mode(void *acl, size_t len, mode_t mode);

/* ---- the decorator ---------------------------------------------------------------------------------- */

/*
 * @o is borrowed. With an override, the root of an upper gets the xattr, which tells others that there
 * may be more: -errno if it cannot have one.
 */
int un_layer_owner(struct un_layer *l, const struct un_owners *o, bool writable);

/*
 * stat and chown of a decorated layer with ids as stored: to copy an owner, even one in no range.
 */
int un_layer_owner_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret);
int un_layer_owner_chown(struct un_layer *l, int dirfd, const char *name, uid_t uid, gid_t gid);
/* Does the decorator keep this xattr for itself? */
bool un_layer_owner_hides(const struct un_owners *o, const char *xattr);
/*
 * The layer below the decorator, through which xattrs are copied from layer to layer: ids in ACLs
 * need no translation then, and may be in no range.
 */
struct un_layer *un_layer_owner_raw(struct un_layer *l);
