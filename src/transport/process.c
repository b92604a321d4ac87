/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "transport/process.h"

#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util/err.h"
#include "util/log.h"

/* Nothing recurses, and what may be large is on the heap. */
#define STACK_SIZE (1024 * 1024ul)

/* Below this much memory a large directory or many threads may be its end. */
#define MEMORY_ENOUGH (1024 * 1024 * 1024ul)

void un_process_standard_fds(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && fd <= 2)
		un_ignore(fcntl(fd, F_SETFD, 0));
	if (fd > 2)
		close(fd);
}

/* ---- limits ------------------------------------------------------------------------------------------ */

/* Lift the limit as far as it goes; returns what it is then. */
static rlim_t lift(int resource)
{
	struct rlimit now, all = { RLIM_INFINITY, RLIM_INFINITY };

	if (getrlimit(resource, &now) < 0)
		return RLIM_INFINITY;
	/* Descriptors have no infinity: what root may have beyond the hard limit is not ours to say. */
	if (resource != RLIMIT_NOFILE && now.rlim_cur != RLIM_INFINITY &&
	    setrlimit(resource, &all) == 0)
		return RLIM_INFINITY;
	now.rlim_cur = now.rlim_max;
	un_ignore(setrlimit(resource, &now));
	return getrlimit(resource, &now) < 0 ? RLIM_INFINITY : now.rlim_cur;
}

static void lift_limits(void)
{
	static const int quiet[] = { RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_STACK, RLIMIT_MEMLOCK };
	static const struct {
		int resource;
		const char *name;
	} memory[] = { { RLIMIT_AS, "RLIMIT_AS" }, { RLIMIT_DATA, "RLIMIT_DATA" } };
	rlim_t limit;

	for (size_t i = 0; i < G_N_ELEMENTS(quiet); i++)
		lift(quiet[i]);
	limit = lift(RLIMIT_CPU);
	if (limit != RLIM_INFINITY)
		un_log(LOG_WARNING,
		       "RLIMIT_CPU (ulimit -t) cannot be lifted: the kernel will end this mount "
		       "after %" G_GUINT64_FORMAT " seconds of processor time",
		       (guint64)limit);
	limit = lift(RLIMIT_FSIZE);
	if (limit != RLIM_INFINITY)
		un_log(LOG_WARNING,
		       "RLIMIT_FSIZE (ulimit -f) cannot be lifted: no file in this mount can grow "
		       "beyond %" G_GUINT64_FORMAT " bytes (EFBIG)",
		       (guint64)limit);
	for (size_t i = 0; i < G_N_ELEMENTS(memory); i++) {
		limit = lift(memory[i].resource);
		if (limit < MEMORY_ENOUGH)
			un_log(LOG_WARNING,
			       "%s cannot be lifted: this mount ends when it needs more than %" G_GUINT64_FORMAT
			       " KiB of memory",
			       memory[i].name, (guint64)limit / 1024);
	}
}

/* ---- signals ----------------------------------------------------------------------------------------- */

static bool is_ignored(int sig)
{
	struct sigaction now;

	return sigaction(sig, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

static void dispose(int sig, void (*how)(int sig))
{
	struct sigaction act = { .sa_handler = how };

	un_ignore(sigaction(sig, &act, NULL));
}

/*
 * Not ignored: those of faults of our own, SIGSTOP, SIGTSTP and SIGCONT, which a terminal or a person
 * sends on purpose, and those that un_process_block_signals() waits for.
 */
static void dispose_signals(void)
{
	static const int deaf[] = {
		SIGPIPE,   SIGXFSZ, SIGXCPU, SIGALRM, SIGVTALRM, SIGPROF,
		SIGUSR2,   SIGIO,   SIGPWR,  SIGTTIN, SIGTTOU,
#ifdef SIGSTKFLT
		SIGSTKFLT,
#endif
	};
	sigset_t none;

	for (size_t i = 0; i < G_N_ELEMENTS(deaf); i++)
		dispose(deaf[i], SIG_IGN);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		dispose(sig, SIG_IGN);
	/* Where it is ignored the kernel throws the status of children away. */
	dispose(SIGCHLD, SIG_DFL);
	/* fusermount3 is to get the same as we. */
	sigemptyset(&none);
	un_ignore(sigprocmask(SIG_SETMASK, &none, NULL));
}

void un_process_block_signals(sigset_t *ret)
{
	static const int asked[] = { SIGINT, SIGQUIT, SIGHUP };

	sigemptyset(ret);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGUSR1);
	for (size_t i = 0; i < G_N_ELEMENTS(asked); i++)
		if (!is_ignored(asked[i]))
			sigaddset(ret, asked[i]);
	/* A signal that is ignored is not sent to who waits for it either. */
	dispose(SIGTERM, SIG_DFL);
	dispose(SIGUSR1, SIG_DFL);
	pthread_sigmask(SIG_BLOCK, ret, NULL);
}

/* ---- all together ------------------------------------------------------------------------------------ */

int un_process_prepare(char **ret_err)
{
	lift_limits();
	dispose_signals();
	umask(0);
	/* syslog(3) reads /etc/localtime at its first line: by then we may be mounted there (transport/outside.h). */
	tzset();
	if (access("/proc/self/fd", X_OK) < 0) {
		*ret_err = g_strdup_printf("/proc/self/fd: %s (/proc has to be mounted)",
					   g_strerror(errno));
		return -1;
	}
	return 0;
}

int un_process_thread(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r)
		return -r;
	un_ignore(pthread_attr_setstacksize(&attr, STACK_SIZE));
	r = pthread_create(ret, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return -r;
}
