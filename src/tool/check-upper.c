/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "check_i.h"

#include "moves_i.h"
#include "names_i.h"
#include "tool_i.h"

#include <errno.h>
#include <string.h>

/* A directory of the upper. */
struct place {
	const struct place *up;
	const struct un_tool_stack *now;
	const char *path;
	const char *was; /* in the lowers; NULL: it has nothing there */
	struct un_at at; /* itself */
	bool opaque;     /* so nothing shows through, whatever is below */
	bool impure;
	bool told_impure, told_announced;
};

/* ---- whiteouts ------------------------------------------------------------------------------------------------ */

/* Announced is a whiteout that is no device by a mark of its directory. */
static void check_announced(struct un_tool_checker *c, struct place *p,
			    const struct un_tool_object *o)
{
	const struct un_tool_finding f = { .fault = UN_TOOL_WHITEOUT_UNANNOUNCED,
					   .place = "upper",
					   .path = p->path,
					   .at = &p->at,
					   .mend = UN_TOOL_MARK,
					   .mark = UN_MARK_OPAQUE,
					   .value = "x" };
	char v[4];

	if (p->told_announced || !S_ISREG(o->st.stx_mode) ||
	    !(o->marks & UN_HAS(UN_MARK_WHITEOUT)) ||
	    un_mark_get(&p->at, UN_MARK_OPAQUE, v, sizeof(v)) != -ENODATA)
		return;
	p->told_announced = true;
	un_tool_find(c, &f,
		     "whiteouts in it are files, and it has no mark opaque=x: they are listed "
		     "where this is a lower");
}

/* @name: what the whiteout @o, by whatever form, is to hide. */
static void check_whiteout(struct un_tool_checker *c, struct place *p,
			   const struct un_tool_object *o, const char *name)
{
	struct un_tool_finding f = {
		.fault = UN_TOOL_WHITEOUT_NOTHING, .place = "upper", .path = o->path, .at = &o->at
	};
	int r;

	if (!c->lowers)
		return;
	r = un_merge_lower_positive(&p->now->d, name, true);
	if (r < 0)
		un_tool_check_trouble(c, "upper", o->path, r);
	if (r != 0)
		return;
	/* With other lowers than these it might hide something, but for where nothing can show through. */
	f.mend = p->opaque ? UN_TOOL_UNLINK : UN_TOOL_LEAVE;
	un_tool_find(c, &f, "it hides nothing: %s",
		     p->opaque ? "its directory is opaque" : "the lowers have no such name here");
}

/* ---- redirects of directories --------------------------------------------------------------------------------- */

static bool is_above(const struct place *p, const struct un_hit *h)
{
	for (; p; p = p->up)
		for (unsigned i = 0; i < p->now->d.n; i++)
			if (p->now->v[i]->layer == h->layer && p->now->v[i]->ino == h->st.stx_ino &&
			    p->now->v[i]->dev == un_stx_dev(&h->st))
				return true;
	return false;
}

static void check_redirect(struct un_tool_checker *c, const struct place *p,
			   const struct un_tool_object *o, const struct un_found *f)
{
	g_autofree char *from = un_tool_redirected(f, p->was);
	struct un_tool_finding bad = { .place = "upper", .path = o->path };
	const char *other;

	if (!f->redirect || !c->lowers || !S_ISDIR(o->st.stx_mode))
		return;
	if (f->n == 1) {
		bad.fault = UN_TOOL_REDIRECT_DANGLING;
		un_tool_find(c, &bad, "it leads to %s, which is in no lower", f->redirect);
		return;
	}
	if (is_above(p, &f->hits[1])) {
		bad.fault = UN_TOOL_REDIRECT_LOOP;
		un_tool_find(c, &bad, "it leads to %s, in which it is itself", f->redirect);
		return;
	}
	if (!from)
		return;
	bad.fault = UN_TOOL_REDIRECT_TWICE;
	other = g_hash_table_lookup(c->targets, from);
	if (other)
		un_tool_find(c, &bad, "it leads to %s, and so does %s", f->redirect, other);
	else if (strcmp(from, o->path) != 0 && un_tool_is_at(c->views.now, from, f))
		un_tool_find(c, &bad, "it leads to %s, which is there as well", f->redirect);
	else
		g_hash_table_insert(c->targets, g_strdup(from), g_strdup(o->path));
}

/* ---- one object ------------------------------------------------------------------------------------------------ */

/* Why a name gives an error to whoever looks it up. */
static void tell_error(struct un_tool_checker *c, const struct un_tool_object *o, int r)
{
	struct un_tool_finding f = { .fault = UN_TOOL_UNREACHABLE,
				     .place = "upper",
				     .path = o->path };
	bool metacopy = o->marks & UN_HAS(UN_MARK_METACOPY);

	if (r == -ENODATA && metacopy && !c->lowers)
		return;
	if (r == -EINVAL && (o->marks & UN_HAS(UN_MARK_REDIRECT))) {
		f.fault = UN_TOOL_REDIRECT_INVALID;
		un_tool_find(c, &f, "its redirect is neither a name nor a path from the root");
	} else if (r == -ENODATA && metacopy) {
		f.fault = UN_TOOL_METACOPY_NO_DATA;
		un_tool_find(c, &f, "it has no data of its own, and no lower has it");
	} else if (r == -EIO && metacopy) {
		f.fault = UN_TOOL_METACOPY_INVALID;
		un_tool_find(c, &f, "its mark metacopy, or one below, is of no known form");
	} else {
		un_tool_find(c, &f, "nobody can reach it: %s", g_strerror(-r));
	}
}

static void count_link(struct un_tool_checker *c, const struct un_tool_object *o)
{
	const guint64 ino = o->st.stx_ino;
	gpointer seen;

	if (c->layers->index < 0 || S_ISDIR(o->st.stx_mode) || o->st.stx_nlink < 2)
		return;
	seen = g_hash_table_lookup(c->links, &ino);
	g_hash_table_replace(c->links, g_memdup2(&ino, sizeof(ino)),
			     GUINT_TO_POINTER(GPOINTER_TO_UINT(seen) + 1));
}

/* An object with an origin is in a directory that says so, or its number is not believed. */
static void check_impure(struct un_tool_checker *c, struct place *p, const struct un_tool_object *o)
{
	const struct un_tool_finding f = { .fault = UN_TOOL_IMPURE_MISSING,
					   .place = "upper",
					   .path = p->path,
					   .at = &p->at,
					   .mend = UN_TOOL_MARK,
					   .mark = UN_MARK_IMPURE,
					   .value = "y" };

	if (p->impure || p->told_impure || !(o->marks & UN_HAS(UN_MARK_ORIGIN)))
		return;
	p->told_impure = true;
	un_tool_find(c, &f, "objects in it have an origin, and it is not marked impure");
}

static void check_dir(struct un_tool_checker *c, struct place *p);

static void descend(struct un_tool_checker *c, const struct place *p,
		    const struct un_tool_object *o, const struct un_found *f)
{
	g_autofree char *was = un_tool_redirected(f, p->was);
	struct un_tool_stack *now;
	int r = 0;

	now = un_tool_stack_of(p->now, f, o->at.name, 0, &r);
	if (!now) {
		un_tool_check_trouble(c, "upper", o->path, r);
		return;
	}
	if (!was && f->n > 1 && p->was)
		was = un_tool_join(p->was, o->at.name);
	struct place in = { .up = p,
			    .now = now,
			    .path = o->path,
			    .was = f->n > 1 ? was : NULL,
			    .at = { .layer = o->at.layer, .dirfd = now->v[0]->fd, .name = "" },
			    .opaque = f->hits[0].opaque,
			    .impure = o->marks & UN_HAS(UN_MARK_IMPURE) };
	check_dir(c, &in);
	un_tool_stack_free(now);
}

static void check_found(struct un_tool_checker *c, struct place *p, const struct un_tool_object *o,
			const struct un_found *f)
{
	const struct un_tool_finding bad = { .fault = UN_TOOL_UNREACHABLE,
					     .place = "upper",
					     .path = o->path };

	if (!f->n && f->upper_whiteout) {
		check_announced(c, p, o);
		check_whiteout(c, p, o, o->at.name);
	} else if (!f->n || f->hits[0].layer->index != 0) {
		un_tool_find(c, &bad, "its name is one of the format's own: nobody sees it");
	} else {
		un_tool_check_origin(c, o, f);
		check_redirect(c, p, o, f);
		un_tool_check_metacopy(c, o, f);
		check_impure(c, p, o);
		if (S_ISDIR(o->st.stx_mode))
			descend(c, p, o, f);
	}
}

/* Is it a mark of the tar form? 1, 0 or -errno. It is looked at here. */
static int check_tar(struct un_tool_checker *c, struct place *p, const struct un_tool_object *o)
{
	const struct un_where w = { .layer = o->at.layer, .fd = o->at.dirfd };
	int r = un_merge_tar_name(o->at.name) ? un_merge_tar_mark(&w, o->at.name, &o->st) : 0;

	if (r > 0 && !g_str_has_prefix(o->at.name, ".wh..wh.") && o->at.name[4])
		check_whiteout(c, p, o, o->at.name + 4);
	return r;
}

static void check_name(struct un_tool_checker *c, struct place *p, const char *name)
{
	struct un_tool_dir *dir = p->now->v[0];
	g_autofree char *path = un_tool_join(p->path, name);
	struct un_tool_object o = { .at = { .layer = dir->layer, .dirfd = dir->fd, .name = name },
				    .path = path };
	struct un_found f;
	int r = dir->layer->ops->stat(dir->layer, dir->fd, name, &o.st);

	if (++c->names % 256 == 0)
		un_tool_progress(NULL, c->names);
	if (r == 0)
		r = un_marks_scan(&o.at, &o.marks);
	if (r < 0) {
		un_tool_check_trouble(c, "upper", path, r);
		return;
	}
	count_link(c, &o);
	un_tool_check_names_of_marks(c, &o);
	r = check_tar(c, p, &o);
	if (r != 0)
		return;
	r = un_tool_lookup(p->now, name, &f);
	if (r < 0)
		tell_error(c, &o, r);
	else
		check_found(c, p, &o, &f);
	un_found_done(&f);
}

static void check_dir(struct un_tool_checker *c, struct place *p)
{
	g_autoptr(GPtrArray) names = NULL;
	int r = un_tool_names(p->now->v[0], &names);

	if (r < 0) {
		un_tool_check_trouble(c, "upper", p->path, r);
		return;
	}
	for (unsigned i = 0; i < names->len; i++)
		check_name(c, p, names->pdata[i]);
}

void un_tool_check_upper(struct un_tool_checker *c)
{
	struct un_layer *u = &c->layers->v[0];
	struct un_tool_object root = { .at = { .layer = u, .dirfd = u->root, .name = "" },
				       .path = "." };
	struct place p = {
		.now = c->views.now, .path = ".", .was = c->lowers ? "." : NULL, .at = root.at
	};
	int r = un_marks_scan(&root.at, &root.marks);

	if (r < 0) {
		un_tool_check_trouble(c, "upper", "", r);
		return;
	}
	p.impure = root.marks & UN_HAS(UN_MARK_IMPURE);
	p.opaque = c->lowers && c->views.now->d.n == 1;
	un_tool_check_names_of_marks(c, &root);
	check_dir(c, &p);
}
