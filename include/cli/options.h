/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command line to `struct un_options`, or one sentence of error. Touches no file.
 *
 *   struct un_options *o = un_options_parse(argc, argv, geteuid() == 0, &err);
 *   if (!o) { print err; exit 1 }   for each o->warnings: print
 *   ... un_options_free(o)
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define UN_MAX_LOWERS 500
#define UN_TIMEOUT_FOREVER (-1.0)

enum un_sync {
	UN_SYNC_AUTO,   /* data is on disk before a copied-up file becomes visible */
	UN_SYNC_STRICT, /* ... and metadata and directories too */
	UN_SYNC_VOLATILE,
};

struct un_options {
	GPtrArray *lowers; /* char *, unescaped, top first, 1..UN_MAX_LOWERS */
	char *upper;       /* NULL: read-only union */
	char *work;        /* NULL exactly if upper is */
	char *source;      /* first positional of two, or NULL */
	char *mountpoint;
	char *fsname;  /* never NULL: fsname=, else SOURCE, else "fuse-unionfs" */
	char *subtype; /* never NULL: "fuse-unionfs" unless given */
	GString *
		mount_opts; /* for the mount itself, comma separated: "allow_other,suid,dev,noatime" */
	GPtrArray *warnings; /* char *: sentences */
	bool help;
	bool version; /* with help or version nothing else is filled in */
	bool foreground;
	bool debug;
	bool read_only; /* asked for (ro); a union without upper is so anyway */
	bool writeback;
	bool noxattrs;
	bool userxattr; /* asked for; without it the dialect follows from the privilege */
	bool clone_fd;  /* default true */
	bool auto_unmount;
	enum un_sync sync;
	double timeout;     /* seconds; UN_TIMEOUT_FOREVER */
	unsigned threads;   /* 0: as many as CPUs */
	unsigned max_write; /* bytes; 0: default */
};

/* NULL and *ret_err (a sentence, no newline, owned by the caller) for a bad command line. */
struct un_options *un_options_parse(int argc, char **argv, bool is_root, char **ret_err);

/* Accepts NULL. */
void un_options_free(struct un_options *o);

/* Texts for --help and --version; static. */
const char *un_usage_help(void);
const char *un_usage_version(void);
