/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process inherits from whoever starts it, made fit for a server: descriptors 0 to 2, the umask,
 * limits, signals. Everything before any thread exists.
 */
#pragma once

#include <pthread.h>
#include <signal.h>

/*
 * Open 0 to 2 if they are closed: or a layer or /dev/fuse could become 2, and get messages written
 * to.
 */
void un_process_standard_fds(void);

/*
 * Limits (setrlimit(2)) are lifted as far as this user may; what is left and may end or hinder the program
 * later is warned of, a sentence each. Signals that nobody means to end it by are ignored: SIGXFSZ
 * (a write beyond RLIMIT_FSIZE is then EFBIG), SIGXCPU, SIGPIPE, those of timers and others;
 * SIGCHLD is not, or no child's status could be had. The umask is 0 from now on.
 * 0, or -1 and a sentence in *ret_err.
 */
int un_process_prepare(char **ret_err);

/*
 * Blocks, for all threads started from now on, the signals that are waited for: *ret has them. SIGTERM and
 * SIGUSR1 always; SIGINT, SIGQUIT and SIGHUP unless the starter has them ignored (nohup, a shell's `&`).
 */
void un_process_block_signals(sigset_t *ret);

/* pthread_create() with a stack of our size, whatever RLIMIT_STACK says. 0 or -errno. */
int un_process_thread(pthread_t *ret, void *(*fn)(void *arg), void *arg);
