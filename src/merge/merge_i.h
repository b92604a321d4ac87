/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "merge/merge.h"

/* The tar form of marks (OCI image layers, AUFS), as file names. */
#define UN_WH ".wh."
#define UN_WH_OPAQUE ".wh..wh..opq"
#define UN_WH_META ".wh..wh."

/* Is @name one that this layer's format keeps for itself? */
bool un_merge_hidden_name(const struct un_where *w, const char *name);
