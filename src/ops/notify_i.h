/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel is told of changes that others made in layers, by a thread of its own. */
#pragma once

#include "ops_i.h"

/* Starts the thread. 0, or -errno: it cannot be started. */
int un_notify_start(struct un_ops *ops);
/* Nobody is told any more. */
void un_notify_stop(struct un_ops *ops);
/* To be told as well: what was just answered may be older than a change. */
void un_notify_again(struct un_ops *ops, uint64_t id);
/*
 * @fn is called, by the thread or at once, when all changes made before this call are seen by whoever looks. It must
 * not wait for a request.
 */
void un_notify_sync(struct un_ops *ops, void (*fn)(void *data), void *data);

/*
 * Around an answer that the kernel may keep: the thread lets it leave before it tells of a change that came after
 * un_ops_keep() was asked (reply.c).
 */
unsigned un_notify_enter(struct un_ops *ops);
void un_notify_leave(struct un_ops *ops, unsigned turn);
