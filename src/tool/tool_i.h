/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the commands have in common: their command line, and how they say things. */
#pragma once

#include "stack_i.h"

#include <glib.h>
#include <stdio.h>

#define UN_TOOL "fuse-unionfs-layer"

/* Exit status. */
enum {
	UN_TOOL_CLEAN = 0,   /* nothing differs, nothing is wrong */
	UN_TOOL_FOUND = 1,   /* something does, something is */
	UN_TOOL_TROUBLE = 2, /* the command line is wrong, or not everything could be looked at */
};

/* The layers, as the command line names them. */
struct un_tool_layers {
	GPtrArray *dirs; /* char *: UPPER, then LOWERs from the top down; set by the caller */
	gchar **data;    /* of --data, or NULL */
	gchar *work;     /* of --work, or NULL */
	gboolean userxattr;
};

/* One sentence on stderr, with the program's name before it. */
void un_tool_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void un_tool_layers_done(struct un_tool_layers *tl);

/*
 * Parses the rest of a command's line. @entries: its own options. False: it has been said what is wrong, or --help
 * was answered; *ret_status is the exit status then.
 */
bool un_tool_parse(int argc, char **argv, const char *usage, const char *summary,
		   const GOptionEntry *entries, struct un_tool_layers *tl, int *ret_status);

/* Opens what was named; NULL: it has been said what is wrong. Close with un_layers_close(). */
struct un_layers *un_tool_open(const struct un_tool_layers *tl, bool mend);

/* ---- output.c ------------------------------------------------------------------------------------------ */

/* A path on one line: control characters and backslashes as \OOO. */
void un_tool_put_path(FILE *out, const char *path);

/* How far it is, on stderr, if that is a terminal; says something at most four times a second. */
void un_tool_progress(void *data, uint64_t names);
/* Before anything else is written: takes away what progress has left on its line. */
void un_tool_progress_clear(void);

/* stdout has taken everything? If not, that is said, and the status is UN_TOOL_TROUBLE. */
int un_tool_finish(int status);
