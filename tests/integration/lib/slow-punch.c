/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Preloaded into a daemon: to give room back takes two seconds, as it may on a slow disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

int fallocate(int fd, int mode, off_t off, off_t len)
{
	int (*real)(int fd, int mode, off_t off, off_t len) =
		(int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate64");

	if (mode & FALLOC_FL_PUNCH_HOLE)
		sleep(2);
	return real(fd, mode, off, len);
}

int fallocate64(int fd, int mode, off_t off, off_t len)
{
	return fallocate(fd, mode, off, len);
}
