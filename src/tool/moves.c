/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "moves_i.h"

#include "names_i.h"

#include <errno.h>
#include <string.h>

char *un_tool_join(const char *dir, const char *name)
{
	return strcmp(dir, ".") == 0 ? g_strdup(name) : g_strconcat(dir, "/", name, NULL);
}

char *un_tool_redirected(const struct un_found *f, const char *was)
{
	if (!f->redirect)
		return NULL;
	if (f->redirect[0] == '/')
		return g_strdup(f->redirect + 1);
	return was ? un_tool_join(was, f->redirect) : NULL;
}

const struct un_hit *un_tool_lower_part(const struct un_found *f)
{
	bool upper = f->n && f->hits[0].layer->index == 0;

	if (!f->n || f->metacopy)
		return f->data;
	if (upper)
		return f->n > 1 ? &f->hits[1] : NULL;
	return &f->hits[0];
}

/* A directory of the upper, as the search goes through it. */
struct place {
	struct un_tool_stack *now;
	char *path;
	char *was; /* in the lowers; NULL: it has nothing there */
};

struct search {
	struct un_tool_views *views;
	void (*progress)(void *data, uint64_t names);
	void *data;
	uint64_t names;
	GHashTable *to;
};

bool un_tool_is_at(const struct un_tool_stack *root, const char *path, const struct un_found *f)
{
	const struct un_hit *mine = un_tool_lower_part(f), *other;
	struct un_tool_stack *in;
	struct un_found there;
	int r = un_tool_lookup_path(root, path, &there, &in);
	bool is = r < 0 && r != -ENOENT && r != -ENOTDIR && r != -ENODATA;

	if (r == 0) {
		other = un_tool_lower_part(&there);
		is = mine && other && un_tool_same(mine, other);
	}
	un_found_done(&there);
	un_tool_stack_free(in);
	return is;
}

/* Has the name a redirect, or is it a directory, in which there may be one? */
static bool is_worth_it(const struct un_tool_dir *dir, const char *name)
{
	unsigned marks;
	struct statx st;

	if (dir->layer->ops->stat(dir->layer, dir->fd, name, &st) < 0)
		return false;
	if (S_ISDIR(st.stx_mode))
		return true;
	return S_ISREG(st.stx_mode) &&
	       un_marks_scan(UN_AT(dir->layer, dir->fd, name), &marks) == 0 &&
	       (marks & UN_HAS(UN_MARK_REDIRECT)) && (marks & UN_HAS(UN_MARK_METACOPY));
}

static void note(const struct search *s, const struct place *p, const char *name,
		 const struct un_found *f, char **ret_from)
{
	g_autofree char *from = un_tool_redirected(f, p->was);
	g_autofree char *path = un_tool_join(p->path, name);
	g_autofree char *base = p->was ? un_tool_join(p->was, name) : NULL;
	bool moved = from && un_tool_lower_part(f) && g_strcmp0(from, base) != 0;

	/* Of a file with several names in the lowers it may be that of another. */
	if (!moved || (base && un_tool_is_at(s->views->was, base, f)))
		moved = false;
	/* It may even be back where it was, in a directory that is new. */
	else if (!g_hash_table_contains(s->to, from) &&
		 (strcmp(from, path) == 0 || !un_tool_is_at(s->views->now, from, f)))
		g_hash_table_insert(s->to, g_strdup(from), g_strdup(path));
	*ret_from = un_tool_lower_part(f) ? g_steal_pointer(&from) : NULL;
}

static void search_dir(struct search *s, const struct place *p);

/* What cannot be looked at has moved nothing; the walk that follows tells of it. */
static void search_name(struct search *s, const struct place *p, const char *name)
{
	struct place in = { 0 };
	struct un_found f;
	int r;

	if (s->progress && ++s->names % 256 == 0)
		s->progress(s->data, s->names);
	if (!is_worth_it(p->now->v[0], name) || un_tool_lookup(p->now, name, &f) < 0)
		return;
	note(s, p, name, &f, &in.was);
	if (f.n && f.hits[0].layer->index == 0 && S_ISDIR(f.hits[0].st.stx_mode)) {
		in.now = un_tool_stack_of(p->now, &f, name, 0, &r);
		in.path = un_tool_join(p->path, name);
		if (!in.was && f.n > 1 && p->was)
			in.was = un_tool_join(p->was, name);
	}
	un_found_done(&f);
	if (in.now)
		search_dir(s, &in);
	un_tool_stack_free(in.now);
	g_free(in.path);
	g_free(in.was);
}

static void search_dir(struct search *s, const struct place *p)
{
	g_autoptr(GPtrArray) names = NULL;

	if (un_tool_names(p->now->v[0], &names) < 0)
		return;
	for (unsigned i = 0; i < names->len; i++)
		search_name(s, p, names->pdata[i]);
}

int un_tool_moves_find(struct un_tool_views *views, void (*progress)(void *data, uint64_t names),
		       void *data, struct un_tool_moves *ret)
{
	struct search s = { .views = views, .progress = progress, .data = data };
	g_autofree char *dot = g_strdup(".");
	const struct place root = { .now = views->now, .path = dot, .was = dot };

	ret->to = s.to = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	search_dir(&s, &root);
	return 0;
}

void un_tool_moves_done(struct un_tool_moves *m)
{
	g_clear_pointer(&m->to, g_hash_table_unref);
}

bool un_tool_moved_away(const struct un_tool_moves *m, const char *path)
{
	return g_hash_table_contains(m->to, path);
}

bool un_tool_moved_to(const struct un_tool_moves *m, const char *path, const char *to)
{
	const char *where = g_hash_table_lookup(m->to, path);

	return where && strcmp(where, to) == 0;
}
