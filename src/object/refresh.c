/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory that is used without its path, by who works in it or has it open, is made of the real directories that
 * its path leads to. When others change that somewhere (struct un_fs.stacks), each directory is asked for by its path
 * once more, from the top, before it is used again.
 */
#include "object/changes.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/node.h"
#include "object/object.h"

#include <errno.h>

struct step {
	struct un_inode *dir, *inode; /* references */
	char *name;                   /* of inode in dir */
};

static void step_done(void *p)
{
	struct step *s = p;

	g_free(s->name);
}

/* The names from @inode up to the root, or to what was asked for already. */
static GArray *way_up(struct un_fs *fs, struct un_inode *inode, unsigned now)
{
	GArray *way = g_array_new(FALSE, FALSE, sizeof(struct step));
	char name[NAME_MAX + 1];
	struct un_inode *dir;

	g_array_set_clear_func(way, step_done);
	un_inode_ref(inode);
	while (inode != fs->root && atomic_load(&inode->d->stack_seen) != now &&
	       un_name_any(inode, &dir, name)) {
		struct step s = { .dir = dir, .inode = inode, .name = g_strdup(name) };

		g_array_append_val(way, s);
		inode = un_inode_ref(dir);
	}
	un_inode_put(fs, inode);
	return way;
}

void un_fs_refresh(struct un_fs *fs, struct un_inode *inode)
{
	const unsigned now = atomic_load(&fs->stacks);
	g_autoptr(GArray) way = NULL;

	if (inode->type != DT_DIR || atomic_load(&inode->d->stack_seen) == now)
		return;
	way = way_up(fs, inode, now);
	/* The root, and what has no path any more. */
	if (way->len == 0)
		atomic_store(&inode->d->stack_seen, now);
	for (guint i = way->len; i-- > 0;) {
		const struct step *s = &g_array_index(way, struct step, i);
		struct un_inode *found = NULL;
		int r = un_lookup(fs, s->dir, s->name, &found, NULL);

		/* A question that failed is asked again. */
		if (r == 0 || r == -ENOENT)
			atomic_store(&s->inode->d->stack_seen, now);
		if (r == 0)
			un_inode_put(fs, found);
	}
	for (guint i = 0; i < way->len; i++) {
		un_inode_put(fs, g_array_index(way, struct step, i).dir);
		un_inode_put(fs, g_array_index(way, struct step, i).inode);
	}
}
