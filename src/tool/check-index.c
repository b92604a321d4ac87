/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WORK/index: which lower file is which file of the upper, and how many names it has. */
#include "check_i.h"

#include "layer/whiteout.h"
#include "names_i.h"

#include <errno.h>

static void check_marks(struct un_tool_checker *c)
{
	const struct un_tool_finding f = { .fault = UN_TOOL_INDEX_FOREIGN,
					   .place = "index",
					   .path = "." };
	bool lower, upper;
	int r = un_layers_index_fits(c->layers, &lower, &upper);

	if (r < 0)
		un_tool_check_trouble(c, "index", "", r);
	if (!lower)
		un_tool_find(c, &f, "it was made over another lower than %s", c->layers->v[1].path);
	if (!upper)
		un_tool_find(c, &f, "it belongs to another upper than %s", c->layers->v[0].path);
}

/* What is counted at the entry, and what was seen in the upper. */
static void check_links(struct un_tool_checker *c, const struct un_tool_finding *f,
			const struct statx *st, const struct un_index_entry *e)
{
	const guint64 ino = st->stx_ino;
	unsigned seen = GPOINTER_TO_UINT(g_hash_table_lookup(c->links, &ino));

	if (!e->understood)
		un_tool_find(c, f, "its count of links cannot be understood");
	else if (seen + 1 != st->stx_nlink)
		un_tool_find(c, f, "it has %u names in the upper, and %u links", seen,
			     st->stx_nlink - 1);
	else if (e->counted && e->shown < (long)seen)
		un_tool_find(c, f, "it is shown with %ld links, and has %u names in the upper",
			     e->shown, seen);
	else if (e->counted && e->lower_links && e->shown > (long)seen + (long)e->lower_links)
		un_tool_find(
			c, f,
			"it is shown with %ld links, and has %u names in the upper and %u below",
			e->shown, seen, e->lower_links);
}

static void check_entry(struct un_tool_checker *c, const struct un_at *at)
{
	struct un_tool_finding f = { .place = "index", .path = at->name, .at = at };
	struct un_index_entry e;
	struct statx st;
	int r = at->layer->ops->stat(at->layer, at->dirfd, at->name, &st);

	if (r < 0) {
		un_tool_check_trouble(c, "index", at->name, r);
		return;
	}
	if (at->name[0] == '#') {
		f.fault = UN_TOOL_INDEX_LEFTOVER;
		f.mend = UN_TOOL_UNLINK;
		if (!S_ISCHR(st.stx_mode) || un_whiteout_probe(at, &st) <= 0)
			un_tool_find(c, &f, "what a mount had begun here was not finished");
		return;
	}
	r = un_layers_index_entry(c->layers, at->name, &st, &e);
	if (r < 0) {
		f.fault = UN_TOOL_INDEX_NAME;
		un_tool_find(c, &f,
			     "this is no entry of an index, and no mount will take it for one");
		return;
	}
	/* Entries of a kernel with nfs_export, which are not ours to judge. */
	if (S_ISDIR(st.stx_mode) || (S_ISCHR(st.stx_mode) && un_whiteout_probe(at, &st) > 0))
		return;
	if (!e.alive && c->lowers) {
		f.fault = UN_TOOL_INDEX_ORPHAN;
		f.mend = st.stx_nlink == 1 ? UN_TOOL_UNLINK : UN_TOOL_LEAVE;
		un_tool_find(c, &f, "no name leads to it any more");
		return;
	}
	f.fault = UN_TOOL_LINK_COUNT;
	check_links(c, &f, &st, &e);
}

void un_tool_check_index(struct un_tool_checker *c)
{
	struct un_layer *u = &c->layers->v[0];
	const struct un_tool_dir dir = { .layer = u, .fd = c->layers->index };
	g_autoptr(GPtrArray) names = NULL;
	int r;

	if (c->layers->index < 0)
		return;
	r = un_tool_names(&dir, &names);
	if (r < 0) {
		un_tool_check_trouble(c, "index", "", r);
		return;
	}
	check_marks(c);
	for (unsigned i = 0; i < names->len; i++)
		check_entry(c, UN_AT(u, dir.fd, names->pdata[i]));
}
