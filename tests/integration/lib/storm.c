/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As many changes of layers at once as the machine can make; lib/storm.py compiles it.
 *
 *     storm SEED PROCESSES CHANGES DIRS NAMES WHITEOUTS LAYER...
 *
 * Files, directories, whiteouts (if WHITEOUTS is 1) called n0 to nNAMES-1 are made, written, renamed, removed and given
 * other modes in the directories d0 to dDIRS-1 of all layers, and in such directories in them. The kernel makes one
 * event of several for one name; so for a third of the changes there are names that are used once, and do not stay.
 * Prints how many changes were made, and in how many microseconds.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct storm {
	uint64_t random;
	unsigned dirs, names, whiteouts, n_layers;
	unsigned process, n_once;
	int layers[64];
};

static unsigned pick(struct storm *s, unsigned n)
{
	s->random = s->random * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(s->random >> 33) % n;
}

/* In one of four cases below a name that may be a directory. */
static void choose(struct storm *s, char *ret, size_t size)
{
	unsigned dir = pick(s, s->dirs), name = pick(s, s->names);

	if (pick(s, 4))
		snprintf(ret, size, "d%u/n%u", dir, name);
	else
		snprintf(ret, size, "d%u/n%u/n%u", dir, pick(s, s->names), name);
}

static int put(struct storm *s, int layer, const char *path, int flags)
{
	char text[64];
	int fd = openat(layer, path,
			O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0644);
	int n = snprintf(text, sizeof(text), "%u", pick(s, 1u << (1 + pick(s, 30))));

	if (fd < 0)
		return -1;
	if (write(fd, text, (size_t)n) != n)
		err(1, "write %s", path);
	return close(fd);
}

/* 2, or -1. */
static int put_once(struct storm *s, int layer)
{
	char path[64];

	snprintf(path, sizeof(path), "d%u/once%u-%u", pick(s, s->dirs), s->process, s->n_once++);
	return put(s, layer, path, O_EXCL) < 0 || unlinkat(layer, path, 0) < 0 ? -1 : 2;
}

/* 0 for a change; -1 if it could not be made. */
static int change_kept(struct storm *s, int layer)
{
	char path[64], to[64];

	choose(s, path, sizeof(path));
	switch (pick(s, 12)) {
	case 0:
	case 1:
	case 2:
		return put(s, layer, path, O_TRUNC);
	case 3:
		return put(s, layer, path, O_APPEND);
	case 4:
	case 5:
		return unlinkat(layer, path, 0);
	case 6:
	case 7:
		return fchmodat(layer, path, pick(s, 2) ? 0755 : 0711, 0);
	case 8:
		choose(s, to, sizeof(to));
		return renameat(layer, path, layer, to);
	case 9:
		return mkdirat(layer, path, 0755);
	case 10:
		return unlinkat(layer, path, AT_REMOVEDIR);
	default:
		return s->whiteouts ? mknodat(layer, path, S_IFCHR, makedev(0, 0))
				    : put(s, layer, path, O_EXCL);
	}
}

static void make(struct storm *s, long n)
{
	for (long made = 0, failed = 0; made < n;) {
		int layer = s->layers[pick(s, s->n_layers)];
		int r = pick(s, 6) ? change_kept(s, layer) + 1 : put_once(s, layer);

		made += r > 0 ? r : 0;
		if (r <= 0 && ++failed > 100 * n + 100000)
			errx(1, "nothing can be changed: %s", strerror(errno));
	}
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

int main(int argc, char **argv)
{
	struct storm s = { 0 };
	unsigned processes;
	uint64_t begin;
	int failed = 0;
	long n;

	if (argc < 8 || argc > 7 + 64)
		errx(2, "SEED PROCESSES CHANGES DIRS NAMES WHITEOUTS LAYER...");
	processes = (unsigned)atoi(argv[2]);
	n = atol(argv[3]) / processes;
	s.dirs = (unsigned)atoi(argv[4]);
	s.names = (unsigned)atoi(argv[5]);
	s.whiteouts = (unsigned)atoi(argv[6]);
	for (int i = 7; i < argc; i++) {
		s.layers[s.n_layers] = open(argv[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (s.layers[s.n_layers++] < 0)
			err(1, "%s", argv[i]);
	}
	begin = now_us();
	for (unsigned p = 0; p < processes; p++) {
		s.random = strtoull(argv[1], NULL, 10) * 1000 + p;
		s.process = p;
		if (fork() == 0) {
			make(&s, n);
			_exit(0);
		}
	}
	for (int status; wait(&status) > 0;)
		failed |= status != 0;
	if (failed)
		errx(1, "a process failed");
	printf("%ld %llu\n", n * processes, (unsigned long long)(now_us() - begin));
	return 0;
}
