/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "merge_i.h"

/* The object (w, name) has a redirect mark: change s->now to where the layers below have it. */
int un_merge_redirect(struct un_search *s, const struct un_where *w, const char *name,
		      const struct un_rest *rest);
