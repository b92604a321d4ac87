/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of indexed files that are not in the upper yet. While the union is mounted the index leads from
 * them to the changed file. Whoever reads the upper without the index, as a lower of another mount or by
 * hand, would find the old file under them; so each name that somebody has seen gets an entry of its own
 * in the upper: at copy-up if they are few, else within about a second, at the latest when the mount ends.
 *
 * A pending name is (directory, name) and nothing more: the kernel may forget the file meanwhile, the
 * name may be removed or lead elsewhere. It is looked up again when its turn comes.
 */
#include "core_i.h"
#include "sync_i.h"

#include "util/hash.h"

#define PENDING_MAX 65536u
/* So many are made before the call that copied the file up is answered. */
#define AT_ONCE 8u
/* Others wait for the housekeeping thread, too; microseconds. */
#define SLICE 20000
#define END_MAX (10 * G_USEC_PER_SEC)

struct pending {
	struct un_inode *dir; /* a reference */
	GList link;           /* in `fresh` or `stuck` */
	bool stuck;
	char name[];
};

struct un_aliases {
	struct un_mutex lock; /* a leaf */
	GHashTable *set;      /* all of them */
	GQueue fresh;
	GQueue stuck; /* tried, and refused: once more at the end */
	bool full;    /* it was said that there are too many */
};

static guint pending_hash(gconstpointer p)
{
	const struct pending *a = p;

	return un_hash_name_in((uintptr_t)a->dir, a->name);
}

static gboolean pending_equal(gconstpointer p, gconstpointer q)
{
	const struct pending *a = p, *b = q;

	return a->dir == b->dir && strcmp(a->name, b->name) == 0;
}

void un_aliases_init(struct un_fs *fs)
{
	struct un_aliases *s = g_new0(struct un_aliases, 1);

	un_mutex_init(&s->lock);
	s->set = g_hash_table_new(pending_hash, pending_equal);
	g_queue_init(&s->fresh);
	g_queue_init(&s->stuck);
	fs->aliases = s;
}

static struct pending *take_locked(struct un_aliases *s, bool stuck) UN_REQUIRES(s->lock);

static struct pending *take_locked(struct un_aliases *s, bool stuck)
{
	GQueue *from = g_queue_is_empty(&s->fresh) && stuck ? &s->stuck : &s->fresh;
	GList *l = g_queue_pop_head_link(from);

	if (!l)
		return NULL;
	g_hash_table_remove(s->set, l->data);
	return l->data;
}

static struct pending *take(struct un_aliases *s, bool stuck)
{
	struct pending *p;

	un_mutex_lock(&s->lock);
	p = take_locked(s, stuck);
	un_mutex_unlock(&s->lock);
	return p;
}

static void pending_free(struct un_fs *fs, struct pending *p)
{
	un_inode_put(fs, p->dir);
	g_free(p);
}

/* Takes @p over. True: it is the first that can be done. */
static bool put_back(struct un_fs *fs, struct pending *p)
{
	struct un_aliases *s = fs->aliases;
	bool first = false, full = false, said;

	un_mutex_lock(&s->lock);
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
	un_mutex_unlock(&s->lock);
	if (p)
		pending_free(fs, p);
	if (full && !said)
		un_log(LOG_WARNING,
		       "more than %u names of changed hard links at once: some get no "
		       "entry in upperdir",
		       PENDING_MAX);
	return first;
}

void un_aliases_done(struct un_fs *fs)
{
	struct pending *p;

	if (!fs->aliases)
		return;
	while ((p = take(fs->aliases, true)))
		pending_free(fs, p);
	g_hash_table_destroy(fs->aliases->set);
	un_mutex_done(&fs->aliases->lock);
	g_free(fs->aliases);
	fs->aliases = NULL;
}

void un_alias_later(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	size_t len = strlen(name) + 1;
	struct pending *p;

	if (fs->read_only || !fs->indexdir)
		return;
	p = g_malloc0(sizeof(*p) + len);
	p->dir = un_inode_ref(dir);
	memcpy(p->name, name, len);
	if (put_back(fs, p) && fs->wake)
		fs->wake(fs->wake_data);
}

int un_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name,
	     bool quiet)
{
	struct un_inode *there;
	struct un_state state;
	struct un_fd *fd;
	int r;

	un_ns_write(dir);
	there = un_name_find(fs, dir, name);
	r = there == inode ? un_name_state(fs, dir, name, false, &state) : -EAGAIN;
	if (r == 0 && state.exists && !state.in_upper) {
		r = un_realdir_open(fs, un_dir_upper(fs, dir), &fd);
		if (r == 0) {
			r = un_index_alias(fs, inode, dir, fd->fd, name, quiet);
			un_published(inode, true);
			un_fdcache_put(fs->fds, fd);
		}
	}
	un_inode_put(fs, there);
	un_ns_unlock(dir);
	return r;
}

static bool is_published(struct un_inode *inode)
{
	bool yes;

	un_mutex_lock(&inode->lock);
	yes = inode->ix && inode->ix->published && !inode->unlinked;
	un_mutex_unlock(&inode->lock);
	return yes;
}

/* Is the name of a file in the index, and in a lower only? 1, 0, or -errno. */
static int wants_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		       const char *name)
{
	struct un_state state;
	int r;

	if (!is_published(inode))
		return 0;
	if (!dir->upper)
		return 1;
	un_ns_read(dir);
	r = un_name_state(fs, dir, name, false, &state);
	un_ns_unlock(dir);
	return r < 0 ? r : state.exists && !state.in_upper;
}

struct ancestor {
	struct un_inode *dir; /* a reference */
	struct statx before;
};

/*
 * The directory is in the upper afterwards, and its ancestors; nobody asked for that, so their times of
 * change are shown as before (tar would take them for changed while it reads).
 */
static int prepare_quietly(struct un_fs *fs, struct un_inode *dir)
{
	g_autoptr(GArray) a = g_array_new(FALSE, FALSE, sizeof(struct ancestor));
	struct un_inode *at = un_inode_ref(dir);
	struct statx after;
	int r = 0;

	while (at && !at->upper && r == 0) {
		struct ancestor one = { .dir = at };
		char name[NAME_MAX + 1];

		r = un_getattr(fs, at, &one.before);
		g_array_append_val(a, one);
		if (!un_name_any(one.dir, &at, name))
			at = NULL;
	}
	un_inode_put(fs, at);
	if (r == 0)
		r = un_dir_prepare(fs, dir, false);
	for (unsigned i = 0; i < a->len; i++) {
		struct ancestor *one = &g_array_index(a, struct ancestor, i);

		if (one->dir->upper && un_getattr(fs, one->dir, &after) == 0) {
			un_attr_hide_change(one->dir, &one->before, &after);
			if (fs->stale)
				fs->stale(fs->stale_data, one->dir->id, UN_STALE_ATTRS);
		}
		un_inode_put(fs, one->dir);
	}
	return r;
}

/* 0: nothing is left to be done for the name; or -errno. */
static int do_one(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	struct un_inode *inode;
	int r = un_lookup(fs, dir, name, &inode, NULL);

	if (r < 0)
		return r == -ENOENT || r == -ESTALE || r == -ENOTDIR ? 0 : r;
	r = wants_alias(fs, inode, dir, name);
	if (r > 0) {
		r = prepare_quietly(fs, dir);
		if (r == 0)
			r = un_alias(fs, inode, dir, name, true);
	}
	un_inode_put(fs, inode);
	/* Removed meanwhile, moved, or taken. */
	return r == -EAGAIN || r == -ENOENT || r == -ESTALE ? 0 : r;
}

void un_alias_known(struct un_fs *fs, struct un_inode *inode, bool now)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new();
	bool all = fs->indexdir && is_published(inode);

	un_mutex_lock(&inode->lock);
	for (struct un_name *n = all ? inode->names : NULL; n; n = n->next) {
		size_t len = strlen(n->name) + 1;
		struct pending *p = n->gone ? NULL : g_malloc0(sizeof(*p) + len);

		if (!p)
			continue;
		p->dir = un_inode_ref(n->dir);
		memcpy(p->name, n->name, len);
		g_ptr_array_add(names, p);
	}
	un_mutex_unlock(&inode->lock);
	for (unsigned i = 0; i < names->len; i++) {
		struct pending *p = names->pdata[i];

		if (!now || i >= AT_ONCE || do_one(fs, p->dir, p->name) < 0)
			un_alias_later(fs, p->dir, p->name);
		pending_free(fs, p);
	}
}

/* Until there are no more, or the time is over: then true. *ret_failed counts what was refused. */
static bool work_off(struct un_fs *fs, bool stuck, gint64 limit, unsigned *ret_failed)
{
	gint64 end = g_get_monotonic_time() + limit;
	g_autoptr(GPtrArray) failed = g_ptr_array_new();
	struct pending *p = NULL;
	bool more = false;

	while (!more && (p = take(fs->aliases, stuck))) {
		int r = do_one(fs, p->dir, p->name);

		if (r < 0)
			un_debug("alias %s: %s", p->name, g_strerror(-r));
		if (r < 0 && r != -EMLINK)
			g_ptr_array_add(failed, p);
		else
			pending_free(fs, p);
		more = g_get_monotonic_time() > end;
	}
	for (unsigned i = 0; i < failed->len; i++) {
		p = failed->pdata[i];
		p->stuck = true;
		un_ignore(put_back(fs, p));
	}
	*ret_failed = failed->len;
	return more;
}

bool un_alias_idle(struct un_fs *fs)
{
	unsigned failed;

	return work_off(fs, false, SLICE, &failed);
}

void un_fs_settle(struct un_fs *fs)
{
	struct un_aliases *s = fs->aliases;
	unsigned left, failed;

	un_mutex_lock(&s->lock);
	left = g_hash_table_size(s->set);
	un_mutex_unlock(&s->lock);
	if (left == 0 || fs->read_only)
		return;
	/* Whoever took the upper over would not know of the change; what it sees it gives names to. */
	if (!un_layers_alone(fs->layers, true))
		return;
	if (work_off(fs, true, END_MAX, &failed) || failed > 0)
		un_log(LOG_WARNING, "some names of changed hard links have no entry in upperdir: "
				    "without its index they show the old file");
	un_layers_alone(fs->layers, false);
}
