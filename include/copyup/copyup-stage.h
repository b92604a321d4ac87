/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes of one object for another. */
#pragma once

#include <stdbool.h>

struct un_at;
struct un_fs;

/*
 * Copies all xattrs that a user would see to a staged object; security.capability only with @caps.
 */
int un_stage_copy_xattrs(struct un_fs *fs, const struct un_at *from, int dir, const char *name,
			 bool caps);
