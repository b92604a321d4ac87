/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nothing is locked for a request: it says what it is, then looks whether INTERRUPT was first. Who reads an
 * INTERRUPT looks for the request, leaves word for it, and looks again; so one of the two sees the other.
 * What is left for a request that has been answered stays until it is overwritten: numbers are not used twice.
 */
#include "interrupt_i.h"

#include "util/cancel.h"
#include "util/err.h"
#include "util/lock.h"

#include <glib.h>
#include <stdatomic.h>

/* Numbers go up by twos: word for a request is overwritten after about so many others at the earliest. */
#define EARLY 512u
/* How often a handler's question is handed on, in us. */
#define ASK 10000

UN_ROLE(interrupts_role);

struct un_interrupts {
	un_is_killed *killed;
	int64_t grace;
	struct un_mutex lock;
	struct un_in_hand *first UN_GUARDED_BY(interrupts_role);
	_Atomic uint64_t early[EARLY];
};
UN_LOCKS(struct un_interrupts, lock, interrupts, interrupts_role);

static _Atomic uint64_t *early(struct un_interrupts *t, uint64_t unique)
{
	return &t->early[(unique >> 1) % EARLY];
}

struct un_interrupts *un_interrupts_new(un_is_killed *killed, int64_t grace)
{
	struct un_interrupts *t = g_new0(struct un_interrupts, 1);

	t->killed = killed;
	t->grace = grace;
	un_mutex_init(&t->lock);
	return t;
}

void un_interrupts_free(struct un_interrupts *t)
{
	if (!t)
		return;
	un_mutex_done(&t->lock);
	g_free(t);
}

/* The handler's question, see un_cancelled(). */
static bool is_gone(void *data)
{
	struct un_in_hand *me = data;
	uint64_t unique = atomic_load_explicit(&me->unique, memory_order_relaxed);
	int64_t now;
	int r;

	if (unique == 0 || atomic_load(&me->named) != unique)
		return false;
	if (me->gone)
		return true;
	now = g_get_monotonic_time();
	if (!me->since)
		me->since = now;
	if (me->asked && now - me->asked < ASK)
		return false;
	me->asked = now;
	r = me->of->killed(me->pid);
	/*
	 * Where that cannot be known most signals are not fatal, and a caller that lives on must not fail for one
	 * (EINTR, from a regular file). But a killed one must not stay for as long as a large copy may take.
	 */
	me->gone = r > 0 || (r < 0 && now - me->since >= me->of->grace);
	return me->gone;
}

void un_in_hand_join(struct un_interrupts *t, struct un_in_hand *me)
{
	*me = (struct un_in_hand){ .of = t };
	interrupts_lock(t);
	me->next = t->first;
	t->first = me;
	interrupts_unlock(t);
	un_cancel_by(is_gone, me);
}

void un_in_hand_leave(struct un_in_hand *me)
{
	struct un_interrupts *t = me->of;

	un_cancel_by(NULL, NULL);
	interrupts_lock(t);
	for (struct un_in_hand **p = &t->first; *p; p = &(*p)->next) {
		if (*p == me) {
			*p = me->next;
			break;
		}
	}
	interrupts_unlock(t);
}

void un_in_hand_begin(struct un_in_hand *me, uint64_t unique, uint32_t pid)
{
	_Atomic uint64_t *word = early(me->of, unique);
	uint64_t expected = unique;

	me->pid = pid;
	me->gone = false;
	me->since = me->asked = 0;
	atomic_store(&me->unique, unique);
	if (atomic_load(word) == unique && unique != 0 &&
	    atomic_compare_exchange_strong(word, &expected, 0))
		atomic_store(&me->named, unique);
}

void un_in_hand_end(struct un_in_hand *me)
{
	atomic_store_explicit(&me->unique, 0, memory_order_relaxed);
	un_cancel_done();
	/* Should the number come again, it is another request. */
	atomic_store_explicit(&me->named, 0, memory_order_relaxed);
}

static bool name_it_locked(struct un_interrupts *t, uint64_t unique)
	UN_REQUIRES(t->lock, interrupts_role)
{
	for (struct un_in_hand *h = t->first; h; h = h->next) {
		if (atomic_load(&h->unique) == unique) {
			atomic_store(&h->named, unique);
			return true;
		}
	}
	return false;
}

void un_interrupts_note(struct un_interrupts *t, uint64_t unique)
{
	_Atomic uint64_t *word = early(t, unique);
	uint64_t expected = unique;

	if (unique == 0)
		return;
	interrupts_lock(t);
	if (!name_it_locked(t, unique)) {
		atomic_store(word, unique);
		if (name_it_locked(t, unique))
			un_ignore(atomic_compare_exchange_strong(word, &expected, 0));
	}
	interrupts_unlock(t);
}
