/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a name in a merged directory to its inode. A name that is known is answered from the table; a
 * directory with a complete listing says at once that a name is missing, or in which layer it is.
 */
#include "core_i.h"

#include "layer/origin.h"

/*
 * A directory without a listing is asked layer by layer; after this many questions the whole of it
 * is read, which costs about as much as the questions did.
 */
#define ASKED_ENOUGH 48

bool un_name_too_long(const char *name)
{
	return strlen(name) > NAME_MAX;
}

/*
 * An upper directory over a lower one that was made elsewhere gets its origin, as the kernel gives it
 * one when it is looked up. Failure costs nothing but that.
 */
static void give_origin(struct un_fs *fs, struct un_inode *dir, const char *name,
			const struct un_found *f)
{
	struct un_realdir *up = dir->d->stack[f->hits[0].pos];
	struct un_realdir *low = dir->d->stack[f->hits[1].pos];
	uint8_t value[UN_ORIGIN_MAX];
	struct un_fd *ufd, *lfd;
	ssize_t n = -1;

	if (fs->read_only || !fs->upper->caps.xattr || up->hollow || low->hollow)
		return;
	if (un_realdir_open(fs, low, &lfd) == 0) {
		n = un_origin_format(low->layer, lfd->fd, name, value);
		un_fdcache_put(fs->fds, lfd);
	}
	if (n <= 0 || un_realdir_open(fs, up, &ufd) < 0)
		return;
	if (un_dir_mark_impure(fs, up, ufd->fd) == 0)
		un_ignore(un_mark_set(fs->upper, fs->layers->dialect, ufd->fd, name, UN_MARK_ORIGIN,
				      value, (size_t)n));
	un_fdcache_put(fs->fds, ufd);
	/* The mark has moved its time of change. */
	if (fs->stale)
		fs->stale(fs->stale_data, dir->id, false);
}

/* The stack of a directory that was found; its number is that of the topmost lower, if any. */
static void fill_directory(struct un_fs *fs, struct un_inode *dir, const char *name,
			   const struct un_found *f, struct un_inode *inode)
{
	struct un_dirinfo *d = inode->d;

	d->stack = g_new(struct un_realdir *, f->n + 1); /* + 1: an upper may come by copy-up */
	for (unsigned i = 0; i < f->n; i++) {
		const struct un_hit *h = &f->hits[i];
		struct un_realdir *parent = dir->d->stack[h->pos];
		struct un_realdir *rd = un_realdir_new(parent->layer, parent, name, &h->st);

		rd->opaque = h->opaque;
		rd->xwhiteouts = h->xwhiteouts;
		rd->impure = h->impure;
		d->stack[d->n++] = rd;
	}
	inode->dev = d->stack[0]->dev;
	inode->rino = d->stack[0]->ino;
	inode->origin = inode->upper && (f->n > 1 || f->hits[0].origin);
	if (inode->upper && f->n > 1 && !f->hits[0].origin)
		give_origin(fs, dir, name, f);
	if (inode->upper && d->n > 1)
		inode->ino = un_ino_map(fs, d->stack[1]->dev, d->stack[1]->ino);
	else
		inode->ino = un_ino_map(fs, inode->dev, inode->rino);
}

static void fill_prot(struct un_inode *inode, const struct statx *st)
{
	if (st->stx_attributes & STATX_ATTR_IMMUTABLE)
		inode->prot |= UN_PROT_IMMUTABLE;
	if (st->stx_attributes & STATX_ATTR_APPEND)
		inode->prot |= UN_PROT_APPEND;
	inode->prot_known = !inode->upper;
}

static int fill_file(struct un_fs *fs, struct un_inode *dir, const char *name,
		     const struct un_hit *h, struct un_inode *inode)
{
	struct un_realdir *rd = dir->d->stack[h->pos];

	inode->dev = un_stx_dev(&h->st);
	inode->rino = h->st.stx_ino;
	inode->maybe_setid = h->st.stx_mode & (S_ISUID | S_ISGID);
	inode->hollow = un_stx_is_mountpoint(&h->st);
	inode->rdir = un_realdir_ref(rd);
	inode->rname = g_ref_string_new(name);
	if (inode->upper) {
		struct un_fd *fd;
		int r = un_realdir_open(fs, rd, &fd);

		if (r < 0)
			return r;
		inode->ino = un_ino_of_upper(fs, fd->fd, name, &h->st, rd->impure, &inode->origin);
		un_fdcache_put(fs->fds, fd);
	} else {
		inode->ino = un_ino_map(fs, inode->dev, inode->rino);
	}
	return 0;
}

/* One more name of an upper file that is known already; NULL if it is not. */
static struct un_inode *known_upper_file(struct un_fs *fs, const struct un_hit *h)
{
	struct un_inode *inode = un_key_find(fs, un_stx_dev(&h->st), h->st.stx_ino);

	if (inode && inode->type != IFTODT(h->st.stx_mode)) {
		un_inode_put(fs,
			     inode); /* its number was given to something else behind our back */
		inode = NULL;
	}
	return inode;
}

/*
 * A lower may contain the upper or the work directory; seen through it they would show themselves
 * being changed. ELOOP, as in the kernel (overlay-format 1.3).
 */
static bool is_trap(struct un_fs *fs, struct un_inode *dir, const struct un_found *f)
{
	for (unsigned i = 0; fs->upper && i < f->n; i++) {
		const struct statx *st = &f->hits[i].st;

		if (!S_ISDIR(st->stx_mode) || dir->d->stack[f->hits[i].pos]->layer == fs->upper)
			continue;
		for (unsigned t = 0; t < G_N_ELEMENTS(fs->traps); t++)
			if (fs->traps[t].ino == st->stx_ino && fs->traps[t].dev == un_stx_dev(st))
				return true;
	}
	return false;
}

static int inode_from_found(struct un_fs *fs, struct un_inode *dir, const char *name,
			    const struct un_found *f, struct un_inode **ret)
{
	const struct un_hit *top = &f->hits[0];
	bool upper = dir->d->stack[top->pos]->layer == fs->upper;
	struct un_inode *inode = NULL;
	int r = 0;

	if (upper && !S_ISDIR(top->st.stx_mode))
		inode = known_upper_file(fs, top);
	if (inode) {
		*ret = inode;
		return 0;
	}
	if (is_trap(fs, dir, f))
		return -ELOOP;
	inode = un_inode_new(fs, IFTODT(top->st.stx_mode));
	inode->upper = upper;
	fill_prot(inode, &top->st);
	if (S_ISDIR(top->st.stx_mode))
		fill_directory(fs, dir, name, f, inode);
	else
		r = fill_file(fs, dir, name, top, inode);
	if (r < 0) {
		un_inode_put(fs, inode);
		return r;
	}
	if (upper && inode->type != DT_DIR) {
		/* Somebody may have found it at the same time, under this or another name. */
		struct un_inode *other = un_key_claim(fs, inode);

		if (other) {
			un_inode_put(fs, inode);
			inode = other;
		}
	}
	*ret = inode;
	return 0;
}

/* timeout=0: is what the layers say still what @inode stands for? */
static bool still_the_same(struct un_fs *fs, struct un_inode *dir, struct un_inode *inode,
			   const struct un_found *f)
{
	bool upper = dir->d->stack[f->hits[0].pos]->layer == fs->upper;

	if (inode->type != IFTODT(f->hits[0].st.stx_mode) || inode->upper != upper)
		return false;
	if (inode->type != DT_DIR)
		return inode->dev == un_stx_dev(&f->hits[0].st) &&
		       inode->rino == f->hits[0].st.stx_ino;
	if (inode->d->n != f->n)
		return false;
	for (unsigned i = 0; i < f->n; i++)
		if (inode->d->stack[i]->dev != un_stx_dev(&f->hits[i].st) ||
		    inode->d->stack[i]->ino != f->hits[i].st.stx_ino)
			return false;
	return true;
}

static int ask_layers(struct un_fs *fs, struct un_inode *dir, const char *name, struct un_found *f)
{
	struct un_merge_dir md;
	unsigned from = 0;
	bool first_only = false;

	if (dir->d->listing && !fs->revalidate) {
		struct un_entry *e = un_listing_find(dir->d->listing, name);

		if (!e || (e->flags & UN_ENTRY_HIDDEN))
			return -ENOENT;
		from = e->pos;
		first_only = e->type == DT_DIR && !(e->flags & UN_ENTRY_MORE);
	} else {
		atomic_fetch_add(&dir->d->asked, dir->d->n);
	}
	un_dir_merge(fs, dir, &md);
	return un_merge_lookup(&md, name, from, first_only, f);
}

static int publish(struct un_fs *fs, struct un_inode *dir, const char *name, bool replace,
		   struct un_inode **inode)
{
	struct un_inode *other;

	/* A hard link found again under a name it has. */
	other = un_name_find(fs, dir, name);
	if (other == *inode) {
		un_inode_put(fs, other);
		return 0;
	}
	un_inode_put(fs, other);
	if ((*inode)->upper && (*inode)->type != DT_DIR)
		un_inode_locate(fs, *inode, un_dir_upper(fs, dir), name);
	other = un_name_add(fs, *inode, dir, name, replace);
	if (other) {
		un_inode_put(fs, *inode);
		*inode = other;
	}
	return 0;
}

int un_lookup_locked(struct un_fs *fs, struct un_inode *dir, const char *name,
		     struct un_inode **ret, struct statx *st)
{
	struct un_inode *inode = NULL, *known = NULL;
	struct un_found f;
	int r;

	if (dir->d->dead)
		return -ENOENT;
	known = un_name_find(fs, dir, name);
	if (known && !fs->revalidate) {
		inode = known;
		goto found;
	}
	r = ask_layers(fs, dir, name, &f);
	if (r == 0 && f.n == 0)
		r = -ENOENT;
	if (r == 0 && known && still_the_same(fs, dir, known, &f)) {
		inode = un_inode_ref(known);
	} else {
		/* Only proof takes the name away, not a question that failed. */
		if (known && (r == 0 || r == -ENOENT))
			un_name_drop(fs, known, dir, name);
		if (r == 0)
			r = inode_from_found(fs, dir, name, &f, &inode);
		if (r == 0)
			r = publish(fs, dir, name, known != NULL, &inode);
	}
	un_inode_put(fs, known);
	if (r == 0)
		un_found_done(&f);
	if (r < 0)
		return r;
found:
	if (st) {
		r = un_getattr(fs, inode, st);
		if (r < 0) {
			un_inode_put(fs, inode);
			return r;
		}
	}
	*ret = inode;
	return 0;
}

int un_dir_list_locked(struct un_fs *fs, struct un_inode *dir)
{
	struct un_merge_dir md;
	struct un_listing *l;
	int r;

	if (dir->d->listing && !fs->revalidate)
		return 0;
	un_dir_merge(fs, dir, &md);
	r = un_merge_list(&md, &l);
	/* Want of descriptors is ours, not the caller's. */
	for (int i = 0; (r == -EMFILE || r == -ENFILE) && i < 16; i++) {
		if (!un_fdcache_squeeze(fs->fds))
			g_usleep(1000u << MIN(i, 7));
		r = un_merge_list(&md, &l);
	}
	if (r < 0)
		return r == -EMFILE ? -ENFILE : r;
	un_listing_free(dir->d->listing);
	dir->d->listing = l;
	return 0;
}

int un_lookup(struct un_fs *fs, struct un_inode *dir, const char *name, struct un_inode **ret,
	      struct statx *st)
{
	int r;

	if (un_name_too_long(name))
		return -ENAMETOOLONG;
	if (dir->type != DT_DIR)
		return -ENOTDIR;
	if (atomic_load(&dir->d->asked) > ASKED_ENOUGH && !fs->revalidate) {
		un_ns_write(dir);
		if (!dir->d->listing && !dir->d->dead) {
			atomic_store(&dir->d->asked, 0);
			/* A directory that cannot be read can be searched all the same. */
			un_ignore(un_dir_list_locked(fs, dir));
		}
		un_ns_unlock(dir);
	}
	un_ns_read(dir);
	r = un_lookup_locked(fs, dir, name, ret, st);
	un_ns_unlock(dir);
	return r;
}

/* ---- for changes ---------------------------------------------------------------------------------- */

static int lower_positive(struct un_fs *fs, struct un_inode *dir, const char *name, bool *ret)
{
	struct un_merge_dir md;
	int r;

	un_dir_merge(fs, dir, &md);
	r = un_merge_lower_positive(&md, name, un_dir_upper(fs, dir) != NULL);
	if (r < 0)
		return r;
	*ret = r;
	return 0;
}

/*
 * A listing does not look into regular files, so one that nobody has looked up yet may turn out to be
 * an xattr whiteout.
 */
static bool trusted_entry(struct un_fs *fs, struct un_inode *dir, const struct un_entry *e)
{
	struct un_inode *known;

	if ((e->flags & UN_ENTRY_HIDDEN) || (e->type != DT_REG && e->type != DT_UNKNOWN))
		return true;
	known = un_name_find(fs, dir, e->name);
	un_inode_put(fs, known);
	return known != NULL;
}

int un_name_state(struct un_fs *fs, struct un_inode *dir, const char *name, bool want_lower,
		  struct un_state *ret)
{
	struct un_merge_dir md;
	struct un_found f;
	bool has_upper = un_dir_upper(fs, dir) != NULL;
	int r;

	*ret = (struct un_state){ 0 };
	if (dir->d->listing && !fs->revalidate) {
		struct un_entry *e = un_listing_find(dir->d->listing, name);

		if (!e)
			return 0;
		if (!trusted_entry(fs, dir, e))
			goto ask;
		ret->whiteout = e->flags & UN_ENTRY_WHITEOUT;
		ret->lower = e->flags & UN_ENTRY_LOWER;
		ret->exists = !(e->flags & UN_ENTRY_HIDDEN);
		ret->in_upper = ret->exists && has_upper && e->pos == 0;
		ret->type = e->type;
		return 0;
	}
ask:
	un_dir_merge(fs, dir, &md);
	r = un_merge_lookup(&md, name, 0, true, &f);
	if (r < 0)
		return r;
	ret->whiteout = f.upper_whiteout;
	ret->exists = f.n > 0;
	if (f.n > 0) {
		ret->in_upper = has_upper && f.hits[0].pos == 0;
		ret->type = IFTODT(f.hits[0].st.stx_mode);
	}
	un_found_done(&f);
	if (ret->exists && !ret->in_upper)
		ret->lower = true;
	else if (want_lower)
		return lower_positive(fs, dir, name, &ret->lower);
	return 0;
}

void un_dir_note(struct un_fs *fs, struct un_inode *dir, const char *name,
		 const struct un_state *now, uint64_t ino)
{
	uint8_t flags = now->lower ? UN_ENTRY_LOWER : 0;

	if (!dir->d->listing)
		return;
	if (now->exists)
		un_listing_put(dir->d->listing, name, 0, now->type, flags, ino);
	else if (now->whiteout)
		un_listing_put(dir->d->listing, name, 0, DT_CHR,
			       flags | UN_ENTRY_WHITEOUT | UN_ENTRY_HIDDEN, 0);
	else
		un_listing_remove(dir->d->listing, name);
}

struct list_args {
	struct un_fs *fs;
	struct un_inode *dir;
};

static int list_dir(void *data)
{
	struct list_args *a = data;

	return un_dir_list_locked(a->fs, a->dir);
}

/* For a removal, which needs no right to read the directory: its owner's mode may forbid that. */
static int list_for_removal(struct un_fs *fs, struct un_inode *dir)
{
	struct list_args a = { fs, dir };
	struct un_fd *fd;
	int r = un_dir_list_locked(fs, dir);

	if (r != -EACCES || fs->privileged || !un_dir_upper(fs, dir))
		return r;
	if (un_realdir_open(fs, un_dir_upper(fs, dir), &fd) < 0)
		return r;
	r = un_lifted(fs, fd->fd, "", list_dir, &a);
	un_fdcache_put(fs->fds, fd);
	return r;
}

int un_dir_empty_locked(struct un_fs *fs, struct un_inode *dir)
{
	int r = list_for_removal(fs, dir);
	uint64_t at = 0;

	if (r < 0)
		return r;
	un_listing_settle(dir->d->listing);
	/* An unmarked xattr whiteout is listed but not found; it does not count. */
	for (;;) {
		const struct un_entry *e = un_listing_next(dir->d->listing, at);
		struct un_inode *inode;

		if (!e)
			return 1;
		at = e->cookie;
		if (e->type != DT_REG && e->type != DT_UNKNOWN)
			return 0;
		r = un_lookup_locked(fs, dir, e->name, &inode, NULL);
		if (r == 0)
			un_inode_put(fs, inode);
		if (r != -ENOENT)
			return 0;
	}
}

int un_dir_prepare(struct un_fs *fs, struct un_inode *dir, bool remove)
{
	int r;

	if (fs->read_only)
		return -EROFS;
	if (dir->type != DT_DIR)
		return -ENOTDIR;
	r = un_prot_dir(fs, dir, remove);
	if (r < 0)
		return r;
	return un_copyup(fs, dir, UN_COPY_ALL);
}
