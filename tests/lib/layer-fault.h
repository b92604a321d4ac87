/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A layer decorator that makes the Nth operation fail, once or from then on. */
#pragma once

#include <stdbool.h>

#include "layer/layer.h"

struct un_fault {
	int countdown;     /* the Nth call from now fails (1: the next); below 0 never */
	int err;           /* with this errno (positive) */
	bool changes_only; /* count and fail only what changes the layer */
	bool stats_only;   /* count and fail only stat, ... */
	bool lasting;      /* ... and all that come after the first that failed */
	unsigned calls;    /* counted so far */
	bool hit;          /* it has failed */
};

/*
 * Wraps whatever @l uses now. @f is borrowed; it may be changed between operations to arm the next
 * fault. Counting is atomic, so a layer may be used by several threads. pread, pwrite and
 * copy_range count as any other call.
 */
void un_layer_fault(struct un_layer *l, struct un_fault *f);

/* Takes the decorator off again. Only if it is the outermost one. */
void un_layer_unfault(struct un_layer *l);
