/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any signal makes the kernel send INTERRUPT. A fatal one, and only that (also where another one kills by
 * default, or another thread of the process ends it), puts SIGKILL among those that the thread itself has
 * pending, until it gets to run: what the kernel calls fatal_signal_pending() for its own file systems.
 */
#include "killed_i.h"

#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "PID (NAME) STATE ...", see proc_pid_stat(5); a name may hold anything. */
#define FIELD_PENDING 31

int un_killed_by_stat(const char *stat)
{
	const char *p = strrchr(stat, ')');
	unsigned long pending;
	char *end;

	if (!p)
		return -EBADMSG;
	for (int field = 2; field < FIELD_PENDING; field++) {
		p = strchr(p + 1, ' ');
		if (!p)
			return -EBADMSG;
	}
	errno = 0;
	pending = strtoul(p + 1, &end, 10);
	if (errno || end == p + 1 || *end != ' ')
		return -EBADMSG;
	return (pending & 1ul << (SIGKILL - 1)) != 0;
}

/* /proc may be of another pid namespace: then its numbers are not those of requests. */
static bool proc_is_ours(void)
{
	static _Atomic int known; /* 0: not asked yet */
	char buf[32], want[32];
	ssize_t n;

	if (known == 0) {
		n = readlink("/proc/self", buf, sizeof(buf) - 1);
		buf[MAX(n, 0)] = '\0';
		g_snprintf(want, sizeof(want), "%jd", (intmax_t)getpid());
		known = strcmp(buf, want) == 0 ? 1 : -1;
	}
	return known > 0;
}

int un_killed(uint32_t pid)
{
	char path[64], buf[2048];
	un_autofd int fd = -1;
	ssize_t n;

	if (pid == 0 || !proc_is_ours())
		return -ESRCH;
	g_snprintf(path, sizeof(path), "/proc/%" PRIu32 "/stat", pid);
	fd = un_errno(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return fd == -ENOENT ? -ESRCH : fd;
	n = un_errno(read(fd, buf, sizeof(buf) - 1));
	if (n < 0)
		return (int)n;
	buf[n] = '\0';
	return un_killed_by_stat(buf);
}
