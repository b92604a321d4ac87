/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is at a name, as far as changing it needs to know; and whether a directory may change at all. */
#include "core_i.h"

bool un_name_too_long(const char *name)
{
	return strlen(name) > NAME_MAX;
}

bool un_name_reserved(struct un_fs *fs, const char *name)
{
	return fs->upper && fs->upper->tar_names && g_str_has_prefix(name, ".wh.");
}

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
		return r == -ENODATA ? -EIO : r;
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

	atomic_store(&dir->d->accessed, 0);
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
		/* -EPERM: something is there, a mark of it that is not followed; it is listed, too. */
		if (r == 0 || r == -EPERM)
			return 0;
		if (r != -ENOENT)
			return r;
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
