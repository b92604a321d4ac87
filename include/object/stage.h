/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making objects in the work directory and publishing them; modes that are lifted for an instant. */
#pragma once

#include "object/node.h"
#include "object/object.h"

#include "layer/marks.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct statx;
struct un_create;
struct un_cred;
struct un_fs;

#define UN_STAGE_NAME 64
void un_stage_name(struct un_fs *fs, char ret[UN_STAGE_NAME]);
/* Remove the entries of a directory that shows no names: whiteouts and the like. */
int un_stage_empty(struct un_fs *fs, int dirfd, const char *name);
/* Remove a staged directory with all that is in it. */
void un_stage_discard(struct un_fs *fs, const char *name);
/*
 * The same for one that showed no names when it was moved away. -ENOTEMPTY: others have put something into it that
 * moment, and it is as it was.
 */
int un_stage_discard_hidden(struct un_fs *fs, const char *name);
/*
 * Make the object in @dirfd, owned by @cred, with the kernel's own rules for umask, default ACL and
 * set-gid. Returns a descriptor for regular files (opened O_RDWR), else 0; -EACCES: the directory
 * does not let @cred in by itself, stage it.
 */
int un_make_direct(struct un_fs *fs, int dirfd, const char *name, const struct un_create *what,
		   const struct un_cred *cred);
/*
 * The same in the work directory, inheriting from the upper directory @parent. Regular files are
 * opened. The caller publishes or discards @name.
 */
int un_make_staged(struct un_fs *fs, int parent, const char *name, const struct un_create *what,
		   const struct un_cred *cred);
/* Before the daemon stages for itself: the umask of the last caller must not apply. */
void un_stage_umask(void);
/* Set a mode that was lifted back to @mode; tried twice, and logged if it cannot be. */
void un_stage_mode(struct un_fs *fs, int dirfd, const char *name, mode_t mode);
/* Set atime and mtime to those of @st. */
int un_stage_times(struct un_fs *fs, int dirfd, const char *name, const struct statx *st);
/*
 * Run @fn; if a plain user's daemon is refused (-EACCES) because the upper directory (dirfd, name) has
 * a mode that keeps its own owner out, run it again with that mode lifted for an instant. A kill in
 * that instant leaves the mode lifted: the last rung, for read-only directories only.
 */
int un_lifted(struct un_fs *fs, int dirfd, const char *name, int (*fn)(void *data), void *data);
/* un_mark_set() on an object of the upper, lifted if need be; @value NULL: un_mark_clear(). */
int un_mark_lifted(struct un_fs *fs, int dirfd, const char *name, enum un_mark mark,
		   const void *value, size_t size);
int un_mark_dir(struct un_fs *fs, int dirfd, const char *name, enum un_mark mark,
		const char *value);
/*
 * rename() in the upper of a staged @name from work (a directory if @mode says so, with that mode) to
 * (dirfd, to): a plain user's read-only directory cannot be moved as it is.
 */
int un_publish_rename(struct un_fs *fs, const char *name, mode_t mode, int dirfd, const char *to,
		      unsigned flags);
/*
 * Must @what be staged? A set-gid file made with the caller's ids alone would lose the bit where
 * the caller is in its group by a supplementary group, which the daemon cannot take on.
 */
bool un_make_needs_stage(struct un_fs *fs, const struct un_create *what,
			 const struct un_cred *cred);
/* O_TMPFILE in the upper directory @dirfd, owned by @cred; a descriptor or -errno. */
int un_make_tmpfile(struct un_fs *fs, int dirfd, const struct un_create *what,
		    const struct un_cred *cred);
