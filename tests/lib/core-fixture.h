/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of union.h stand on: a stack and a union over it without FUSE, and short words for what
 * they do with it. Whatever does not come out as said fails the running test.
 */
#pragma once

#include "stack.h"

#include <sys/resource.h>

struct fixture {
	struct stack s;
	struct un_fs *fs;
	unsigned fds;
	struct rlimit nofile;
};

/*
 * Around each test. The teardown gives everything back, and fails if GLib complained; whatever hangs is
 * a failure.
 */
int core_setup(void **state);
int core_teardown(void **state);
#define T(test) cmocka_unit_test_setup_teardown(test, core_setup, core_teardown)

/* A union on layers made from text, see stack.h. */
struct un_fs *start(struct fixture *f, const char *text);

/* Ends the union, which must leave nothing, and starts another. */
struct un_fs *restart(struct fixture *f);

/* A reference to the inode at a path, which must be there. */
struct un_inode *find(struct un_fs *fs, const char *path);
struct statx attrs(struct un_fs *fs, const char *path);

/* The content, or "!" and the error; freed by g_free(). */
char *read_inode(struct un_fs *fs, struct un_inode *inode);

/* The file at a path has this content. */
void reads(struct un_fs *fs, const char *path, const char *text);

/* An operation as text, see stack_do(). */
void must(struct un_fs *fs, const char *op);
void must_fail(struct un_fs *fs, const char *op, int errnum);

/* The union and one started later show the same tree, in which nothing is wrong. */
void same_from_outside(struct fixture *f);

/* For unions started later; until the end of the test. */
void limit_descriptors(void);

/* Of every line of the upper but its root: name and kind ("/" directory, "!" opaque, "~" whiteout). */
void upper_has(struct fixture *f, const char *want);
