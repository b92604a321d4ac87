/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of indexed files that are not in the upper yet, waiting to get an entry there (copyup/alias.c).
 *
 * A pending name is (directory, name) and nothing more: the kernel may forget the file meanwhile, the
 * name may be removed or lead elsewhere. It is looked up again when its turn comes.
 */
#include "object/inode.h"
#include "object/object.h"
#include "object/pending.h"
#include "util/hash.h"
#include "util/log.h"

#include <string.h>

#define PENDING_MAX 65536u

UN_ROLE(aliases_role);

struct un_aliases {
	struct un_mutex lock; /* a leaf */
	GHashTable *set UN_GUARDED_BY(aliases_role);      /* all of them */
	GQueue fresh UN_GUARDED_BY(aliases_role);
	GQueue stuck UN_GUARDED_BY(aliases_role); /* tried, and refused: once more at the end */
	bool full UN_GUARDED_BY(aliases_role);    /* it was said that there are too many */
};
UN_LOCKS(struct un_aliases, lock, aliases, aliases_role);

static guint pending_hash(gconstpointer p)
{
	const struct un_pending *a = p;

	return un_hash_name_in((uintptr_t)a->dir, a->name);
}

static gboolean pending_equal(gconstpointer p, gconstpointer q)
{
	const struct un_pending *a = p, *b = q;

	return a->dir == b->dir && strcmp(a->name, b->name) == 0;
}

void un_pending_init(struct un_fs *fs)
{
	struct un_aliases *s = g_new0(struct un_aliases, 1);

	un_mutex_init(&s->lock);
	aliases_is_ours(s);
	s->set = g_hash_table_new(pending_hash, pending_equal);
	g_queue_init(&s->fresh);
	g_queue_init(&s->stuck);
	fs->aliases = s;
}

static struct un_pending *take_locked(struct un_aliases *s, bool stuck)
	UN_REQUIRES(s->lock, aliases_role)
{
	GQueue *from = g_queue_is_empty(&s->fresh) && stuck ? &s->stuck : &s->fresh;
	GList *l = g_queue_pop_head_link(from);

	if (!l)
		return NULL;
	g_hash_table_remove(s->set, l->data);
	return l->data;
}

struct un_pending *un_pending_take(struct un_fs *fs, bool stuck)
{
	struct un_aliases *s = fs->aliases;
	struct un_pending *p;

	aliases_lock(s);
	p = take_locked(s, stuck);
	aliases_unlock(s);
	return p;
}

void un_pending_free(struct un_fs *fs, struct un_pending *p)
{
	un_inode_put(fs, p->dir);
	g_free(p);
}

bool un_pending_add(struct un_fs *fs, struct un_pending *p)
{
	struct un_aliases *s = fs->aliases;
	bool first = false, full = false, said;

	aliases_lock(s);
	said = s->full;
	if (g_hash_table_size(s->set) >= PENDING_MAX)
		full = s->full = true;
	/* Adding what is there would put @p into the place of its equal. */
	if (!full && !g_hash_table_contains(s->set, p)) {
		g_hash_table_add(s->set, p);
		first = !p->stuck && g_queue_is_empty(&s->fresh);
		p->link = (GList){ .data = p };
		g_queue_push_tail_link(p->stuck ? &s->stuck : &s->fresh, &p->link);
		p = NULL;
	}
	aliases_unlock(s);
	if (p)
		un_pending_free(fs, p);
	if (full && !said)
		un_log(LOG_WARNING,
		       "more than %u names of changed hard links at once: some get no "
		       "entry in upperdir",
		       PENDING_MAX);
	return first;
}

void un_pending_done(struct un_fs *fs)
{
	struct un_pending *p;

	if (!fs->aliases)
		return;
	while ((p = un_pending_take(fs, true)))
		un_pending_free(fs, p);
	aliases_is_ours(fs->aliases);
	g_hash_table_destroy(fs->aliases->set);
	un_mutex_done(&fs->aliases->lock);
	g_free(fs->aliases);
	fs->aliases = NULL;
}

void un_alias_later(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	size_t len = strlen(name) + 1;
	struct un_pending *p;

	if (fs->read_only || !fs->indexdir)
		return;
	p = g_malloc0(sizeof(*p) + len);
	p->dir = un_inode_ref(dir);
	memcpy(p->name, name, len);
	if (un_pending_add(fs, p) && fs->wake)
		fs->wake(fs->wake_data);
}

unsigned un_pending_count(struct un_fs *fs)
{
	unsigned n;

	aliases_lock(fs->aliases);
	n = g_hash_table_size(fs->aliases->set);
	aliases_unlock(fs->aliases);
	return n;
}
