/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer/layer.h"
#include "object/fdcache.h"
#include "object/object.h"
#include "util/fd.h"
#include "util/lock.h"

#include <glib.h>

UN_ROLE(cache_role);

struct un_fdcache {
	struct un_mutex lock;
	struct un_fd lru UN_GUARDED_BY(cache_role); /* list head; next = least recently used */
	unsigned count UN_GUARDED_BY(cache_role);
	unsigned pinned UN_GUARDED_BY(cache_role);
	unsigned budget, pin_budget;
	unsigned keep;  /* of those that can be had again */
	unsigned crowd UN_GUARDED_BY(cache_role); /* so many in all ask for a look */
	const struct un_fdcache_ops *ops; /* or NULL */
	void *data;
};
UN_LOCKS(struct un_fdcache, lock, cache, cache_role);

struct un_fdcache *un_fdcache_new(unsigned budget, unsigned keep)
{
	struct un_fdcache *c = g_new0(struct un_fdcache, 1);

	un_mutex_init(&c->lock);
	cache_is_ours(c);
	c->budget = budget;
	c->pin_budget = budget / 2;
	c->keep = c->crowd = keep;
	c->lru.prev = c->lru.next = &c->lru;
	return c;
}

void un_fdcache_set_ops(struct un_fdcache *c, const struct un_fdcache_ops *ops, void *data)
{
	c->ops = ops;
	c->data = data;
}

static void unlink_locked(struct un_fdcache *c, struct un_fd *f) UN_REQUIRES(c->lock, cache_role)
{
	f->prev->next = f->next;
	f->next->prev = f->prev;
	f->cached = false;
	*f->home = NULL;
	c->count--;
	if (f->flags & UN_FD_PIN)
		c->pinned--;
}

static void append_locked(struct un_fdcache *c, struct un_fd *f) UN_REQUIRES(c->lock, cache_role)
{
	f->prev = c->lru.prev;
	f->next = &c->lru;
	f->prev->next = f;
	c->lru.prev = f;
}

/*
 * A server far away may not answer, and what makes room here is somebody who wants another layer. (In the upper what is
 * removed while it is open has another name until it is closed: there it is closed at once.)
 */
static bool may_take_long(const struct un_fd *f)
{
	return (f->flags & UN_FD_READ) && f->layer && f->layer->remote && f->layer->index > 0;
}

static void release(struct un_fdcache *c, struct un_fd *f)
{
	if ((f->flags & UN_FD_DIRTY) && c->ops)
		c->ops->closing(c->data, f->fd);
	if (c->ops && may_take_long(f))
		c->ops->close_later(c->data, f->fd);
	else
		un_close(f->fd);
	g_free(f);
}

void un_fdcache_free(struct un_fdcache *c)
{
	if (!c)
		return;
	cache_is_ours(c);
	while (c->lru.next != &c->lru) {
		struct un_fd *f = c->lru.next;

		unlink_locked(c, f);
		release(c, f);
	}
	un_mutex_done(&c->lock);
	g_free(c);
}

struct un_fd *un_fdcache_use(struct un_fdcache *c, struct un_fd *f)
{
	cache_lock(c);
	f->users++;
	cache_unlock(c);
	return f;
}

struct un_fd *un_fdcache_get(struct un_fdcache *c, struct un_fd **home, unsigned flags)
{
	struct un_fd *f;

	cache_lock(c);
	f = *home;
	if (f && (f->flags & flags) == flags) {
		f->users++;
		f->recent = true;
		if (flags & UN_FD_WRITE) {
			f->flags |= UN_FD_DIRTY;
			f->writers++;
		}
		/* Moving it at each use would be the cost of a use; evicting gives a second chance. */
	} else {
		f = NULL;
	}
	cache_unlock(c);
	return f;
}

/* Takes up to @n idle ones without @not off the list and puts them before @victims. */
static struct un_fd *collect_some_locked(struct un_fdcache *c, unsigned n, unsigned not,
					 struct un_fd *victims, unsigned *ret_left)
	UN_REQUIRES(c->lock, cache_role)
{
	struct un_fd *f = c->lru.next;
	unsigned seen = 0, limit = c->count * 2;

	while (n > 0 && f != &c->lru && seen++ < limit) {
		struct un_fd *next = f->next;

		if (f->users == 0 && !(f->flags & not )) {
			if (f->recent) {
				f->recent = false;
				f->prev->next = f->next;
				f->next->prev = f->prev;
				append_locked(c, f);
				if (next == &c->lru)
					next = f;
			} else {
				unlink_locked(c, f);
				f->next = victims;
				victims = f;
				n--;
			}
		}
		f = next;
	}
	*ret_left = n;
	return victims;
}

/* Idle ones, for the caller to close without the lock; dirty ones only if others do not do. */
static struct un_fd *collect_locked(struct un_fdcache *c, unsigned n)
	UN_REQUIRES(c->lock, cache_role)
{
	struct un_fd *victims = collect_some_locked(c, n, UN_FD_PIN | UN_FD_DIRTY, NULL, &n);

	return n > 0 ? collect_some_locked(c, n, UN_FD_PIN, victims, &n) : victims;
}

static void release_all(struct un_fdcache *c, struct un_fd *victims)
{
	while (victims) {
		struct un_fd *next = victims->next;

		release(c, victims);
		victims = next;
	}
}

/*
 * What one more is paid with. Pinned and dirty ones may be as many as there is room for, so that a walk
 * over the list finds little is possible: then the next one waits until more have come.
 */
static struct un_fd *make_room_locked(struct un_fdcache *c) UN_REQUIRES(c->lock, cache_role)
{
	struct un_fd *victims;
	unsigned left;

	if (c->count > c->budget)
		return collect_locked(c, c->count - c->budget + c->budget / 16);
	if (c->count <= c->crowd)
		return NULL;
	victims = collect_some_locked(c, c->count - c->keep + c->keep / 16, UN_FD_PIN | UN_FD_DIRTY,
				      NULL, &left);
	c->crowd = MAX(c->keep, c->count + c->keep / 16);
	return victims;
}

struct un_fd *un_fdcache_add_only(struct un_fdcache *c, struct un_fd **home, struct un_layer *layer,
				  int fd, unsigned flags, struct un_fd **ret_rest)
{
	struct un_fd *f = g_new0(struct un_fd, 1), *old, *victims;
	unsigned old_flags;
	bool was_pinned;

	f->fd = fd;
	f->layer = layer;
	f->home = home;
	f->users = 1;
	f->recent = true;
	f->cached = true;
	cache_lock(c);
	old = *home;
	old_flags = old ? old->flags : 0;
	was_pinned = old_flags & UN_FD_PIN;
	if (old) {
		unlink_locked(c, old);
		if (old->users > 0)
			old = NULL; /* its last user closes it */
	}
	if ((flags & UN_FD_PIN) && !was_pinned && c->pinned >= c->pin_budget)
		flags &= ~(unsigned)UN_FD_PIN;
	/* Which does not know yet what became of what its predecessor was to write: that is closed below. */
	f->flags = flags | (old_flags & UN_FD_DIRTY);
	f->append = flags & UN_FD_APPEND;
	f->writers = flags & UN_FD_DIRTY ? 1 : 0;
	*home = f;
	append_locked(c, f);
	c->count++;
	if (flags & UN_FD_PIN)
		c->pinned++;
	victims = make_room_locked(c);
	cache_unlock(c);
	if (old) {
		old->next = victims;
		victims = old;
	}
	*ret_rest = victims;
	return f;
}

void un_fdcache_close(struct un_fdcache *c, struct un_fd *rest)
{
	release_all(c, rest);
}

struct un_fd *un_fdcache_add(struct un_fdcache *c, struct un_fd **home, struct un_layer *layer,
			     int fd, unsigned flags)
{
	struct un_fd *rest, *f = un_fdcache_add_only(c, home, layer, fd, flags, &rest);

	release_all(c, rest);
	return f;
}

void un_fdcache_put(struct un_fdcache *c, struct un_fd *f)
{
	bool last;

	if (!f)
		return;
	cache_lock(c);
	last = --f->users == 0 && !f->cached;
	cache_unlock(c);
	if (last)
		release(c, f);
}

void un_fdcache_put_done(struct un_fdcache *c, struct un_fd *f)
{
	bool last;

	cache_lock(c);
	last = --f->users == 0;
	if (last && f->cached && !(f->flags & (UN_FD_PIN | UN_FD_WRITE | UN_FD_DIRTY)))
		unlink_locked(c, f);
	else
		last = last && !f->cached;
	cache_unlock(c);
	if (last)
		release(c, f);
}

static void clear(struct un_fdcache *c, struct un_fd **home, bool gone)
{
	struct un_fd *f;

	cache_lock(c);
	f = *home;
	if (f) {
		if (gone)
			f->flags &= ~(unsigned)UN_FD_DIRTY;
		unlink_locked(c, f);
		if (f->users > 0)
			f = NULL;
	}
	cache_unlock(c);
	if (f)
		release(c, f);
}

void un_fdcache_clear(struct un_fdcache *c, struct un_fd **home)
{
	clear(c, home, false);
}

void un_fdcache_clear_gone(struct un_fdcache *c, struct un_fd **home)
{
	clear(c, home, true);
}

bool un_fdcache_pin(struct un_fdcache *c, struct un_fd **home, bool pin)
{
	struct un_fd *f;
	bool ok = false;

	cache_lock(c);
	f = *home;
	if (f && pin && !(f->flags & UN_FD_PIN) && c->pinned < c->pin_budget) {
		f->flags |= UN_FD_PIN;
		c->pinned++;
	} else if (f && !pin && (f->flags & UN_FD_PIN)) {
		f->flags &= ~(unsigned)UN_FD_PIN;
		c->pinned--;
	}
	ok = f && !!(f->flags & UN_FD_PIN) == pin;
	cache_unlock(c);
	return ok;
}

bool un_fdcache_squeeze(struct un_fdcache *c)
{
	struct un_fd *victims;
	bool found;

	cache_lock(c);
	victims = collect_locked(c, c->count / 2 + 1);
	found = victims != NULL;
	/* From now on stay below what there evidently is room for. */
	if (victims && c->budget > c->count + 16)
		c->budget = c->count + 16;
	cache_unlock(c);
	release_all(c, victims);
	return found;
}

unsigned un_fdcache_sync_begin(struct un_fdcache *c, const struct un_fd *f)
{
	unsigned before;

	cache_lock(c);
	/* Somebody else who has it may be writing. */
	before = f->users == 1 ? f->writers : f->writers - 1;
	cache_unlock(c);
	return before;
}

void un_fdcache_synced(struct un_fdcache *c, struct un_fd *f, unsigned before)
{
	cache_lock(c);
	if (f->writers == before)
		f->flags &= ~(unsigned)UN_FD_DIRTY;
	cache_unlock(c);
}

/* Writable ones that nobody uses, in use by the caller now; *ret_remain: there are others. */
static GPtrArray *idle_writable(struct un_fdcache *c, bool *ret_remain)
{
	GPtrArray *idle = g_ptr_array_new();

	*ret_remain = false;
	cache_lock(c);
	for (struct un_fd *f = c->lru.next; f != &c->lru; f = f->next) {
		if (!(f->flags & UN_FD_WRITE) || (f->flags & UN_FD_PIN))
			continue;
		if (f->users == 0 && !f->recent) {
			f->users++;
			g_ptr_array_add(idle, f);
		} else {
			f->recent = false;
			*ret_remain = true;
		}
	}
	cache_unlock(c);
	return idle;
}

/*
 * @f is used by the caller alone, or else stays as it is. Opened before the old one is asked, the one for
 * reading misses nothing.
 */
static bool retire(struct un_fdcache *c, struct un_fd *f)
{
	struct un_fd old = { .fd = -1 };
	unsigned before;
	bool dirty, unused;
	int fd;

	cache_lock(c);
	dirty = f->flags & UN_FD_DIRTY;
	before = f->writers;
	cache_unlock(c);
	fd = dirty && c->ops ? c->ops->reopen(c->data, f->fd) : -1;

	/* Written since, it stays: `recent` alone may have been taken back by an eviction's second chance. */
	cache_lock(c);
	unused = --f->users == 0;
	if (unused && f->cached && !f->recent && f->writers == before && !(f->flags & UN_FD_PIN)) {
		if (fd >= 0) {
			old = *f;
			f->fd = fd;
			f->flags = UN_FD_READ | UN_FD_DIRTY;
			f->append = false;
			fd = -1;
			f = NULL;
		} else {
			unlink_locked(c, f);
		}
	} else if (!unused || f->cached) {
		f = NULL;
	}
	cache_unlock(c);
	if (fd >= 0)
		un_close(fd);
	if (old.fd >= 0) {
		c->ops->closing(c->data, old.fd);
		un_close(old.fd);
		return true;
	}
	if (!f)
		return false;
	release(c, f);
	return true;
}

bool un_fdcache_idle(struct un_fdcache *c)
{
	bool remain;
	g_autoptr(GPtrArray) idle = idle_writable(c, &remain);

	for (unsigned i = 0; i < idle->len; i++)
		if (!retire(c, idle->pdata[i]))
			remain = true;
	return remain;
}

bool un_fdcache_age(struct un_fdcache *c, unsigned enough)
{
	struct un_fd *victims = NULL;
	bool remain = false;

	cache_lock(c);
	for (struct un_fd *f = c->lru.next, *next; f != &c->lru && c->count > enough; f = next) {
		next = f->next;
		if (f->flags & (UN_FD_PIN | UN_FD_DIRTY | UN_FD_WRITE))
			continue;
		if (f->users > 0 || f->recent) {
			f->recent = false;
			remain = true;
			continue;
		}
		unlink_locked(c, f);
		f->next = victims;
		victims = f;
	}
	remain = remain && c->count > enough;
	c->crowd = c->keep;
	cache_unlock(c);
	release_all(c, victims);
	return remain;
}

size_t un_fdcache_count(struct un_fdcache *c)
{
	size_t n;

	cache_lock(c);
	n = c->count;
	cache_unlock(c);
	return n;
}

unsigned un_fdcache_budget(struct un_fdcache *c)
{
	unsigned n;

	cache_lock(c);
	n = c->budget;
	cache_unlock(c);
	return n;
}
