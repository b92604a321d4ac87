/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A temporary stack of layers made from a few lines of text, a union over it without FUSE, operations
 * on that written as text, and the merged tree as text again, to be compared. What cannot be made
 * fails the running test.
 *
 * One object a line: LAYER PATH [WHAT] [ATTRIBUTE...]. The layer is u (upper) or 1, 2, ... from the top.
 *
 *   1 d/               a directory; missing parents are made too
 *   1 d/f = text       a regular file; empty without a text, which has no "=" in it
 *   1 d/l -> target    a symlink
 *   1 d/h == d/f       a hard link to another name in this layer
 *   1 d/p fifo         also: socket, chr 1:3, blk 1:3
 *   u d/w whiteout     a device 0:0; xwhiteout: an empty file with the mark
 *
 * Attributes: mode=0640 own=5:6 time=SECONDS size=BYTES (a hole after the text) acl=UID:PERMS
 * defacl=UID:PERMS, and NAME=VALUE with a dot in the name for an xattr, where overlay.X stands for the
 * mark X in the dialect in use. Times are old unless given: what a test changes shows a time of "now".
 * An owner that cannot be given and a device that cannot be made are left out without root.
 */
#pragma once

#include "union/union.h"
#include "layer/setup.h"

#include <stdbool.h>

struct stack {
	char dir[64];
	char *text;
	unsigned n_lowers;
	bool has_upper; /* it always has the directories; false: do not use them */
	bool trusted;   /* dialect of the marks that were made */
	bool root;      /* owners and devices could be made */
	/* For the unions opened on it. */
	bool no_clone;
	bool sync;
	bool revalidate;
	bool writeback;
	bool format; /* redirects, metadata-only copy-up, the index */
	const struct un_owners *owners;
};

/* UN_TEST_DIR in the environment says where; otherwise memory if that will do, or /tmp. */
void stack_init(struct stack *s, const char *text);
void stack_done(struct stack *s);
/* Upper and work as they were at the beginning. */
void stack_reset_upper(struct stack *s);
/* More objects. */
void stack_add(struct stack *s, const char *text);
/* "DIR/NAME" in a static buffer (a few of them): stack_path(s, "upper/d/f"), "1/d", "work/work". */
const char *stack_path(const struct stack *s, const char *path);

struct un_layers *stack_layers(const struct stack *s);
/* Takes over @ls. */
struct un_fs *stack_fs_on(const struct stack *s, struct un_layers *ls);
struct un_fs *stack_fs(const struct stack *s);

/* A reference to the inode at a path ("" or "/": the root), or NULL and -errno in *ret. */
struct un_inode *stack_find(struct un_fs *fs, const char *path, int *ret);

/*
 * One operation, as text; 0, a count, or -errno.
 *
 *   create P MODE | mkdir P MODE | fifo P MODE | mknod P MODE MAJ:MIN | symlink P TARGET
 *   unlink P | rmdir P | rename P Q [noreplace|exchange] | link P Q | tmpfile DIR TEXT [Q]
 *   write P TEXT [OFFSET] | truncate P SIZE | fallocate P SIZE | chmod P MODE | chown P UID:GID
 *   utime P SECONDS | setxattr P NAME VALUE | setacl P UID:PERMS | rmxattr P NAME | fsync P
 *   lookup P | list P
 *
 * A last word "as=UID:GID" says who asks; otherwise it is the process itself.
 */
int stack_do(struct un_fs *fs, const char *op);

enum stack_view {
	STACK_VIEW_KEEP = 1 << 0,  /* like a kernel that forgets nothing */
	STACK_VIEW_NAMES = 1 << 1, /* look every name up in every directory, before it is listed */
};
/*
 * The merged tree, one object a line, sorted; freed by g_free(). Inode numbers appear as the first
 * name that has them. @names: space separated, for STACK_VIEW_NAMES.
 */
char *stack_view(struct un_fs *fs, unsigned flags, const char *names);
/* All names (last components) in the stack's text, for the above. */
char *stack_names(const struct stack *s);

/* A layer as it is on the disk: everything, marks by value but for origin and uuid. */
char *stack_disk(const struct stack *s, const char *path);
/* Names in a directory of the stack, sorted, space separated. */
char *stack_ls(const struct stack *s, const char *path);

unsigned stack_count_fds(void);
