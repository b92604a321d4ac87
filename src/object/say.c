/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A user who is refused a name sees an errno; the log tells the reason. Programs ask again and
 * again, so each name is logged once, and at most SAID_MAX names, since they have to be remembered
 * for that.
 */
#include "layer/layer.h"
#include "layer/marks.h"
#include "object/inode.h"
#include "object/object.h"
#include "object/say.h"
#include "util/log.h"

#include <limits.h>

#define SAID_MAX 256u
#define DEPTH_MAX 512

UN_ROLE(said_role);

struct un_said {
	struct un_mutex lock;
	char *at;          /* where the union is mounted; NULL: not known */
	GHashTable *lines UN_GUARDED_BY(said_role); /* those said */
	bool full UN_GUARDED_BY(said_role);         /* it was said that no more are */
};
UN_LOCKS(struct un_said, lock, said, said_role);

void un_say_init(struct un_fs *fs, const char *shown_at)
{
	struct un_said *s = g_new0(struct un_said, 1);

	un_mutex_init(&s->lock);
	said_is_ours(s);
	s->at = g_strdup(shown_at);
	s->lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	fs->said = s;
}

void un_say_done(struct un_fs *fs)
{
	struct un_said *s = fs->said;

	if (!s)
		return;
	said_is_ours(s);
	g_hash_table_destroy(s->lines);
	un_mutex_done(&s->lock);
	g_free(s->at);
	g_free(s);
	fs->said = NULL;
}

/* One line: what a name may hold must not look like the end of it. */
static void one_line(char *s)
{
	for (; *s; s++)
		if (g_ascii_iscntrl(*s))
			*s = '?';
}

char *un_say_path(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	GString *path = g_string_new(name);
	struct un_inode *at = un_inode_ref(dir);

	for (int i = 0; at != fs->root; i++) {
		char part[NAME_MAX + 1];
		struct un_inode *up;

		if (i == DEPTH_MAX || !un_name_any(at, &up, part)) {
			g_string_prepend(path, ".../");
			break;
		}
		g_string_prepend_c(path, '/');
		g_string_prepend(path, part);
		un_inode_put(fs, at);
		at = up;
	}
	un_inode_put(fs, at);
	if (fs->said->at) {
		g_string_prepend_c(path, '/');
		g_string_prepend(path, fs->said->at);
	}
	one_line(path->str);
	return g_string_free(path, FALSE);
}

void un_say_once(struct un_fs *fs, int level, char *line)
{
	struct un_said *s = fs->said;
	bool new = false, last = false;

	said_lock(s);
	if (!s->full && !g_hash_table_contains(s->lines, line)) {
		last = s->full = g_hash_table_size(s->lines) == SAID_MAX;
		new = !last &&g_hash_table_add(s->lines, g_strdup(line));
	}
	said_unlock(s);
	if (new)
		un_log(level, "%s", line);
	if (last)
		un_log(level, "%s: more names cannot be had; they are not logged",
		       s->at ? s->at : "the union");
	g_free(line);
}

void un_say_refused(struct un_fs *fs, struct un_inode *dir, const char *name,
		    const struct un_layer *l, enum un_mark mark)
{
	g_autofree char *path = un_say_path(fs, dir, name);

	un_say_once(fs, LOG_WARNING,
		    g_strdup_printf(
			    "%s: not permitted: its mark %s in the layer %s is not followed (%s)",
			    path, un_mark_name(l, mark), l->path,
			    mark == UN_MARK_REDIRECT ? "redirect_dir=nofollow" : "metacopy=off"));
}

void un_say_no_data(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	g_autofree char *path = un_say_path(fs, dir, name);

	un_say_once(
		fs, LOG_ERR,
		g_strdup_printf("%s: a file that has metadata only: no layer below has its data",
				path));
}
