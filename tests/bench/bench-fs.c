/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bench's work that is nothing but file system calls: a tool's own overhead would hide them.
 *
 *	bench-fs walk DIR               lstat of every name, while listing
 *	bench-fs read DIR               the same, and every regular file is read
 *	bench-fs miss DIR N SEED        lstat of N names that do not exist, spread over all directories
 *	bench-fs append DIR N           16 bytes to each of the first N regular files
 *	bench-fs churn DIR PROCS N      PROCS processes, each creates, renames and deletes N files
 *
 * Each prints the seconds its work took (not what led up to it), and how many things it touched.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void report(double begin, uint64_t n)
{
	printf("%.6f %llu\n", now() - begin, (unsigned long long)n);
}

static long number(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (*end || n < 0)
		errx(2, "%s: not a number", s);
	return n;
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* The walk. */

enum { READ = 1, KEEP_DIRS = 2, KEEP_FILES = 4 };

struct walk {
	int flags;
	uint64_t n;             /* names seen */
	char **kept;            /* paths, for what comes after the walk */
	size_t n_kept, max_kept;
};

static void keep(struct walk *w, const char *dir, const char *name)
{
	if (w->n_kept >= w->max_kept)
		return;
	if (asprintf(&w->kept[w->n_kept], *name ? "%s/%s" : "%s%s", dir, name) < 0)
		err(1, "asprintf");
	w->n_kept++;
}

static void read_all(int dir, const char *name)
{
	static char buf[128 << 10];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		err(1, "%s", name);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	if (n < 0)
		err(1, "read %s", name);
	close(fd);
}

static void walk(struct walk *w, int parent, const char *name, const char *path)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;

	if (!d)
		err(1, "%s", path);
	if (w->flags & KEEP_DIRS)
		keep(w, path, "");
	while ((e = readdir(d))) {
		if (is_dot(e->d_name))
			continue;
		w->n++;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			err(1, "%s/%s", path, e->d_name);
		if (S_ISREG(st.st_mode) && (w->flags & READ))
			read_all(fd, e->d_name);
		if (S_ISREG(st.st_mode) && (w->flags & KEEP_FILES))
			keep(w, path, e->d_name);
		if (S_ISDIR(st.st_mode)) {
			char *below;

			if (asprintf(&below, "%s/%s", path, e->d_name) < 0)
				err(1, "asprintf");
			walk(w, fd, e->d_name, below);
			free(below);
		}
	}
	closedir(d);
}

static struct walk walked(const char *dir, int flags, size_t max_kept)
{
	struct walk w = { .flags = flags, .max_kept = max_kept };

	w.kept = calloc(max_kept + 1, sizeof(*w.kept));
	if (!w.kept)
		err(1, "calloc");
	walk(&w, AT_FDCWD, dir, dir);
	return w;
}

static void do_walk(char **argv, int flags)
{
	double begin = now();
	struct walk w = walked(argv[0], flags, 0);

	report(begin, w.n);
}

static void do_miss(char **argv)
{
	struct walk w = walked(argv[0], KEEP_DIRS, 1 << 20);
	long n = number(argv[1]);
	double begin = now();

	for (long i = 0; i < n; i++) {
		char path[8192];
		struct stat st;

		snprintf(path, sizeof(path), "%s/missing-%s-%ld", w.kept[i % w.n_kept], argv[2], i);
		if (lstat(path, &st) == 0 || errno != ENOENT)
			errx(1, "%s: ENOENT expected", path);
	}
	report(begin, n);
}

static void do_append(char **argv)
{
	struct walk w = walked(argv[0], KEEP_FILES, number(argv[1]));
	double begin = now();

	for (size_t i = 0; i < w.n_kept; i++) {
		int fd = open(w.kept[i], O_WRONLY | O_APPEND | O_CLOEXEC);

		if (fd < 0 || write(fd, "0123456789abcde\n", 16) != 16 || close(fd) < 0)
			err(1, "append to %s", w.kept[i]);
	}
	report(begin, w.n_kept);
}

/* Processes at once. */

static void churn(const char *dir, int proc, long n)
{
	char a[4096], b[4096];

	for (int pass = 0; pass < 3; pass++)
		for (long i = 0; i < n; i++) {
			int fd;

			snprintf(a, sizeof(a), "%s/p%d/f%05ld", dir, proc, i);
			snprintf(b, sizeof(b), "%s/p%d/g%05ld", dir, proc, i);
			if (pass == 0) {
				fd = open(a, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
				if (fd < 0 || close(fd) < 0)
					err(1, "create %s", a);
			} else if (pass == 1 && rename(a, b) < 0) {
				err(1, "rename %s", a);
			} else if (pass == 2 && unlink(b) < 0) {
				err(1, "unlink %s", b);
			}
		}
}

static void do_churn(char **argv)
{
	long procs = number(argv[1]), n = number(argv[2]);
	int gate[2];
	double begin;
	bool failed = false;

	if (pipe2(gate, O_CLOEXEC) < 0)
		err(1, "pipe");
	for (int p = 0; p < procs; p++) {
		char path[4096], c;
		pid_t pid;

		snprintf(path, sizeof(path), "%s/p%d", argv[0], p);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			err(1, "mkdir %s", path);
		pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (pid == 0) {
			close(gate[1]);
			if (read(gate[0], &c, 1) < 0)   /* until all are there */
				err(1, "read");
			churn(argv[0], p, n);
			_exit(0);
		}
	}
	begin = now();
	close(gate[1]);
	for (int status; wait(&status) > 0;)
		failed |= status != 0;
	if (failed)
		errx(1, "a process failed");
	report(begin, procs * n);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (argc == 3 && !strcmp(what, "walk"))
		do_walk(argv + 2, 0);
	else if (argc == 3 && !strcmp(what, "read"))
		do_walk(argv + 2, READ);
	else if (argc == 5 && !strcmp(what, "miss"))
		do_miss(argv + 2);
	else if (argc == 4 && !strcmp(what, "append"))
		do_append(argv + 2);
	else if (argc == 5 && !strcmp(what, "churn"))
		do_churn(argv + 2);
	else
		errx(2, "walk|read DIR, miss DIR N SEED, append DIR N, churn DIR PROCS N");
	return 0;
}
