/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From staged to visible: the one link or rename, and what is known of the object from then on. It takes the
 * parent's ns, since it changes what is behind a name there.
 */
#include "copyup-data_i.h"
#include "copyup_i.h"

#include "copyup/copyup.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/setup.h"
#include "merge/merge.h"
#include "object/attr.h"
#include "object/data.h"
#include "object/dir.h"
#include "object/fdcache.h"
#include "object/impure.h"
#include "object/index.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/place.h"
#include "object/published.h"
#include "object/realdir.h"
#include "object/same.h"
#include "object/stage.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* So often it is begun anew when the lower file changes meanwhile. */
#define COPY_TRIES 5

struct publish {
	struct un_copyup_ctx *c;
	int dirfd;
	const char *name;
};

static int link_or_rename(void *data)
{
	struct publish *p = data;
	struct un_copyup_ctx *c = p->c;
	struct un_layer *u = c->fs->upper;

	if (!c->named) {
		int r = u->ops->link(u, c->tmp, "", p->dirfd, p->name);

		c->unlinkable = un_cap_refused(u, &u->caps.tmpfile, "link of a nameless file", r);
		return r;
	}
	return un_publish_rename(c->fs, c->name, c->st.stx_mode, p->dirfd, p->name,
				 RENAME_NOREPLACE);
}

/*
 * fsync=strict: commit the name that was published. It is visible by now, so a failure changes
 * nothing.
 */
static void sync_parent(struct un_copyup_ctx *c, int dirfd)
{
	struct un_layer *u = c->fs->upper;

	if (!c->fs->sync_strict)
		return;
	un_autofd int fd = un_at_open(UN_AT(u, dirfd, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (fd >= 0)
		un_ignore(u->ops->fsync(u, fd, false));
}

/*
 * Note where the data is: in the lower still (metacopy), or in the copy. Returns what is to be
 * freed.
 */
static struct un_data *move_data(struct un_copyup_ctx *c) UN_INODE_LOCKED(c->inode)
{
	struct un_inode *inode = c->inode;
	struct un_data *old = inode->data, *data;

	inode->metacopy = c->meta;
	if (!c->meta) {
		inode->data = NULL;
		return old;
	}
	if (old) {
		old->lower_links = old->lower_links || c->st.stx_nlink > 1;
		return NULL;
	}
	data = g_new0(struct un_data, 1);
	data->layer = c->lower;
	data->rdir = un_realdir_ref(inode->rdir);
	data->rname = g_ref_string_acquire(inode->rname);
	data->dev = un_stx_dev(&c->st);
	data->rino = c->st.stx_ino;
	data->blocks = c->st.stx_blocks;
	data->lower_links = c->st.stx_nlink > 1;
	inode->data = data;
	return NULL;
}

static void adopt_tmp(struct un_copyup_ctx *c, bool named) UN_INODE_LOCKED(c->inode)
{
	struct un_fs *fs = c->fs;
	struct un_fd *f;

	if (c->tmp < 0)
		return;
	/* A metacopy file is not to be read by this descriptor; with a name it is found again. */
	if (c->meta && named) {
		un_close(c->tmp);
	} else {
		f = un_fdcache_add(fs->fds, &c->inode->io, fs->upper, c->tmp,
				   (c->meta ? 0 : UN_FD_READ | UN_FD_WRITE) | UN_FD_PIN);
		/* Pinned only if it is the sole way to the file. */
		if (named)
			un_fdcache_pin(fs->fds, &c->inode->io, false);
		un_fdcache_put(fs->fds, f);
	}
	c->tmp = -1;
}

/* The inode stands for the upper object from now on. Its lock is held; a directory's ns, too. */
static void adopt_locked(struct un_copyup_ctx *c, struct un_realdir *parent, const char *name)
	UN_INODE_LOCKED(c->inode)
{
	struct un_inode *inode = c->inode;
	struct un_fs *fs = c->fs;

	un_published(inode, true);
	inode->upper = true;
	inode->origin = c->origin;
	inode->dev = un_stx_dev(&c->ust);
	inode->rino = c->ust.stx_ino;
	inode->prot_known = true;
	inode->born = un_born(&c->ust);
	if (!c->origin)
		un_ino_own(fs, inode, parent, parent ? name : "");
	/* A directory is found with what is below, an indexed file by the index, if its mark can be read. */
	if (c->origin && inode->type != DT_DIR &&
	    (!c->index || (!fs->privileged && !(c->st.stx_mode & S_IRUSR))))
		un_ino_keep(fs, inode->dev, inode->rino, inode->ino);
	else
		un_ino_unkeep(fs, inode->dev, inode->rino);
	if (inode->type == DT_DIR) {
		struct un_dirinfo *d = inode->d;
		struct un_realdir *rd = un_realdir_new(fs->upper, parent, name, &c->ust);

		d->stack = g_renew(struct un_realdir *, d->stack, d->n + 2);
		memmove(d->stack + 1, d->stack, d->n * sizeof(*d->stack));
		d->stack[0] = rd;
		d->n++;
		un_ino_own_dir(fs, inode);
		un_ns_is_held(inode); /* publish() */
		un_live_raised_locked(fs, c->inode);
		if (d->listing)
			un_listing_shift(d->listing);
		c->named = false;
		return;
	}
	un_fdcache_clear(fs->fds, &inode->io);
	un_data_free(fs, move_data(c));
	un_place_set_locked(fs, c->inode, parent, name);
	un_key_add(fs, inode);
	adopt_tmp(c, parent != NULL);
	c->named = false;
}

/* The directory, which was as @before, has one name more than before; nobody is to see that from its times. */
static int link_hidden(struct publish *p, struct un_inode *dir, struct un_realdir *parent,
		       const struct statx *before)
{
	struct un_copyup_ctx *c = p->c;
	struct un_layer *u = c->fs->upper;
	struct statx after;
	int r;

	un_attr_hide_begin(dir, before);
	r = un_dir_mark_impure(c->fs, parent, p->dirfd);
	if (r == 0)
		r = un_lifted(c->fs, p->dirfd, "", link_or_rename, p);
	if (r == 0)
		c->hidden = un_stage_times(c->fs, p->dirfd, "", before) == 0 &&
			    u->ops->stat(u, p->dirfd, "", &after) == 0;
	un_attr_hide_end(dir, c->hidden ? &after : NULL);
	return r;
}

static int publish_locked(struct un_copyup_ctx *c, struct un_inode *dir, struct un_realdir *parent,
			  const char *name) UN_NS_WRITE
{
	struct un_layer *u = c->fs->upper;
	struct publish p = { .c = c, .name = name };
	struct un_state now = {
		.exists = true, .in_upper = true, .lower = true, .type = c->inode->type
	};
	struct un_fd *fd;
	struct statx pst;
	int r = un_realdir_open(c->fs, parent, &fd);

	if (r < 0)
		return r;
	p.dirfd = fd->fd;
	r = u->ops->stat(u, fd->fd, "", &pst);
	if (r == 0)
		r = link_hidden(&p, dir, parent, &pst);
	if (r == 0) {
		sync_parent(c, fd->fd);
		un_inode_lock(c->inode);
		adopt_locked(c, parent, name);
		un_inode_unlock(c->inode);
		if (dir->d->listing) {
			struct un_entry *e = un_listing_find(dir->d->listing, name);
			uint8_t more = e ? e->flags & UN_ENTRY_MORE : 0;

			un_dir_note(c->fs, dir, name, &now,
				    c->inode->type == DT_DIR ? 0 : c->ust.stx_ino);
			e = un_listing_find(dir->d->listing, name);
			if (e && c->inode->type == DT_DIR)
				e->flags |= more | UN_ENTRY_MORE;
		}
	}
	un_fdcache_put(c->fs->fds, fd);
	return r;
}

/* The object has lost its last name: its copy is a nameless file that lives as long as it is open. */
static int adopt_nameless(struct un_copyup_ctx *c)
{
	int r;

	if (c->tmp < 0)
		return -ENOENT; /* nothing of a removed special file can be changed */
	if (c->named) {
		un_ignore(c->fs->upper->ops->unlink(c->fs->upper, c->fs->work, c->name, 0));
		c->named = false;
	}
	un_inode_lock(c->inode);
	adopt_locked(c, NULL, NULL);
	r = un_orphan_nameless(c->fs, c->inode);
	un_inode_unlock(c->inode);
	return r;
}

/* Publish the file in the index. Names of it follow, if any is known. */
static int publish_index(struct un_copyup_ctx *c)
{
	struct un_fs *fs = c->fs;
	struct un_index *ix = c->inode->ix;
	struct publish p = { .c = c, .dirfd = fs->indexdir->fd->fd, .name = ix->name };
	int r = fs->index_marked ? 0 : un_layers_mark_index(fs->layers);

	if (r == 0) {
		fs->index_marked = true;
		r = link_or_rename(&p);
	}
	if (r < 0) {
		if (r == -EEXIST)
			un_log(LOG_ERR, "index/%s was made by somebody else", ix->name);
		return r == -EEXIST ? -EIO : r;
	}
	fs->index_used = true;
	atomic_fetch_add(&fs->index_seq, 1);
	sync_parent(c, p.dirfd);
	un_inode_lock(c->inode);
	ix->lower_nlink = c->st.stx_nlink;
	ix->delta += (int)ix->lower_nlink - 1;
	ix->absolute = true;
	ix->published = true;
	adopt_locked(c, fs->indexdir, ix->name);
	un_inode_unlock(c->inode);
	return 0;
}

static int alias_any(struct un_copyup_ctx *c)
{
	int r = -EAGAIN;

	if (c->hint) {
		r = un_alias(c->fs, c->inode, c->hint_dir, c->hint, false);
		return r == -EAGAIN ? -ENOENT : r;
	}
	for (int tries = 0; r == -EAGAIN && tries < 100; tries++) {
		char name[NAME_MAX + 1];
		struct un_inode *dir;

		if (!un_name_any(c->inode, &dir, name))
			return 0;
		/* Its directory may not be in the upper: then another name was meant. */
		r = dir->upper ? un_alias(c->fs, c->inode, dir, name, false) : 0;
		un_inode_put(c->fs, dir);
	}
	return r;
}

static int publish(struct un_copyup_ctx *c)
{
	if (c->index) {
		int r = publish_index(c);

		return r < 0 ? r : alias_any(c);
	}
	for (int tries = 0;; tries++) {
		char name[NAME_MAX + 1];
		struct un_inode *dir, *there;
		struct un_ns_set locked;
		int r;

		if (!un_name_any(c->inode, &dir, name))
			return adopt_nameless(c);
		un_ns_write_set(&locked, dir, c->inode->type == DT_DIR ? c->inode : NULL, NULL);
		there = un_name_find(c->fs, dir, name);
		r = -EAGAIN; /* removed between the two lines above */
		if (there == c->inode)
			r = publish_locked(c, dir, un_dir_upper(c->fs, dir), name);
		un_inode_put(c->fs, there);
		un_ns_unlock_set(&locked);
		if (r == 0 && c->fs->stale && (!c->hidden || !c->origin))
			c->fs->stale(c->fs->stale_data, dir->id,
				     c->origin ? UN_STALE_ATTRS : UN_STALE_LISTING);
		un_inode_put(c->fs, dir);
		if (r != -EAGAIN || tries == 100)
			return r;
	}
}

/*
 * The digest for the metacopy mark: that of a metacopy file in the lower, or, if asked for,
 * fs-verity's.
 */
static void find_digest(struct un_copyup_ctx *c)
{
	struct un_fd *f;
	ssize_t n = -ENODATA;

	if (c->inode->metacopy) {
		n = un_mark_get(UN_AT(c->lower, c->ldir, c->lname), UN_MARK_METACOPY, c->digest,
				sizeof(c->digest));
	} else if (c->fs->verity != UN_VERITY_OFF &&
		   un_file_get(c->fs, c->inode, UN_FD_READ, &f) == 0) {
		n = un_data_digest(f->layer, f->fd, c->digest);
		un_fdcache_put(c->fs->fds, f);
	}
	c->digest_len = n > 4 ? (size_t)n : 0;
	if (!c->digest_len && c->fs->verity == UN_VERITY_REQUIRE)
		c->meta = false;
}

/* What was copied is still in the lower file: then it is of one version, whatever the times say. */
static int is_other_data(struct un_copyup_ctx *c)
{
	off_t size = (off_t)c->st.stx_size;
	struct un_fd *src;
	int r;

	if (c->meta || c->size == 0 || size == 0)
		return 0;
	r = un_file_get(c->fs, c->inode, UN_FD_READ, &src);
	if (r < 0)
		return r;
	r = un_copyup_differs(c->fs, src, c->tmp, c->size < 0 ? size : MIN(c->size, size));
	un_fdcache_put(c->fs->fds, src);
	/* To read the copy has moved its time of access. */
	if (r == 0 && c->size < 0)
		r = un_stage_times(c->fs, c->tmp, "", &c->st);
	return r;
}

/* Has somebody written to the lower file since c->st, which tells of it now? 1, 0 or -errno. */
static int has_changed(struct un_copyup_ctx *c, const struct timespec *began)
{
	struct statx now;
	int r;

	if (!c->fs->live || c->inode->type != DT_REG || c->covered)
		return 0;
	r = c->lower->ops->stat(c->lower, c->ldir, c->lname, &now);
	if (r == 0 && !un_is_it(c->lower, c->inode, &now))
		r = -ESTALE;
	if (r < 0)
		return r;
	r = un_copyup_is_another(&c->st, &now, began);
	if (r < 0)
		r = is_other_data(c);
	c->st = now;
	return r;
}

/* The copy is of one version of the lower file, or there is none. */
static int stage(struct un_copyup_ctx *c)
{
	for (int tries = 0; tries < COPY_TRIES; tries++) {
		struct timespec began;
		int r;

		clock_gettime(CLOCK_REALTIME, &began);
		r = un_copyup_stage(c);
		if (r == 0)
			r = has_changed(c, &began);
		if (r <= 0)
			return r;
		un_copyup_unstage(c);
	}
	un_log(LOG_ERR, "%s: '%s' is written to while it is copied up, again and again",
	       c->lower->path, c->lname);
	return -EIO;
}

/* While a lower is taken out no file may come to need it. Who sees that none is taken out is waited for. */
static bool begin_meta(struct un_fs *fs)
{
	atomic_fetch_add(&fs->making_meta, 1);
	if (!atomic_load(&fs->removing_lower))
		return true;
	atomic_fetch_sub(&fs->making_meta, 1);
	return false;
}

int un_copyup_run(struct un_copyup_ctx *c)
{
	const bool meta = c->size == UN_COPY_META && begin_meta(c->fs);
	struct un_at at;
	int r;

	un_inode_lock(c->inode);
	r = un_at_locked(c->fs, c->inode, &at);
	if (r == 0) {
		c->lower = at.layer;
		c->ldir = at.dirfd;
		c->lpin = at.pin;
		c->covered = c->inode->covered;
		g_strlcpy(c->lname, at.name, sizeof(c->lname));
		r = at.layer->ops->stat(at.layer, at.dirfd, at.name, &c->st);
		/* Others may have put something else there. */
		if (r == 0 && !un_is_it(at.layer, c->inode, &c->st))
			r = -ESTALE;
		c->index = c->inode->ix != NULL;
		c->meta = meta && c->fs->metacopy_create && !c->covered &&
			  c->inode->type == DT_REG && c->st.stx_size > 0;
	}
	un_inode_unlock(c->inode);
	if (r == 0 && c->meta)
		find_digest(c);
	if (r == 0)
		r = stage(c);
	if (r == 0)
		r = publish(c);
	/* A file staged without a name could not be linked: stage it once more, with a name. */
	if (r < 0 && c->unlinkable) {
		un_copyup_unstage(c);
		r = stage(c);
		if (r == 0)
			r = publish(c);
	}
	if (r == -EINTR)
		un_copyup_unname(c);
	else
		un_copyup_unstage(c);
	un_fdcache_put(c->fs->fds, c->lpin);
	if (meta)
		atomic_fetch_sub(&c->fs->making_meta, 1);
	return r;
}
