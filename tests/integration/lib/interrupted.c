/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Works on files in a storm of signals that kill nobody; test_interrupt.py compiles it. Nothing may be different for
 * it: on a regular file no call fails with EINTR, with SA_RESTART or without.
 *
 *     interrupted RESTART DIR SIZE FILE...
 *
 * A timer sends SIGALRM each 60 us. Each FILE, of SIZE bytes in which byte i is i * 7 + i / 256, is read, changed at
 * its start (which copies it up), read, written anew in pieces, and read again. Prints how many signals came.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define PIECE 300000

static volatile sig_atomic_t signals;

static void count(int sig)
{
	(void)sig;
	signals++;
}

static char byte_at(size_t i, int round)
{
	return (char)(i * 7 + i / 256 + (size_t)round);
}

static void check(int fd, const char *name, char *buf, size_t size, int round, char first)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, buf, size - done < PIECE ? size - done : PIECE, (off_t)done);

		if (n <= 0)
			err(1, "read %s at %zu: %zd", name, done, n);
		for (size_t i = 0; i < (size_t)n; i++)
			if (buf[i] != (done + i ? byte_at(done + i, round) : first))
				errx(1, "%s: byte %zu is wrong in round %d", name, done + i, round);
		done += (size_t)n;
	}
}

static void work(int dir, const char *name, char *buf, size_t size)
{
	int fd = openat(dir, name, O_RDWR);
	struct stat st;

	if (fd < 0)
		err(1, "open %s", name);
	check(fd, name, buf, size, 0, byte_at(0, 0));
	if (pwrite(fd, "X", 1, 0) != 1)
		err(1, "first write to %s", name);
	if (fstat(fd, &st) < 0 || (size_t)st.st_size != size)
		err(1, "stat of %s: %jd", name, (intmax_t)st.st_size);
	check(fd, name, buf, size, 0, 'X');
	for (size_t at = 0; at < size; at += PIECE) {
		size_t n = size - at < PIECE ? size - at : PIECE;

		for (size_t i = 0; i < n; i++)
			buf[i] = byte_at(at + i, 1);
		/* A signal may make it shorter, as of any file; it does not for FUSE. */
		if (pwrite(fd, buf, n, (off_t)at) != (ssize_t)n)
			err(1, "write to %s at %zu", name, at);
	}
	if (fchmod(fd, 0640) < 0)
		err(1, "chmod of %s", name);
	check(fd, name, buf, size, 1, byte_at(0, 1));
	if (close(fd) < 0)
		err(1, "close of %s", name);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = count };
	const struct itimerval often = { { 0, 60 }, { 0, 60 } };
	char *buf = malloc(PIECE);
	int dir;

	if (argc < 5 || !buf)
		errx(2, "interrupted RESTART DIR SIZE FILE...");
	dir = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		err(1, "%s", argv[2]);
	sa.sa_flags = atoi(argv[1]) ? SA_RESTART : 0;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 4; i < argc; i++)
		work(dir, argv[i], buf, strtoul(argv[3], NULL, 10));
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	printf("%d\n", (int)signals);
	return 0;
}
