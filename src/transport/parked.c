/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Workers that sleep until they are called: by those who listen (turns.c) and by who looks after them (keeper.c). */
#include "turns-state_i.h"

#include <glib.h>

static unsigned call_some(struct un_parked *p, unsigned n)
{
	const unsigned all = atomic_load(&p->n);

	n = MIN(n, all - MIN(p->calls, all));
	p->calls += n;
	if (n == 1)
		pthread_cond_signal(&p->called);
	else if (n > 1)
		pthread_cond_broadcast(&p->called);
	return n;
}

unsigned un_parked_call_locked(struct un_turns *t, unsigned n)
{
	const unsigned warm = call_some(&t->warm, n);

	return warm + call_some(&t->spare, n - warm);
}
