/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "merge_i.h"

/* Go on with the search by the path s->now, from the roots of the layers below the present one. */
int un_merge_below_roots(struct un_search *s);
