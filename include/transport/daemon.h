/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Into the background, in two steps: the caller's process waits until the daemon is ready or has
 * failed, so that its exit status and its standard error tell the truth.
 */
#pragma once

/* Zeroed with @pipe -1: in the foreground; ready and fail then do what is right there. */
struct un_daemon {
	int pipe;
};
#define UN_DAEMON_INIT                                                                             \
	{                                                                                          \
		.pipe = -1                                                                         \
	}

enum un_daemon_side {
	UN_DAEMON_CHILD,  /* go on: mount, serve */
	UN_DAEMON_READY,  /* parent: the child serves; exit 0 */
	UN_DAEMON_FAILED, /* parent: the child has cleaned up and ended; *ret_err is its sentence */
	UN_DAEMON_DIED,   /* parent: the child has ended without a word; *ret_err says how */
	UN_DAEMON_NO_FORK, /* there is no child: all is still the caller's; *ret_err says why */
};

/*
 * Fork. Before any thread exists. The parent stays in here until it knows; it must then do nothing
 * but report, and _exit(): all else belongs to the child.
 */
enum un_daemon_side un_daemon_fork(struct un_daemon *d, char **ret_err);

/*
 * Everything works: standard input, output and error become /dev/null, the log goes to syslog, and
 * the parent is released. Foreground: nothing. Does not close other descriptors.
 */
void un_daemon_ready(struct un_daemon *d);

/*
 * "fuse-unionfs: SENTENCE" on the caller's standard error; in the background the parent writes it.
 */
void un_daemon_fail(struct un_daemon *d, const char *sentence);
