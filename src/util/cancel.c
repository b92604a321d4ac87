/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/cancel.h"

#include <glib.h>

struct later {
	struct later *next;
	void (*fn)(void *data);
	void *data;
};

static __thread struct {
	bool (*gone)(void *data);
	void *data;
	unsigned holds;
	struct later *later, **last;
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
	struct later *l;

	if (!un_cancelled()) {
		fn(data);
		return;
	}
	l = g_new0(struct later, 1);
	*l = (struct later){ .fn = fn, .data = data };
	if (!self.later)
		self.last = &self.later;
	*self.last = l;
	self.last = &l->next;
}

void un_cancel_done(void)
{
	while (self.later) {
		struct later *l = self.later;

		self.later = l->next;
		l->fn(l->data);
		g_free(l);
	}
}
