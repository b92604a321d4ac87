/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A layer decorator around the one that fails: which call was it? */
#pragma once

#include "layer-fault.h"

struct recorder {
	struct un_layer inner;
	struct un_fault *f;
	char op[16];
	char what[600];
};

/* Wraps @l, which @f was put on, until it is taken off again; @rec and @f are borrowed. */
void un_layer_record(struct un_layer *l, struct recorder *rec, struct un_fault *f);
void un_layer_unrecord(struct un_layer *l, const struct recorder *rec);
