/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is what this thread does still wanted? Whoever gives a thread its work says how to find out; whatever may
 * last (a copy, a wait for somebody else's) asks now and then, and gives up with -EINTR as long as nothing can
 * be seen of it.
 */
#pragma once

#include <stdbool.h>

/* On the calling thread from now on; NULL: all it does is wanted, as it is on a thread that never called this. */
void un_cancel_by(bool (*gone)(void *data), void *data);

/* True: nobody waits for it any more. Cheap, unless somebody may have gone; holds no lock, and takes none. */
bool un_cancelled(void);

/*
 * Nobody waits for how the traces of cancelled work are removed: run @fn(@data) when the caller has its answer
 * (un_cancel_done()); at once if this thread's work is not cancelled.
 */
void un_cancel_later(void (*fn)(void *data), void *data);
/* What the calling thread had in hand is answered: runs what was put off, first in, first out. */
void un_cancel_done(void);
/* The same on another thread: what was put off, owned, for un_later_run(); NULL: nothing was. */
struct un_later *un_cancel_take(void);
void un_later_run(void *later);

/* Between the two the calling thread does what has to be finished, whoever goes; they nest. */
void un_cancel_hold(void);
void un_cancel_release(void);
