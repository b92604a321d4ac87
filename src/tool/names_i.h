/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names in a real directory. */
#pragma once

#include "stack_i.h"

/*
 * All names but "." and "..", sorted by bytes; owned, char *. 0 or -errno. Times of access are left alone
 * as far as that is allowed.
 */
int un_tool_names(const struct un_tool_dir *dir, GPtrArray **ret);

/*
 * The names that marks and objects in @dir are about: a `.wh.NAME` that is a mark stands for NAME. Sorted, each
 * once.
 */
int un_tool_subjects(const struct un_tool_dir *dir, GPtrArray **ret);

/* Sorted, each once. */
void un_tool_names_settle(GPtrArray *names);
