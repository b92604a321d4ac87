/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "transport/outside.h"

#include "util/err.h"

#include <sys/wait.h>
#include <unistd.h>

/* As an exit status: not one of @fn's. */
#define CANNOT 255

/* All of ours: /dev/fuse would keep the connection alive, a lock of a work directory that lock. */
static int close_all(void)
{
	long max;

	if (close_range(3, ~0u, 0) == 0)
		return 0;
	/* Before Linux 5.9. */
	max = sysconf(_SC_OPEN_MAX);
	if (max < 0)
		return -1;
	for (long fd = 3; fd < max; fd++)
		close((int)fd);
	return 0;
}

int un_outside(int (*fn)(const void *arg), const void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		int r = close_all() < 0 ? -CANNOT : fn(arg);

		_exit(-r);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) != CANNOT ? -WEXITSTATUS(status) : -ECHILD;
}
