/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "again_i.h"

#include "util/err.h"
#include "util/hash.h"

#include <string.h>

/* More are told as one: all names. */
#define MOST 16384u

/* Milliseconds after it was told last. Who is kept from running for longer than all of them goes on believing. */
static const unsigned delays[] = { 3, 50, 1000 };
#define LAST (G_N_ELEMENTS(delays) - 1)

struct item {
	GList link;
	unsigned stage; /* whose delay runs */
	gint64 due;     /* microseconds */
	uint64_t n;     /* the how manieth in its first stage */
	uint64_t dir;
	char name[];
};

struct un_again {
	GHashTable *set;                      /* of struct item */
	GQueue stages[G_N_ELEMENTS(delays)]; /* by due, the first first */
	uint64_t added;
};

static guint hash(gconstpointer p)
{
	const struct item *i = p;

	return (guint)un_hash_name_in(i->dir, i->name);
}

static gboolean equal(gconstpointer a, gconstpointer b)
{
	const struct item *x = a, *y = b;

	return x->dir == y->dir && strcmp(x->name, y->name) == 0;
}

struct un_again *un_again_new(void)
{
	struct un_again *a = g_new0(struct un_again, 1);

	a->set = g_hash_table_new_full(hash, equal, g_free, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(delays); i++)
		g_queue_init(&a->stages[i]);
	return a;
}

void un_again_free(struct un_again *a)
{
	if (!a)
		return;
	/* The items are the queues' links as well. */
	g_hash_table_destroy(a->set);
	g_free(a);
}

static void forget_all(struct un_again *a)
{
	g_hash_table_remove_all(a->set);
	for (unsigned i = 0; i < G_N_ELEMENTS(delays); i++)
		g_queue_init(&a->stages[i]);
}

static void enter(struct un_again *a, struct item *item, unsigned stage)
{
	item->stage = stage;
	item->due = g_get_monotonic_time() + delays[stage] * 1000;
	if (stage == 0)
		item->n = ++a->added;
	g_queue_push_tail_link(&a->stages[stage], &item->link);
}

static struct item *new_item(uint64_t dir, const char *name)
{
	size_t len = strlen(name) + 1;
	struct item *item = g_malloc0(sizeof(*item) + len);

	item->link.data = item;
	item->dir = dir;
	memcpy(item->name, name, len);
	return item;
}

/* Into the stage @stage, from where it was if it is known. */
static void enter_as(struct un_again *a, uint64_t dir, const char *name, unsigned stage)
{
	struct item *item = new_item(dir, name), *known = g_hash_table_lookup(a->set, item);

	if (known) {
		g_free(item);
		item = known;
		g_queue_unlink(&a->stages[item->stage], &item->link);
	} else {
		g_hash_table_add(a->set, item);
	}
	enter(a, item, stage);
}

static bool has_all(struct un_again *a)
{
	const struct item *last = g_queue_peek_tail(&a->stages[LAST]);

	return last && last->dir == 0;
}

void un_again_add(struct un_again *a, uint64_t dir, const char *name)
{
	if (g_hash_table_size(a->set) >= MOST || has_all(a)) {
		/* That takes long: once. */
		forget_all(a);
		enter_as(a, 0, "", LAST);
	} else {
		enter_as(a, dir, name, 0);
	}
}

int un_again_wait(struct un_again *a)
{
	gint64 first = G_MAXINT64, now;

	for (unsigned i = 0; i < G_N_ELEMENTS(delays); i++) {
		const struct item *item = g_queue_peek_head(&a->stages[i]);

		first = item ? MIN(first, item->due) : first;
	}
	if (first == G_MAXINT64)
		return -1;
	now = g_get_monotonic_time();
	return first > now ? (int)((first - now + 999) / 1000) : 0;
}

void un_again_tell(struct un_again *a, bool (*fn)(void *data, uint64_t dir, const char *name),
		   void *data)
{
	const gint64 now = g_get_monotonic_time();

	for (unsigned i = 0; i < G_N_ELEMENTS(delays); i++) {
		struct item *item;

		while ((item = g_queue_peek_head(&a->stages[i])) && item->due <= now) {
			g_queue_unlink(&a->stages[i], &item->link);
			un_ignore(fn(data, item->dir, item->name));
			if (i < LAST)
				enter(a, item, i + 1);
			else
				g_hash_table_remove(a->set, item);
		}
	}
}

uint64_t un_again_mark(const struct un_again *a)
{
	return a->added;
}

bool un_again_is_told(struct un_again *a, uint64_t mark)
{
	const struct item *first = g_queue_peek_head(&a->stages[0]);

	return !first || first->n > mark;
}
