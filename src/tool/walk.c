/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each directory of the upper is looked at beside the one of the lowers that it goes on with: that which is
 * merged with it, or, if it is new, that which it hides. Two objects are the same "before" and "after" if they
 * have the same place, or if a redirect says so.
 */
#include "walk_i.h"

#include "moves_i.h"
#include "names_i.h"

#include <errno.h>
#include <string.h>

struct place {
	struct un_tool_stack *now; /* the upper's directory on top */
	struct un_tool_stack *was; /* NULL: there is nothing before */
	const char *path;
	const char *was_path; /* in the lowers; NULL with `was` */
	bool merged;          /* what is below the upper in `now` is `was` */
};

struct walk {
	struct un_tool_views *views;
	const struct un_tool_walker *w;
	struct un_tool_moves moves;
	uint64_t names;
};

/* A name under way. */
struct subject {
	const struct place *p;
	const char *name;
	char *path, *was_path; /* owned; was_path NULL: nothing was there */
	struct un_found now, was;
	bool gone; /* what was here is elsewhere now */
};

static int walk_dir(struct walk *k, const struct place *p);

/* ---- telling ------------------------------------------------------------------------------------------- */

static int tell(struct walk *k, const struct subject *s, enum un_tool_kind kind, const char *from)
{
	const struct un_tool_change c = {
		.path = s->path,
		.from = from,
		.kind = kind,
		.name = s->name,
		.was_name = s->name,
		.now = s->now.n ? &s->now : NULL,
		.was = s->was.n ? &s->was : NULL,
	};

	return k->w->change(k->w->data, &c);
}

static int trouble(struct walk *k, const char *path, int r)
{
	k->w->trouble(k->w->data, path, r);
	return 0;
}

/*
 * The object found as @name, compared with one it goes on with. @kind: what is told if that is not just that
 * something of it differs.
 */
static int tell_compared(struct walk *k, const struct subject *s, const struct un_tool_side *was,
			 enum un_tool_kind kind, const char *from)
{
	const struct un_tool_side now = { k->views->layers, &s->now.hits[0], &s->now, s->name };
	struct un_tool_change c = { .path = s->path,
				    .from = from,
				    .kind = kind,
				    .name = s->name,
				    .was_name = was->name,
				    .now = &s->now,
				    .was = was->found };
	GPtrArray *xattrs = NULL;
	int r = un_tool_compare(&now, was, &c.what, &xattrs);

	if (r < 0) {
		r = trouble(k, s->path, r);
	} else {
		c.xattrs = xattrs;
		if (kind == UN_TOOL_SAME && c.what)
			c.kind = UN_TOOL_CHANGED;
		r = k->w->change(k->w->data, &c);
	}
	g_clear_pointer(&xattrs, g_ptr_array_unref);
	return r;
}

/* ---- one name ------------------------------------------------------------------------------------------- */

/* What is below a directory of the upper, once it was told itself. */
static int descend(struct walk *k, const struct subject *s, const char *was_path, bool hides)
{
	bool merged = s->now.n > 1;
	struct place in = { .path = s->path, .was_path = was_path, .merged = merged };
	int r = 0;

	in.now = un_tool_stack_of(s->p->now, &s->now, s->name, 0, &r);
	if (in.now && merged)
		in.was = un_tool_stack_of(s->p->now, &s->now, s->name, 1, &r);
	else if (in.now && hides)
		in.was = un_tool_stack_of(s->p->was, &s->was, s->name, 0, &r);
	/* Redirects in it lead to what the lowers alone would show. */
	if (in.was)
		in.was->root = k->views->was;
	if (r == 0)
		r = walk_dir(k, &in);
	else
		r = trouble(k, s->path, r);
	un_tool_stack_free(in.now);
	un_tool_stack_free(in.was);
	return r;
}

/* What was here is not what is here now, and is not elsewhere either. */
static int tell_replaced(struct walk *k, const struct subject *s)
{
	const struct un_tool_change c = { .path = s->path,
					  .kind = UN_TOOL_REMOVED,
					  .name = s->name,
					  .was_name = s->name,
					  .was = &s->was };

	return s->was.n && !s->gone ? k->w->change(k->w->data, &c) : 0;
}

/* It goes on with something that the lowers have at @from, another place than this one. */
static int visit_moved(struct walk *k, struct subject *s, const char *from)
{
	g_autofree char *base = g_path_get_basename(from);
	struct un_tool_stack *in;
	struct un_found was;
	bool moved = un_tool_moved_to(&k->moves, from, s->path);
	bool dir = S_ISDIR(s->now.hits[0].st.stx_mode);
	int r = un_tool_lookup_path(k->views->was, from, &was, &in);

	if (r == 0 && was.n) {
		const struct un_tool_side side = { k->views->layers, &was.hits[0], &was, base };

		r = tell_replaced(k, s);
		/* A second name of a file that is elsewhere as well is a new file to whoever looks. */
		if (r == 0 && !moved && !dir)
			r = tell(k, s, UN_TOOL_ADDED, NULL);
		else if (r == 0)
			r = tell_compared(k, s, &side, moved ? UN_TOOL_MOVED : UN_TOOL_COPIED,
					  from);
		if (r == 0 && dir)
			r = descend(k, s, from, false);
	} else {
		r = trouble(k, s->path, r < 0 ? r : -ENOENT);
	}
	un_found_done(&was);
	un_tool_stack_free(in);
	return r;
}

/* Does it go on with what was here? */
static bool is_in_place(const struct subject *s)
{
	const struct un_hit *lower = un_tool_lower_part(&s->now), *was;

	if (!s->now.redirect)
		return true;
	if (!s->was.n || s->gone || !lower)
		return s->was.n && !s->gone;
	was = un_tool_lower_part(&s->was);
	return was && un_tool_same(lower, was);
}

static int visit_present(struct walk *k, struct subject *s)
{
	const struct un_tool_side was = { k->views->layers, s->was.hits, &s->was, s->name };
	bool dir = S_ISDIR(s->now.hits[0].st.stx_mode);
	int r;

	if (!is_in_place(s) && un_tool_lower_part(&s->now)) {
		g_autofree char *from = un_tool_redirected(&s->now, s->p->was_path);

		if (from)
			return visit_moved(k, s, from);
	}
	if (!s->was.n || s->gone) {
		r = tell(k, s, UN_TOOL_ADDED, NULL);
		return r == 0 && dir ? descend(k, s, NULL, false) : r;
	}
	if ((s->now.hits[0].st.stx_mode ^ s->was.hits[0].st.stx_mode) & S_IFMT) {
		r = tell(k, s, UN_TOOL_TYPE, NULL);
		return r == 0 && dir ? descend(k, s, NULL, false) : r;
	}
	r = tell_compared(k, s, &was, UN_TOOL_SAME, NULL);
	return r == 0 && dir ? descend(k, s, s->was_path, true) : r;
}

static int look(struct subject *s)
{
	int r = un_tool_lookup(s->p->now, s->name, &s->now);

	if (r == 0 && s->p->was)
		r = un_tool_lookup(s->p->was, s->name, &s->was);
	return r;
}

static int visit(struct walk *k, const struct place *p, const char *name)
{
	struct subject s = { .p = p, .name = name };
	int r;

	if (k->w->progress && ++k->names % 256 == 0)
		k->w->progress(k->w->data, k->names);
	s.path = un_tool_join(p->path, name);
	r = look(&s);
	if (p->was) {
		s.was_path = un_tool_join(p->was_path, name);
		s.gone = un_tool_moved_away(&k->moves, s.was_path);
	}
	if (r < 0)
		r = trouble(k, s.path, r);
	/* Of the lowers: somebody changes the upper meanwhile. */
	else if (s.now.n && s.now.hits[0].layer->index == 0)
		r = visit_present(k, &s);
	else if (!s.now.n && s.was.n && !s.gone)
		r = tell(k, &s, UN_TOOL_REMOVED, NULL);
	un_found_done(&s.now);
	un_found_done(&s.was);
	g_free(s.path);
	g_free(s.was_path);
	return r;
}

/* ---- one directory -------------------------------------------------------------------------------------- */

/* What @p hides is missing in it, unless it has something of the same name. */
static int add_hidden(const struct place *p, GPtrArray *names)
{
	struct un_listing *l;
	const struct un_entry *e;
	int r = un_merge_list(&p->was->d, NULL, &l);

	if (r < 0)
		return r;
	for (size_t at = 0; (e = un_listing_at(l, &at)); at++)
		g_ptr_array_add(names, g_strdup(e->name));
	un_listing_free(l);
	un_tool_names_settle(names);
	return 0;
}

static int walk_dir(struct walk *k, const struct place *p)
{
	g_autoptr(GPtrArray) names = NULL;
	int r = un_tool_subjects(p->now->v[0], &names);

	if (r == 0 && p->was && !p->merged)
		r = add_hidden(p, names);
	if (r < 0)
		return trouble(k, p->path, r);
	for (unsigned i = 0; i < names->len && r == 0; i++)
		r = visit(k, p, names->pdata[i]);
	return r;
}

/* ---- the roots ------------------------------------------------------------------------------------------ */

static int root_found(const struct un_tool_stack *root, struct un_found *ret)
{
	struct un_tool_dir *dir = root->v[0];

	*ret = (struct un_found){ .n = 1, .d = &root->d };
	ret->hits = &ret->one;
	ret->one = (struct un_hit){ .layer = dir->layer, .dir = root->d.ref(dir) };
	return dir->layer->ops->stat(dir->layer, dir->fd, "", &ret->one.st);
}

static int visit_root(struct walk *k)
{
	g_autofree char *dot = g_strdup(".");
	struct subject s = { .name = "", .path = dot };
	int r = root_found(k->views->now, &s.now);

	if (r == 0)
		r = root_found(k->views->was, &s.was);
	if (r == 0) {
		const struct un_tool_side was = { k->views->layers, s.was.hits, &s.was, "" };

		r = tell_compared(k, &s, &was, UN_TOOL_SAME, NULL);
	}
	un_found_done(&s.now);
	un_found_done(&s.was);
	return r;
}

int un_tool_walk(struct un_tool_views *views, const struct un_tool_walker *w)
{
	struct walk k = { .views = views, .w = w };
	const struct place root = { .now = views->now,
				    .was = views->was,
				    .path = ".",
				    .was_path = ".",
				    .merged = views->now->d.n > 1 };
	int r = un_tool_moves_find(views, w->progress, w->data, &k.moves);

	if (r == 0)
		r = visit_root(&k);
	if (r == 0)
		r = walk_dir(&k, &root);
	un_tool_moves_done(&k.moves);
	return r;
}
