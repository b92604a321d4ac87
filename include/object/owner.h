/* SPDX-License-Identifier: GPL-2.0-or-later */
/* To whom a file belongs, as stored. */
#pragma once

#include <sys/types.h>

struct statx;
struct un_at;
struct un_cred;
struct un_fs;
struct un_layer;
struct un_owners;
struct un_setattr;

/* Decorates the layers if @o asks for it; @o may be NULL. 0, or -1 and a sentence in *ret_err. */
int un_owners_init(struct un_fs *fs, const struct un_owners *o, char **ret_err);
/* The same for a lower that comes later: 0 or -errno. */
int un_owners_add_layer(struct un_fs *fs, struct un_layer *l);
/* The ids, as stored, that files made by @cred belong to. */
struct un_cred un_cred_stored(struct un_fs *fs, const struct un_cred *cred);
/* Can such ids be stored (-EOVERFLOW) by this daemon (-EPERM)? */
int un_may_own(struct un_fs *fs, uid_t uid, gid_t gid);
/* The same for the ids that a setattr sets. */
int un_may_chown(struct un_fs *fs, const struct un_setattr *a);
/*
 * Give the new (dirfd, name) in the upper to @cred; the directory it is for has the attributes
 * @parent.
 */
int un_own_new(struct un_fs *fs, int dirfd, const char *name, int parent_fd,
	       const struct statx *parent, const struct un_cred *cred);
/* Give (dirfd, name) in the upper the owner of @from, which shows the attributes @st. */
int un_own_as(struct un_fs *fs, const struct un_at *from, const struct statx *st, int dirfd,
	      const char *name);
