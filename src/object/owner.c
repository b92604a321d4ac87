/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who owns what is made. With owners that are shown otherwise than they are stored (layer/owner.h)
 * all rooms from object/ up work with those shown; here is where those stored matter.
 */
#include "layer/layer.h"
#include "layer/owner.h"
#include "layer/setup.h"
#include "object/object.h"
#include "object/owner.h"

#include <errno.h>
#include <unistd.h>

static int decorate(struct un_fs *fs, char **ret_err)
{
	struct un_layers *ls = fs->layers;

	for (unsigned i = fs->upper ? 0 : 1; i <= ls->n + ls->n_data; i++) {
		int r = un_layer_owner(&ls->v[i], fs->owners, i == 0 && !fs->read_only);

		if (r == 0)
			continue;
		*ret_err =
			g_strdup_printf("xattr_permissions: %s: owner and mode cannot be kept in "
					"an extended attribute: %s",
					ls->v[i].path, g_strerror(-r));
		return -1;
	}
	return 0;
}

/* The daemon's own, which nobody changes while it runs, as many as there are (65,536 at most). */
static void find_groups(struct un_fs *fs)
{
	int n = getgroups(0, NULL);

	if (n <= 0)
		return;
	fs->groups = g_new(gid_t, n);
	n = getgroups(n, fs->groups);
	fs->n_groups = n < 0 ? 0 : (unsigned)n;
}

int un_owners_add_layer(struct un_fs *fs, struct un_layer *l)
{
	return fs->owners ? un_layer_owner(l, fs->owners, false) : 0;
}

int un_owners_init(struct un_fs *fs, const struct un_owners *o, char **ret_err)
{
	fs->euid = fs->uid;
	fs->egid = fs->gid;
	find_groups(fs);
	if (!o || !un_owners_any(o))
		return 0;
	fs->owners = o;
	fs->override = o->override != UN_OVERRIDE_NONE;
	fs->any_uid = fs->override || o->squash_uid;
	fs->any_gid = fs->override || o->squash_gid;
	fs->uid = un_owners_show_uid(o, fs->euid);
	fs->gid = un_owners_show_gid(o, fs->egid);
	return decorate(fs, ret_err);
}

struct un_cred un_cred_stored(struct un_fs *fs, const struct un_cred *cred)
{
	struct un_cred as = *cred;

	if (fs->owners) {
		/* A caller that no range has, such as the host's root, makes files of the overflow id. */
		un_owners_store_uid(fs->owners, cred->uid, &as.uid);
		un_owners_store_gid(fs->owners, cred->gid, &as.gid);
	}
	return as;
}

static bool own_group(struct un_fs *fs, gid_t gid)
{
	if (gid == fs->gid)
		return true;
	if (fs->owners && !un_owners_store_gid(fs->owners, gid, &gid))
		return false;
	for (unsigned i = 0; i < fs->n_groups; i++)
		if (fs->groups[i] == gid)
			return true;
	return false;
}

int un_may_own(struct un_fs *fs, uid_t uid, gid_t gid)
{
	if (uid == (uid_t)-1 || gid == (gid_t)-1)
		return -EOVERFLOW;
	if (fs->privileged ||
	    ((fs->any_uid || uid == fs->uid) && (fs->any_gid || own_group(fs, gid))))
		return 0;
	return -EPERM;
}

int un_may_chown(struct un_fs *fs, const struct un_setattr *a)
{
	const struct un_owners *o = fs->owners;
	id_t stored;

	if (o && (a->valid & UN_SET_UID) && !o->squash_uid &&
	    !un_owners_store_uid(o, a->uid, &stored))
		return -EOVERFLOW;
	if (o && (a->valid & UN_SET_GID) && !o->squash_gid &&
	    !un_owners_store_gid(o, a->gid, &stored))
		return -EOVERFLOW;
	return un_may_own(fs, a->valid & UN_SET_UID ? a->uid : fs->uid,
			  a->valid & UN_SET_GID ? a->gid : fs->gid);
}

int un_own_new(struct un_fs *fs, int dirfd, const char *name, int parent_fd,
	       const struct statx *parent, const struct un_cred *cred)
{
	struct un_cred as = un_cred_stored(fs, cred);
	struct un_layer *u = fs->upper;
	struct statx st;
	int r;

	if (parent->stx_mode & S_ISGID)
		as.gid = parent->stx_gid;
	if (!fs->owners)
		return u->ops->chown(u, dirfd, name, as.uid, as.gid);
	/* What the parent shows may be in no range. */
	r = un_layer_owner_stat(u, parent_fd, "", &st);
	if (r < 0)
		return r;
	if (parent->stx_mode & S_ISGID)
		as.gid = st.stx_gid;
	return un_layer_owner_chown(u, dirfd, name, as.uid, as.gid);
}

int un_own_as(struct un_fs *fs, const struct un_at *from, const struct statx *st, int dirfd,
	      const char *name)
{
	struct un_layer *u = fs->upper;
	struct statx stored;
	int r;

	if (!fs->owners)
		return u->ops->chown(u, dirfd, name, st->stx_uid, st->stx_gid);
	r = un_layer_owner_stat(from->layer, from->dirfd, from->name, &stored);
	return r < 0 ? r : un_layer_owner_chown(u, dirfd, name, stored.stx_uid, stored.stx_gid);
}
