/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The index: WORK/index has, under the handle of a lower file with several names, the upper file that
 * it was copied up to. All names lead there, also those that are not in the upper yet, so a change
 * under one is seen under each (fuse-unionfs-format(5), INDEX).
 *
 * The link count shown counts names of either kind. It is kept in the nlink mark as a difference: to
 * the upper's count ("U-1"), which names made and removed in the upper do not disturb; or, while a name
 * is being added that exists below already, to the lower's ("L+0"), which nothing disturbs.
 *
 *   copy-up: stage with "L+0" --link--> index
 *   a name:  "L.." --link from the index--> name in the upper, "U.."
 *   the last name goes: the link in the index goes. After a crash before that: a mount does it.
 */
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/origin.h"
#include "object/attr.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/impure.h"
#include "object/index.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/published.h"
#include "object/realdir.h"
#include "object/stage.h"
#include "object/tar.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool un_index_wanted(struct un_fs *fs, const struct un_layer *l, const struct statx *st)
{
	if (!fs->indexdir || l->index == 0 || S_ISDIR(st->stx_mode) || st->stx_nlink < 2)
		return false;
	if (!l->caps.handles || un_stx_is_covered(st))
		return false;
	/* user.* marks cannot be set on anything but files: the count would not be known next time. */
	return S_ISREG(st->stx_mode) || l->dialect == UN_DIALECT_TRUSTED;
}

static struct un_index *index_new(const uint8_t *origin, size_t len)
{
	struct un_index *ix = g_malloc0(sizeof(*ix) + 2 * len + 1);

	un_origin_hex(origin, len, ix->name);
	return ix;
}

int un_index_new(struct un_fs *fs, const struct un_at *at, const struct statx *st,
		 struct un_index **ret)
{
	uint8_t origin[UN_ORIGIN_MAX];
	ssize_t n = un_origin_format(at, origin);
	struct un_index *ix;

	*ret = NULL;
	if (n < 0)
		return fs->index_used ? (int)n : 0;
	/* The name must fit: handles of up to 100 bytes do. */
	if (n == 0 || n * 2 > NAME_MAX)
		return 0;
	ix = index_new(origin, (size_t)n);
	un_index_is_ours(ix);
	ix->dev = un_stx_dev(st);
	ix->ino = st->stx_ino;
	ix->lower_nlink = st->stx_nlink;
	*ret = ix;
	return 0;
}

/* ---- what is there ---------------------------------------------------------------------------------- */

static int open_dir(struct un_fs *fs)
{
	return fs->indexdir->fd->fd;
}

int un_index_look(struct un_fs *fs, const struct un_index *ix, const struct statx *lower,
		  struct statx *st)
{
	struct un_layer *u = fs->upper;
	uint8_t origin[UN_ORIGIN_MAX];
	char hex[2 * UN_ORIGIN_MAX + 1];
	ssize_t n;
	int r;

	if (!fs->index_used)
		return 0;
	r = u->ops->stat(u, open_dir(fs), ix->name, st);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (IFTODT(st->stx_mode) != IFTODT(lower->stx_mode)) {
		un_log(LOG_ERR, "index/%s is not of the kind of the lower file it stands for",
		       ix->name);
		return -EIO;
	}
	n = un_mark_get(UN_AT(u, open_dir(fs), ix->name), UN_MARK_ORIGIN, origin, sizeof(origin));
	/* Closed to its own owner: the name says the same. */
	if (n == -EACCES || n == -EPERM)
		return 1;
	if (n > 0)
		un_origin_hex(origin, (size_t)n, hex);
	if (n > 0 && strcmp(hex, ix->name) == 0)
		return 1;
	un_log(LOG_ERR, "index/%s does not have the origin that its name tells", ix->name);
	return n < 0 && n != -ENODATA && n != -ERANGE ? (int)n : -EIO;
}

int un_index_is_metacopy(struct un_fs *fs, const struct un_index *ix)
{
	unsigned marks;
	int r = un_marks_scan(UN_AT(fs->upper, open_dir(fs), ix->name), &marks);

	return r < 0 ? r : !!(marks & UN_HAS(UN_MARK_METACOPY));
}

char *un_index_redirect(struct un_fs *fs, const struct un_index *ix)
{
	char value[PATH_MAX];
	ssize_t n = un_mark_get(UN_AT(fs->upper, open_dir(fs), ix->name), UN_MARK_REDIRECT, value,
				sizeof(value));

	return n > 0 ? g_strndup(value, (size_t)n) : NULL;
}

struct count_args {
	struct un_fs *fs;
	const char *name;
	char value[32];
	ssize_t len;
};

static int get_count(void *data)
{
	struct count_args *a = data;

	a->len = un_mark_get(UN_AT(a->fs->upper, open_dir(a->fs), a->name), UN_MARK_NLINK, a->value,
			     sizeof(a->value) - 1);
	return a->len == -EACCES ? -EACCES : 0;
}

static void resolve(struct un_index *ix, unsigned nlink) UN_REQUIRES(un_inode_role)
{
	if (!ix->unresolved || !ix->lower_nlink)
		return;
	ix->delta = ix->told + (int)ix->lower_nlink - (int)nlink;
	ix->absolute = true;
	ix->unresolved = false;
}

/* The mark's meaning for a file with @nlink links in the upper. */
static void read_count(struct un_fs *fs, struct un_index *ix, unsigned nlink)
	UN_REQUIRES(un_inode_role)
{
	struct count_args a = { .fs = fs, .name = ix->name };
	long v;
	char *end;

	un_ignore(un_lifted(fs, open_dir(fs), ix->name, get_count, &a));
	/* Never written: made just now by somebody, or not by an overlay. As the kernel has it. */
	ix->delta = 0;
	ix->absolute = false;
	if (a.len < 3)
		return;
	a.value[a.len] = '\0';
	v = strtol(a.value + 1, &end, 10);
	if (*end || v < -(1 << 30) || v > 1 << 30)
		return;
	if (a.value[0] == 'U') {
		ix->delta = (int)v;
	} else if (a.value[0] == 'L') {
		ix->told = (int)v;
		ix->unresolved = true;
		resolve(ix, nlink);
	}
}

void un_index_resolve(struct un_fs *fs, struct un_inode *inode, unsigned lower_nlink)
{
	struct un_index *ix = inode->ix;
	struct statx st;

	un_inode_lock(inode);
	if (ix && ix->published && (ix->unresolved || !ix->lower_nlink)) {
		ix->lower_nlink = lower_nlink;
		if (fs->upper->ops->stat(fs->upper, open_dir(fs), ix->name, &st) == 0)
			resolve(ix, st.stx_nlink);
	} else if (ix && ix->published && ix->lower_nlink != lower_nlink) {
		/* Told from the upper's; until it is written that is what others can know. */
		ix->delta += (int)lower_nlink - (int)ix->lower_nlink;
		ix->lower_nlink = lower_nlink;
	}
	un_inode_unlock(inode);
}

void un_index_named(struct un_fs *fs, struct un_inode *inode)
{
	struct un_index *ix = inode->ix;
	struct statx st;

	un_inode_lock(inode);
	if (ix->published && ix->known > ix->shown && !inode->unlinked &&
	    fs->upper->ops->stat(fs->upper, open_dir(fs), ix->name, &st) == 0)
		ix->delta = MAX(ix->delta, (int)ix->known - (int)st.stx_nlink);
	un_inode_unlock(inode);
}

bool un_index_has(struct un_inode *inode)
{
	bool has;

	un_inode_lock(inode);
	has = inode->ix && inode->ix->published;
	un_inode_unlock(inode);
	return has;
}

void un_index_attach(struct un_fs *fs, struct un_inode *inode, struct un_index *ix,
		     const struct statx *st)
{
	inode->ix = ix;
	ix->inode = inode;
	ix->published = true;
	read_count(fs, ix, st->stx_nlink);
	inode->origin = true;
	/* The place in the index stays, whatever happens to the names. */
	un_place_set_locked(fs, inode, fs->indexdir, inode->ix->name);
}

void un_index_of_upper(struct un_fs *fs, struct un_inode *inode, int dirfd, const char *name,
		       const struct statx *st)
{
	struct un_layer *u = fs->upper;
	uint8_t value[UN_ORIGIN_MAX];
	struct un_origin origin;
	struct un_index *ix;
	struct statx there;
	ssize_t n;

	if (!fs->indexdir || !fs->index_used)
		return;
	n = un_mark_get(UN_AT(u, dirfd, name), UN_MARK_ORIGIN, value, sizeof(value));
	if (n <= 0 || n * 2 > NAME_MAX || un_origin_parse(value, (size_t)n, &origin) < 0)
		return;
	ix = index_new(value, (size_t)n);
	/* A link that was broken while there was no index has an origin, too, but is another file. */
	if (u->ops->stat(u, open_dir(fs), ix->name, &there) < 0 || there.stx_ino != st->stx_ino ||
	    un_stx_dev(&there) != un_stx_dev(st)) {
		g_free(ix);
		return;
	}
	un_ino_of_origin(fs, &origin, &ix->dev, &ix->ino, &ix->lower_nlink);
	un_index_attach(fs, inode, ix, &there);
}

/* ---- names come and go ---------------------------------------------------------------------------- */

static int write_count(struct un_fs *fs, struct un_index *ix, char base, int delta)
{
	char value[32];

	g_snprintf(value, sizeof(value), "%c%+d", base, delta);
	return un_mark_lifted(fs, open_dir(fs), ix->name, UN_MARK_NLINK, value, strlen(value));
}

int un_index_relative_locked(struct un_fs *fs, struct un_inode *inode)
{
	struct un_index *ix = inode->ix;
	int r;

	if (!ix || !ix->published || !ix->absolute)
		return 0;
	r = write_count(fs, ix, 'U', ix->delta);
	if (r == 0)
		ix->absolute = false;
	return r;
}

static int alias_locked(struct un_fs *fs, struct un_inode *inode, int dirfd, const char *name,
			bool quiet) UN_INODE_LOCKED(inode)
{
	struct un_layer *u = fs->upper;
	struct un_index *ix = inode->ix;
	struct statx st, after;
	int r = u->ops->stat(u, open_dir(fs), ix->name, &st);

	if (r == 0 && !ix->absolute)
		r = write_count(fs, ix, 'L', (int)st.stx_nlink + ix->delta - (int)ix->lower_nlink);
	if (r < 0)
		return r;
	ix->absolute = true;
	r = u->ops->link(u, open_dir(fs), ix->name, dirfd, name);
	if (r < 0) {
		/* Who cannot ask the lower could not tell the count next time. */
		un_ignore(un_index_relative_locked(fs, inode));
		return r;
	}
	ix->delta--;
	/* A passing failure is not taken for an answer; without the name "L.." is right. */
	r = un_index_relative_locked(fs, inode);
	if (r < 0)
		r = un_index_relative_locked(fs, inode);
	if (r < 0 && u->ops->unlink(u, dirfd, name, 0) == 0)
		ix->delta++;
	if (r == 0 && quiet && u->ops->stat(u, open_dir(fs), ix->name, &after) == 0)
		un_attr_hide_alias_locked(ix, &st, &after);
	return r;
}

struct alias_args {
	struct un_fs *fs;
	struct un_inode *inode;
	int dirfd;
	const char *name;
	bool quiet;
};

static int alias_lifted(void *data)
{
	struct alias_args *a = data;

	un_inode_is_held(a->inode); /* un_index_alias() */
	return alias_locked(a->fs, a->inode, a->dirfd, a->name, a->quiet);
}

static int make_alias(struct alias_args *a, struct un_inode *dir)
{
	struct un_fs *fs = a->fs;
	int r = un_dir_mark_impure(fs, un_dir_upper(fs, dir), a->dirfd);

	if (r < 0)
		return r;
	un_inode_lock(a->inode);
	r = un_name_ordinary(fs, a->name) ? un_mark_ordinary_locked(fs, a->inode) : 0;
	if (r == 0)
		r = un_lifted(fs, a->dirfd, "", alias_lifted, a);
	un_inode_unlock(a->inode);
	return r;
}

int un_index_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, int dirfd,
		   const char *name, bool quiet)
{
	struct un_layer *u = fs->upper;
	struct alias_args a = { fs, inode, dirfd, name, quiet };
	struct un_state now = {
		.exists = true, .in_upper = true, .lower = true, .type = inode->type
	};
	struct statx parent, after;
	int r = u->ops->stat(u, dirfd, "", &parent);
	bool hidden;

	if (r < 0)
		return r;
	un_attr_hide_begin(dir, &parent);
	r = make_alias(&a, dir);
	hidden = r == 0 && un_stage_times(fs, dirfd, "", &parent) == 0 &&
		 u->ops->stat(u, dirfd, "", &after) == 0;
	un_attr_hide_end(dir, hidden ? &after : NULL);
	if (r < 0)
		return r == -EEXIST ? -ESTALE : r;
	if (!hidden && fs->stale)
		fs->stale(fs->stale_data, dir->id, UN_STALE_ATTRS);
	un_dir_note(fs, dir, name, &now, inode->rino);
	return 0;
}

/* It may be open: hold it by a descriptor, or else by a name in the work directory. */
static void let_go(struct un_fs *fs, struct un_inode *inode) UN_INODE_LOCKED(inode)
{
	struct un_layer *u = fs->upper;
	char orphan[UN_STAGE_NAME];

	/* A name that turns up below later is that of the lower file again. */
	un_links_drop(fs, inode);

	if (un_pin_locked(fs, inode) == 0) {
		un_ignore(u->ops->unlink(u, open_dir(fs), inode->ix->name, 0));
		un_place_set_locked(fs, inode, NULL, NULL);
		return;
	}
	un_stage_name(fs, orphan);
	if (u->ops->rename(u, open_dir(fs), inode->ix->name, fs->work, orphan, 0) < 0)
		return; /* stays in the index, which the next mount clears of it */
	un_place_orphan_locked(fs, inode, orphan);
}

/* Names that are not about to go. */
static unsigned others_known(const struct un_inode *inode) UN_REQUIRES(un_inode_role)
{
	unsigned n = 0;

	for (const struct un_name *name = inode->names; name; name = name->next)
		n += !name->gone;
	return n;
}

void un_index_unlinked_locked(struct un_fs *fs, struct un_inode *inode)
{
	struct un_index *ix = inode->ix;
	unsigned others = others_known(inode);
	struct statx st;
	int r;

	inode->unlinked = false;
	if (!ix->published) {
		/* Still below: a name was hidden without a copy (un_unlink). */
		ix->delta--;
		inode->unlinked = (int)ix->lower_nlink + ix->delta <= 0;
		return;
	}
	r = fs->upper->ops->stat(fs->upper, open_dir(fs), ix->name, &st);
	if (r < 0) {
		inode->unlinked = r == -ENOENT && others == 0;
		return;
	}
	/* Names below may lead to it of which nobody knows how many they are. */
	if (ix->unresolved || (int)st.stx_nlink + ix->delta > 0)
		return;
	/*
	 * Names that came below behind our back were not counted: those that are known, and those in the
	 * upper, show that the count is wrong.
	 */
	others = MAX(others, st.stx_nlink - 1);
	if (others > 0) {
		ix->delta = (int)others - (int)st.stx_nlink;
		return;
	}
	inode->unlinked = true;
	let_go(fs, inode);
}

int un_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name,
	     bool quiet)
{
	struct un_inode *there;
	struct un_state state;
	struct un_fd *fd;
	int r;

	un_ns_write(dir);
	there = un_name_find(fs, dir, name);
	r = there == inode ? un_name_state(fs, dir, name, false, &state) : -EAGAIN;
	if (r == 0 && state.exists && !state.in_upper) {
		r = un_realdir_open(fs, un_dir_upper(fs, dir), &fd);
		if (r == 0) {
			r = un_index_alias(fs, inode, dir, fd->fd, name, quiet);
			un_published(inode, true);
			un_fdcache_put(fs->fds, fd);
		}
	}
	un_inode_put(fs, there);
	un_ns_unlock(dir);
	return r;
}
