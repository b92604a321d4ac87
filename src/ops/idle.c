/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "idle_i.h"

#include "ops_i.h"

static bool tick(void *data)
{
	struct un_ops *ops = data;

	ops->ticking = false;
	if (un_fs_idle(ops->fs))
		ops->ticking = true;
	return ops->ticking;
}

/* Seconds. What is not used is closed at the second look. */
#define CLOSING_EACH 20

static bool close_idle(void *data)
{
	struct un_ops *ops = data;

	ops->closing = false;
	if (un_fs_close_idle(ops->fs))
		ops->closing = true;
	return ops->closing;
}

void un_ops_opened(struct un_ops *ops)
{
	if (!ops->closing && un_fs_wants_closing(ops->fs) && !atomic_exchange(&ops->closing, true))
		un_transport_tick(ops->transport, CLOSING_EACH, close_idle, ops);
}

void un_ops_tick(struct un_ops *ops)
{
	if (!atomic_exchange(&ops->ticking, true))
		un_transport_tick(ops->transport, 1, tick, ops);
}
