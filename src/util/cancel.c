/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/cancel.h"

#include <glib.h>

struct un_later {
	struct un_later *next;
	void (*fn)(void *data);
	void *data;
};

static __thread struct {
	bool (*gone)(void *data);
	void *data;
	unsigned holds;
	struct un_later *later, **last;
} self;

void un_cancel_by(bool (*gone)(void *data), void *data)
{
	self.gone = gone;
	self.data = data;
}

bool un_cancelled(void)
{
	return self.gone && self.holds == 0 && self.gone(self.data);
}

void un_cancel_hold(void)
{
	self.holds++;
}

void un_cancel_release(void)
{
	self.holds--;
}

void un_cancel_later(void (*fn)(void *data), void *data)
{
	struct un_later *l;

	if (!un_cancelled()) {
		fn(data);
		return;
	}
	l = g_new0(struct un_later, 1);
	*l = (struct un_later){ .fn = fn, .data = data };
	if (!self.later)
		self.last = &self.later;
	*self.last = l;
	self.last = &l->next;
}

struct un_later *un_cancel_take(void)
{
	struct un_later *first = self.later;

	self.later = NULL;
	return first;
}

void un_later_run(void *later)
{
	for (struct un_later *l = later, *next; l; l = next) {
		next = l->next;
		l->fn(l->data);
		g_free(l);
	}
}

void un_cancel_done(void)
{
	struct un_later *l;

	/* One may put off another. */
	while ((l = un_cancel_take()))
		un_later_run(l);
}
