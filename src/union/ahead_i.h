/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between ahead.c, who reads what, and ahead-window.c, which files come next and how they are asked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct un_fs;
struct un_inode;
struct un_realdir;

/* In which the files of a directory are read. */
enum un_order {
	UN_ORDER_UNKNOWN,
	UN_ORDER_LISTED, /* tar, grep -r */
	UN_ORDER_INODE,  /* cp -r */
	UN_ORDER_NAME,   /* a shell's pattern */
};

/* So many files are asked for at a time. */
#define UN_WINDOW 64

struct un_window {
	struct {
		struct un_realdir *rd; /* a reference */
		char *name;
	} files[UN_WINDOW];
	unsigned n;
	bool end;  /* no file comes after these */
	bool cold; /* some were not in memory, as far as that can be told, and have been asked for */
};

/* In which order comes @b soon after @a? Both are names in @dir. Takes ns. */
enum un_order un_window_order(struct un_inode *dir, const char *a, const char *b);
/*
 * Files up to @end were asked for, in the order @o, and @name is read: does it go on as was thought? Then NAME_MAX + 1 bytes
 * of @ret say behind which file the next ones are: @end, or @name if that is further on already. Takes ns.
 */
bool un_window_goes_on(struct un_inode *dir, enum un_order o, const char *end, const char *name,
		       char *ret);
/* The files that come after @after ("": the first ones). False: that cannot be told. Takes ns. */
bool un_window_choose(struct un_inode *dir, enum un_order o, const char *after,
		      struct un_window *ret);
/* The disk is asked for their data. They may be fewer afterwards: as many as were asked for. No lock is held. */
void un_window_ask(struct un_fs *fs, struct un_window *w);
void un_window_done(struct un_fs *fs, struct un_window *w);
