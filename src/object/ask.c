/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the layers have under a name. One of them may not answer for long (a disk, a server, a FUSE layer that hangs), and
 * meanwhile nobody is to wait for this directory who needs another one: so it is asked without the directory's lock, and
 * asked again if names have changed.
 */
#include "ask_i.h"

#include "object/dir.h"
#include "object/object.h"
#include "object/stand-in.h"

#include <errno.h>

/* Where numbers do not last, others stand in for them from here on. */
static void stand_in(struct un_hit *h, const char *name)
{
	h->real_ino = h->st.stx_ino;
	if (!un_layer_numbers_last(h->layer, S_ISDIR(h->st.stx_mode)))
		h->st.stx_ino = un_stand_in(h->dir, h->name ? h->name : name);
}

/* With ns let go while layers may take long. What they said counts only if nobody has changed anything meanwhile. */
static int ask_apart(struct un_fs *fs, struct un_inode *dir, const char *name, unsigned from,
		     bool first_only, struct un_question *q, struct un_found *f) UN_NS_READ
{
	int r;

	un_dir_merge_apart(fs, dir, &q->v, &q->md);
	un_ns_unlock(dir);
	r = un_merge_lookup(&q->md, name, from, first_only, f);
	un_ns_read(dir);
	if (un_view_done(fs, &q->v, false))
		return r;
	if (r == 0)
		un_found_done(f);
	return UN_ASK_CHANGED;
}

int un_ask_layers(struct un_fs *fs, struct un_inode *dir, const char *name, bool all, bool apart,
		  struct un_question *q, struct un_found *f)
{
	unsigned from = 0;
	bool first_only = false;
	int r;

	if (!all && un_dir_listing(fs, dir)) {
		struct un_entry *e = un_listing_find(dir->d->listing, name);

		if (!e || (e->flags & UN_ENTRY_HIDDEN))
			return -ENOENT;
		from = e->pos;
		first_only = e->type == DT_DIR && !(e->flags & UN_ENTRY_MORE);
	} else {
		atomic_fetch_add(&dir->d->asked, dir->d->n);
	}
	if (apart) {
		r = ask_apart(fs, dir, name, from, first_only, q, f);
	} else {
		un_dir_merge(fs, dir, &q->v, &q->md);
		r = un_merge_lookup(&q->md, name, from, first_only, f);
	}
	for (unsigned i = 0; r == 0 && i < f->n; i++)
		stand_in(&f->hits[i], name);
	if (r == 0 && f->data)
		stand_in(f->data, name);
	return r;
}
