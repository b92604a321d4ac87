/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "merge_i.h"

/* Go on with the path s->now in the layers below the present one, from their roots. */
int un_merge_below_roots(struct un_search *s);
