/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fault loop. For each changing operation and N = 1, 2, 3...: the Nth call on the upper fails once,
 * until the operation succeeds without having met the fault. Each time
 *
 *   - the operation returned the injected errno (or one that is documented for it), or succeeded;
 *   - the merged tree, as the living union shows it and as another one opened on the same layers shows
 *     it, is that of before or that of after, never something between;
 *   - what was held open is still there;
 *   - nothing staged is left in the work directory, and nothing at all when the union is closed;
 *   - the operation, done again, succeeds with the right result;
 *   - no descriptor is left open, and the lowers are untouched.
 *
 * Everything runs as root and, in a child, as a plain user, where the daemon has harder ways to go.
 * With arguments only the cases whose names contain one of them run; UN_FAULTS_VERBOSE tells of each
 * fault.
 */
#pragma once

#include <stddef.h>

enum {
	ROOT = 1 << 0,        /* needs root: owners, devices */
	USER = 1 << 1,        /* is of interest without it only */
	OR_XDEV = 1 << 2,     /* EXDEV is documented: the caller copies */
	NO_TMPFILE = 1 << 3,  /* on an upper that lacks it */
	NO_WHITEOUT = 1 << 4, /* RENAME_WHITEOUT */
	NO_EXCHANGE = 1 << 5, /* RENAME_EXCHANGE and NOREPLACE */
	SYNC = 1 << 6,
	CLONE = 1 << 7,       /* layers that are private clones of their mounts */
	IN_TWO = 1 << 8,      /* two steps, the state between is documented */
	REVALIDATE = 1 << 10, /* timeout=0 */
	FORMAT = 1 << 11,     /* with redirects, metadata-only copy-up, the index */
	OVERRIDE = 1 << 12,   /* owner and mode in user.containers.override_stat */
	CLEARS = 1 << 9,      /* an empty target directory is prepared first */
};

struct fault_case {
	const char *name;
	const char *stack;
	const char *op;
	unsigned flags;
	const char *held; /* an object that somebody has open meanwhile */
};

/* Stacks that many cases begin with. */

/* A lower file and directory that have all that can be copied. */
#define RICH                                                                                       \
	"1 d/ mode=0750 own=3:4 user.dir=attr acl=7:5 time=900000000\n"                            \
	"1 d/e/ mode=0711 own=3:4 user.deep=attr defacl=8:7 time=900000001\n"                      \
	"1 d/e/f = some-data mode=04751 own=5:6 user.a=1 user.b=22 acl=1000:6 time=900000002\n"    \
	"1 d/e/l -> target own=5:6 time=900000004\n"                                               \
	"1 d/e/p fifo mode=0620 own=5:6 time=900000005\n"

#define PLAIN "1 d/f = lower time=900000000\nu d/g = upper time=900000001\n"
#define COPIED "1 d/f = lower\nu d/f = changed overlay.origin= user.x=y\n"

/* A test of cmocka; its state is the case. */
void fault_loop(void **state);
/* What main() does with its cases and arguments. */
int fault_main(const struct fault_case *c, size_t n_cases, int argc, char **argv);
