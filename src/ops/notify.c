/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel is told of changes that others made in layers. The kernel takes the lock of the parent directory
 * when an entry goes, which a process that waits for an answer of ours may hold: so this is done by a thread
 * that serves no request, and holds no lock of ours (src/transport/README.md, Notifications).
 *
 * An answer that was on its way when a change came must not bring back what the kernel was told to drop. Who
 * answers asks whether something has changed since he began (un_ops_keep()), and answers then for no time at
 * all; between that question and the answer he is counted, and the thread waits until those are gone who may have
 * asked before the change.
 */
#include "notify_i.h"

#include "again_i.h"

#include "transport/process.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/lock.h"
#include "util/log.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * While this daemon changes much itself each change wakes the thread for nothing: after so many in a row it sleeps for
 * so long (microseconds), and what others change is told that much later at most.
 */
#define OWN_ROUNDS 8
#define OWN_PAUSE 2000
/*
 * More changes than these that wait to be told are told as one: that everything has changed. They are many, for that
 * costs more than most of them; the kernel itself keeps 16,384 events.
 */
#define QUEUE_MAX 65536

struct item {
	enum un_change_what what;
	uint64_t id;
	void (*fn)(
		void *data); /* not NULL: to be called when all before it is told, and nothing else */
	void *data;
	char name[];
};

/* Pages that were locked are tried again so often (milliseconds). */
#define LATER 5

UN_ROLE(notifier_role);

/* To be called when these are told as well. */
struct call {
	struct item *item;
	GHashTable *ids;
	uint64_t mark; /* un_again_mark() */
};

struct un_notifier {
	struct un_ops *ops;
	pthread_t thread;
	bool started;
	int wake; /* eventfd */
	struct un_mutex lock;
	GQueue queue UN_GUARDED_BY(notifier_role);
	/* Of these the first so many were kept when the others were told as one. */
	unsigned kept UN_GUARDED_BY(notifier_role);
	/* That all has changed, which takes long to tell, is in it. */
	bool all_queued UN_GUARDED_BY(notifier_role);
	bool stopping UN_GUARDED_BY(notifier_role);
	/* Only the thread's: inodes whose pages are still to be dropped; and who waits for that, struct call. */
	GHashTable *later;
	struct un_again *again;
	GQueue calls;
	/* Answers on their way, by turns. */
	atomic_uint turn;
	atomic_uint leaving[2];
};
UN_LOCKS(struct un_notifier, lock, notifier, notifier_role);

static void wake(struct un_notifier *n)
{
	uint64_t one = 1;

	un_ignore((int)write(n->wake, &one, sizeof(one)));
}

/* Is it to be told all the same when all has changed? To be called then; or a name that is in no table any more. */
static bool is_apart(const struct item *item)
{
	return item->fn || item->what == UN_CHANGE_GONE;
}

/* All but those. */
static void collapse_locked(struct un_notifier *n) UN_REQUIRES(notifier_role)
{
	struct item *all = g_malloc0(sizeof(*all) + 1), *item;
	GQueue apart = G_QUEUE_INIT;

	all->what = UN_CHANGE_ALL;
	while ((item = g_queue_pop_head(&n->queue))) {
		if (is_apart(item))
			g_queue_push_tail(&apart, item);
		else
			g_free(item);
	}
	n->queue = apart;
	n->all_queued = true;
	g_queue_push_head(&n->queue, all);
	n->kept = g_queue_get_length(&n->queue);
}

static void enqueue(struct un_notifier *n, struct item *item)
{
	notifier_lock(n);
	n->all_queued |= !item->fn && item->what == UN_CHANGE_ALL;
	g_queue_push_tail(&n->queue, item);
	if (g_queue_get_length(&n->queue) - n->kept > QUEUE_MAX)
		collapse_locked(n);
	notifier_unlock(n);
	wake(n);
}

/*
 * Is that what is told next to last anyway, as for a file that is written to again and again? That everything has
 * changed is told once, however often it did before that.
 */
static bool is_queued(struct un_notifier *n, enum un_change_what what, uint64_t id,
		      const char *name)
{
	const struct item *last;
	bool same;

	notifier_lock(n);
	last = g_queue_peek_tail(&n->queue);
	same = last && !last->fn && last->what == what && last->id == id &&
	       strcmp(last->name, name) == 0;
	same |= what == UN_CHANGE_ALL && n->all_queued;
	notifier_unlock(n);
	return same;
}

static void push(struct un_notifier *n, enum un_change_what what, uint64_t id, const char *name)
{
	size_t len = strlen(name) + 1;
	struct item *item;

	if (is_queued(n, what, id, name))
		return;
	item = g_malloc0(sizeof(*item) + len);
	item->what = what;
	item->id = id;
	memcpy(item->name, name, len);
	enqueue(n, item);
}

static void changed(void *data, const struct un_change *c)
{
	struct un_ops *ops = data;

	push(ops->notifier, c->what, c->id, c->name ? c->name : "");
}

void un_notify_again(struct un_ops *ops, uint64_t id)
{
	if (ops->notifier)
		push(ops->notifier, UN_CHANGE_DATA, id, "");
}

unsigned un_notify_enter(struct un_ops *ops)
{
	unsigned turn;

	if (!ops->notifier)
		return 0;
	turn = atomic_load(&ops->notifier->turn) & 1;
	atomic_fetch_add(&ops->notifier->leaving[turn], 1);
	return turn;
}

void un_notify_leave(struct un_ops *ops, unsigned turn)
{
	if (ops->notifier)
		atomic_fetch_sub(&ops->notifier->leaving[turn], 1);
}

/* Whoever is counted from here on sees what has changed. Those before write an answer, and wait for nobody. */
static void wait_for_answers(struct un_notifier *n)
{
	unsigned old = atomic_fetch_add(&n->turn, 1) & 1;

	for (unsigned i = 0; atomic_load(&n->leaving[old]) > 0; i++) {
		if (i < 100)
			g_thread_yield();
		else
			g_usleep(50);
	}
}

/*
 * The kernel is to ask for the name again. To drop the entry would take what is mounted on it away, so that is done
 * only where the kernel knows nothing else (before Linux 6.2).
 */
static bool tell_once(void *data, uint64_t dir, const char *name)
{
	struct un_ops *ops = data;
	int r = un_transport_expire(ops->transport, dir, name);

	if (r == -EOPNOTSUPP)
		un_ignore(fuse_lowlevel_notify_inval_entry(ops->se, dir, name, strlen(name)));
	return r == 0;
}

/* A name that the kernel knew, and that somebody may be asking for: he may have an older answer. */
static bool tell_name(void *data, uint64_t dir, const char *name)
{
	struct un_ops *ops = data;

	if (tell_once(data, dir, name) && un_fs_is_used(ops->fs, dir))
		un_again_add(ops->notifier->again, dir, name);
	return true;
}

/* What is kept as missing is never asked for without the directory's lock. */
static bool tell_missing(void *data, uint64_t dir, const char *name)
{
	un_ignore(tell_once(data, dir, name));
	return true;
}

static bool tell_again_to(void *data, uint64_t dir, const char *name)
{
	un_ignore(tell_name(data, dir, name));
	return true;
}

/*
 * From @offset on; -1: attributes alone. What is in the answer to a first lookup, or in a listing, comes to be in the
 * kernel only when its reader runs, who has the directory locked until then. So an inode that the kernel does not have
 * (-ENOENT) may be about to come to it, with the attributes of before: its names are told, which waits for such a
 * reader, and then it is told once more. Those of an inode that it has are guarded by a version.
 */
static bool drop_inode(struct un_ops *ops, uint64_t id, off_t offset)
{
	int r = fuse_lowlevel_notify_inval_inode(ops->se, id, offset, 0);

	if (r == -ENOENT) {
		un_ignore(un_known_names(ops->fs, id, tell_again_to, ops));
		r = fuse_lowlevel_notify_inval_inode(ops->se, id, offset, 0);
	}
	return r != -ENODEV;
}

/*
 * A listing that was answered with before is added to what the kernel keeps when its reader runs. He has the directory
 * locked until then, and to tell of a name in it, any, waits for him.
 */
static bool drop_listing(struct un_ops *ops, uint64_t dir)
{
	un_ignore(tell_once(ops, dir, " "));
	return drop_inode(ops, dir, 0);
}

/*
 * Attributes and pages. Who reads or writes has pages locked until he is answered: to wait for a copy of much data
 * would hold up all other news, and if this daemon is killed meanwhile the kernel waits for ever, for the answer and
 * for this thread. So these come later. What has been locked and is not in hand yet is waited for.
 */
static bool tell_data(struct un_ops *ops, uint64_t id)
{
	bool later = un_fs_is_in_hand(ops->fs, id);

	if (un_fs_is_dir(ops->fs, id))
		return drop_listing(ops, id);
	if (later && !g_hash_table_contains(ops->notifier->later, &id))
		g_hash_table_add(ops->notifier->later, g_memdup2(&id, sizeof(id)));
	return drop_inode(ops, id, later ? -1 : 0);
}

static bool tell_names_once(void *data, uint64_t id)
{
	struct un_ops *ops = data;

	return un_known_names(ops->fs, id, tell_missing, ops);
}

static bool tell_inode(void *data, uint64_t id)
{
	struct un_ops *ops = data;

	un_ignore(un_known_names(ops->fs, id, tell_name, ops));
	return tell_data(ops, id);
}

static bool tell_child(void *data, uint64_t dir, const char *name, uint64_t id)
{
	struct un_ops *ops = data;

	un_ignore(tell_name(ops, dir, name));
	/* For who has it open: its time tells then whether its data is another. */
	return fuse_lowlevel_notify_inval_inode(ops->se, id, -1, 0) != -ENODEV;
}

/* Everything the kernel knows. */
static void tell_all(struct un_notifier *n)
{
	un_ignore(un_known_each(n->ops->fs, tell_inode, n->ops));
	un_known_missing(n->ops->fs, 0, tell_missing, n->ops);
}

/* And what it remembers as missing there. */
static bool tell_tree(void *data, uint64_t id)
{
	struct un_ops *ops = data;

	un_known_missing(ops->fs, id, tell_missing, ops);
	return tell_inode(ops, id);
}

/* What is below directories that may be made of others now: for all of them at once. */
static void tell_below(struct un_notifier *n, GHashTable *below)
{
	if (g_hash_table_size(below) > 0)
		un_ignore(un_known_below(n->ops->fs, below, tell_tree, n->ops));
	g_hash_table_remove_all(below);
}

static void tell(struct un_notifier *n, const struct item *item, GHashTable *below)
{
	struct un_ops *ops = n->ops;

	switch (item->what) {
	case UN_CHANGE_NAME:
		/* The entry goes only if there is one; the listing and the attributes always. */
		un_ignore(tell_name(ops, item->id, item->name));
		un_ignore(fuse_lowlevel_notify_inval_inode(ops->se, item->id, 0, 0));
		break;
	case UN_CHANGE_GONE:
		/* With what is mounted on it, as when the kernel sees by itself that it is gone. */
		un_ignore(fuse_lowlevel_notify_inval_entry(ops->se, item->id, item->name,
							   strlen(item->name)));
		break;
	case UN_CHANGE_SELF:
		un_ignore(tell_inode(ops, item->id));
		break;
	case UN_CHANGE_TREE:
		/* And all below: tell_below(). */
		un_ignore(tell_tree(ops, item->id));
		g_hash_table_add(below, g_memdup2(&item->id, sizeof(item->id)));
		break;
	case UN_CHANGE_ATTRS:
		un_ignore(drop_inode(ops, item->id, -1));
		break;
	case UN_CHANGE_DATA:
		un_ignore(tell_data(ops, item->id));
		break;
	case UN_CHANGE_LEFT:
		un_ignore(un_known_children(ops->fs, item->id, tell_child, ops));
		un_known_missing(ops->fs, item->id, tell_missing, ops);
		un_ignore(drop_listing(ops, item->id));
		break;
	case UN_CHANGE_MISSING:
		/* Has been told, see tell_queued(). */
		break;
	case UN_CHANGE_ALL:
		tell_all(n);
		break;
	}
}

/* True: it is in nobody's hands any more, and told. */
static gboolean tell_now(gpointer key, gpointer value, gpointer data)
{
	struct un_notifier *n = data;
	const uint64_t *id = key;

	(void)value;
	if (un_fs_is_in_hand(n->ops->fs, *id))
		return FALSE;
	un_ignore(fuse_lowlevel_notify_inval_inode(n->ops->se, *id, 0, 0));
	return TRUE;
}

static gboolean is_told(gpointer key, gpointer value, gpointer data)
{
	(void)value;
	return !g_hash_table_contains(data, key);
}

/* @all: whatever is waited for. */
static void call_waiting(struct un_notifier *n, bool all)
{
	for (GList *l = n->calls.head, *next; l; l = next) {
		struct call *c = l->data;

		next = l->next;
		g_hash_table_foreach_remove(c->ids, is_told, n->later);
		if (!all && (g_hash_table_size(c->ids) > 0 || !un_again_is_told(n->again, c->mark)))
			continue;
		c->item->fn(c->item->data);
		g_hash_table_destroy(c->ids);
		g_free(c->item);
		g_free(c);
		g_queue_delete_link(&n->calls, l);
	}
}

static bool tell_again(void *data, uint64_t dir, const char *name)
{
	struct un_notifier *n = data;

	if (dir)
		return tell_once(n->ops, dir, name);
	un_ignore(un_known_each(n->ops->fs, tell_names_once, n->ops));
	return true;
}

static void tell_later(struct un_notifier *n)
{
	un_again_tell(n->again, tell_again, n);
	g_hash_table_foreach_remove(n->later, tell_now, n);
	call_waiting(n, false);
}

static void call_when_told(struct un_notifier *n, struct item *item)
{
	struct call *c = g_new0(struct call, 1);
	GHashTableIter it;
	gpointer id;

	c->item = item;
	c->mark = un_again_mark(n->again);
	c->ids = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	g_hash_table_iter_init(&it, n->later);
	while (g_hash_table_iter_next(&it, &id, NULL))
		g_hash_table_add(c->ids, g_memdup2(id, sizeof(uint64_t)));
	g_queue_push_tail(&n->calls, c);
}

static void tell_queued(struct un_notifier *n)
{
	g_autoptr(GHashTable) below = NULL;
	GQueue mine = G_QUEUE_INIT;
	struct un_missing *missing;
	struct item *item;

	notifier_lock(n);
	mine = n->queue;
	g_queue_init(&n->queue);
	n->all_queued = false;
	n->kept = 0;
	notifier_unlock(n);
	if (g_queue_is_empty(&mine))
		return;
	/* Taken before the wait: whose answer is still on its way is not told yet. */
	missing = un_known_missing_take(n->ops->fs);
	wait_for_answers(n);
	below = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	un_known_missing_tell(missing, tell_missing, n->ops);
	while ((item = g_queue_pop_head(&mine))) {
		if (item->fn) {
			tell_below(n, below);
			call_when_told(n, item);
			continue;
		}
		tell(n, item, below);
		g_free(item);
	}
	tell_below(n, below);
	tell_later(n);
}

static bool is_stopping(struct un_notifier *n)
{
	bool yes;

	notifier_lock(n);
	yes = n->stopping;
	notifier_unlock(n);
	return yes;
}

/* Milliseconds; -1: until something comes. */
static int wait_at_most(const struct un_notifier *n)
{
	int again = un_again_wait(n->again);

	if (g_hash_table_size(n->later) == 0)
		return again;
	return again < 0 ? LATER : MIN(again, LATER);
}

static void *notifier_main(void *data)
{
	struct un_notifier *n = data;
	struct pollfd p[2] = { { .fd = un_fs_watch_fd(n->ops->fs), .events = POLLIN },
			       { .fd = n->wake, .events = POLLIN } };
	unsigned own = 0;
	uint64_t count;

	while (!is_stopping(n)) {
		unsigned seq = un_fs_live_seq(n->ops->fs);
		gint64 began = g_get_monotonic_time();

		if (poll(p, 2, wait_at_most(n)) < 0 && errno != EINTR)
			break;
		if (p[1].revents & POLLIN)
			un_ignore((int)read(n->wake, &count, sizeof(count)));
		un_fs_catch_up(n->ops->fs);
		tell_queued(n);
		tell_later(n);
		if ((p[1].revents & POLLIN) || un_fs_live_seq(n->ops->fs) != seq ||
		    g_get_monotonic_time() - began > OWN_PAUSE)
			own = 0;
		else if (++own > OWN_ROUNDS)
			g_usleep(OWN_PAUSE);
	}
	return NULL;
}

int un_notify_start(struct un_ops *ops)
{
	struct un_notifier *n;
	int r;

	n = g_new0(struct un_notifier, 1);
	n->ops = ops;
	n->wake = un_errno(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	un_mutex_init(&n->lock);
	notifier_is_ours(n);
	g_queue_init(&n->queue);
	g_queue_init(&n->calls);
	n->later = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	n->again = un_again_new();
	ops->notifier = n;
	r = n->wake < 0 ? n->wake : un_process_thread(&n->thread, notifier_main, n);
	n->started = r == 0;
	un_fs_on_change(ops->fs, changed, ops, un_transport_can_expire(ops->transport));
	return r;
}

void un_notify_stop(struct un_ops *ops)
{
	struct un_notifier *n = ops->notifier;

	if (!n)
		return;
	un_fs_on_change(ops->fs, NULL, NULL, false);
	notifier_lock(n);
	n->stopping = true;
	notifier_unlock(n);
	wake(n);
	if (n->started)
		pthread_join(n->thread, NULL);
	tell_queued(n);
	call_waiting(n, true);
	g_hash_table_destroy(n->later);
	un_again_free(n->again);
	notifier_is_ours(n);
	un_close(n->wake);
	un_mutex_done(&n->lock);
	ops->notifier = NULL;
	g_free(n);
}

void un_notify_sync(struct un_ops *ops, void (*fn)(void *data), void *data)
{
	struct un_notifier *n = ops->notifier;
	struct item *item;

	un_fs_catch_up(ops->fs);
	if (!n) {
		fn(data);
		return;
	}
	un_fs_doubt_unwatched(ops->fs);
	item = g_malloc0(sizeof(*item) + 1);
	item->fn = fn;
	item->data = data;
	enqueue(n, item);
}
