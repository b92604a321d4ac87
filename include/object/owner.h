/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whom a file belongs to, as stored. */
#pragma once

#include <sys/types.h>

struct statx;
struct un_at;
struct un_cred;
struct un_fs;
struct un_layer;
struct un_owners;
struct un_setattr;

/* Decorates the layers if @o (or NULL) wishes so. 0, or -1 and a sentence. */
int un_owners_init(struct un_fs *fs, const struct un_owners *o, char **ret_err);
/* Whom files made by @cred belong to, as stored. */
struct un_cred un_cred_stored(struct un_fs *fs, const struct un_cred *cred);
/* Can such ids be stored (-EOVERFLOW) by this daemon (-EPERM)? */
int un_may_own(struct un_fs *fs, uid_t uid, gid_t gid);
/* For a setattr: no more ids than those it sets. */
int un_may_chown(struct un_fs *fs, const struct un_setattr *a);
/* The owner of the new (dirfd, name) in the upper, in a directory with the attributes @parent. */
int un_own_new(struct un_fs *fs, int dirfd, const char *name, int parent_fd,
	       const struct statx *parent, const struct un_cred *cred);
/* The owner of @from for (dirfd, name) in the upper; @st: of the former, as shown. */
int un_own_as(struct un_fs *fs, const struct un_at *from, const struct statx *st, int dirfd,
	      const char *name);
