/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the parts of the option parser: options.c takes the command line apart and checks
 * what only makes sense as a whole; options-table.c knows each option and its values.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "cli/options.h"

/* Flags of the mount itself. The order is that in un_options.mount_opts. */
enum un_mount_flag {
	UN_MOUNT_ALLOW_OTHER,
	UN_MOUNT_ALLOW_ROOT,
	UN_MOUNT_SUID,
	UN_MOUNT_DEV,
	UN_MOUNT_EXEC,
	UN_MOUNT_SYNC,
	UN_MOUNT_DIRSYNC,
	UN_MOUNT_ATIME,
	UN_MOUNT_FLAGS,
};

/* Of threads= and max_threads=, which may ask for more. */
#define MAX_THREADS 1024u

struct un_parse {
	struct un_options *o;
	char *err;                         /* set exactly if something returned -EINVAL */
	GPtrArray *words;                  /* positional arguments; borrowed from argv */
	signed char mount[UN_MOUNT_FLAGS]; /* 1: asked for, -1: its opposite is, 0: neither */
	bool lowers_listed;                /* the lowers come from lowerdir=, not lowerdir+= */
	bool nfs_export;                   /* asked for */
};

/* options-error.c: keeps the first error. Returns -EINVAL. */
int un_parse_fail(struct un_parse *p, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void un_parse_warn(struct un_parse *p, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/*
 * options-table.c: one item of a -o list, as it was between the commas: backslashes and quotes still in it.
 * Returns 0, also with only a warning, or -EINVAL with p->err set.
 */
int un_parse_item(struct un_parse *p, const char *item);
