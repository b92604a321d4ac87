/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>

/* One thread for work that must not be done on a worker. Started by the first thing to do. */
struct un_helper;

struct un_helper *un_helper_new(void);
/* Runs @fn in the caller, whose device is as before, if the thread cannot be started or has been stopped. */
void un_helper_defer(struct un_helper *h, void (*fn)(void *data), void *data);
/* The same; false: there is no thread, and nothing was done. */
bool un_helper_try_defer(struct un_helper *h, void (*fn)(void *data), void *data);
/* No effect while the same @fn and @data are ticking. */
void un_helper_tick(struct un_helper *h, unsigned seconds, bool (*fn)(void *data), void *data);
/* Runs what was deferred, drops the ticks, joins the thread. May be called twice. */
void un_helper_stop(struct un_helper *h);
void un_helper_free(struct un_helper *h);
