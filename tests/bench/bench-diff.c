/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image builder does after each step: bench-diff BEFORE AFTER walks both mounts side by
 * side, with getdents buffers of 4 KiB as Go's are, an lstat of every name in both and a look at
 * the xattrs. Prints the seconds it took, the names compared and how many differ.
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
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define GETDENTS_BUFFER 4096

struct names {
	char **v;
	size_t n, room;
};

struct result {
	uint64_t compared, different;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void add(struct names *names, const char *name)
{
	if (names->n == names->room) {
		names->room = names->room ? names->room * 2 : 64;
		names->v = realloc(names->v, names->room * sizeof(*names->v));
		if (!names->v)
			err(1, "realloc");
	}
	names->v[names->n] = strdup(name);
	if (!names->v[names->n++])
		err(1, "strdup");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct names list(const char *dir)
{
	struct names names = { 0 };
	_Alignas(8) char buf[GETDENTS_BUFFER];
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n;

	if (fd < 0)
		err(1, "%s", dir);
	while ((n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (long at = 0; at < n;) {
			const struct dirent64 *e = (const void *)(buf + at);

			at += e->d_reclen;
			if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
				add(&names, e->d_name);
		}
	if (n < 0)
		err(1, "getdents %s", dir);
	close(fd);
	if (names.n)
		qsort(names.v, names.n, sizeof(*names.v), by_name);
	return names;
}

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->v[i]);
	free(names->v);
}

static ssize_t capability(const char *path, char *ret, size_t size)
{
	ssize_t n = lgetxattr(path, "security.capability", ret, size);

	if (n < 0 && errno != ENODATA && errno != EOPNOTSUPP)
		err(1, "lgetxattr %s", path);
	return n;
}

static bool same(const char *a, const char *b, const struct stat *sa, const struct stat *sb)
{
	char xa[64], xb[64];
	ssize_t na = capability(a, xa, sizeof(xa)), nb = capability(b, xb, sizeof(xb));

	return na == nb && (na <= 0 || !memcmp(xa, xb, na)) && sa->st_mode == sb->st_mode &&
	       sa->st_uid == sb->st_uid && sa->st_gid == sb->st_gid &&
	       sa->st_rdev == sb->st_rdev &&
	       (S_ISDIR(sa->st_mode) ||
		(sa->st_size == sb->st_size && sa->st_mtim.tv_sec == sb->st_mtim.tv_sec &&
		 sa->st_mtim.tv_nsec == sb->st_mtim.tv_nsec));
}

static void diff(const char *a, const char *b, struct result *r);

static void diff_one(const char *a, const char *b, const char *name, struct result *r)
{
	char *pa, *pb;
	struct stat sa, sb;

	if (asprintf(&pa, "%s/%s", a, name) < 0 || asprintf(&pb, "%s/%s", b, name) < 0)
		err(1, "asprintf");
	if (lstat(pa, &sa) < 0)
		err(1, "%s", pa);
	if (lstat(pb, &sb) < 0)
		err(1, "%s", pb);
	r->compared++;
	if (!same(pa, pb, &sa, &sb))
		r->different++;
	if (S_ISDIR(sa.st_mode) && S_ISDIR(sb.st_mode))
		diff(pa, pb, r);
	free(pa);
	free(pb);
}

static void diff(const char *a, const char *b, struct result *r)
{
	struct names na = list(a), nb = list(b);
	size_t i = 0, j = 0;

	while (i < na.n || j < nb.n) {
		int c = i == na.n ? 1 : j == nb.n ? -1 : strcmp(na.v[i], nb.v[j]);

		if (c == 0)
			diff_one(a, b, na.v[i], r);
		else
			r->different++;         /* deleted or new: the whole tree is */
		i += c <= 0;
		j += c >= 0;
	}
	names_done(&na);
	names_done(&nb);
}

int main(int argc, char **argv)
{
	struct result r = { 0 };
	double begin;

	if (argc != 3)
		errx(2, "usage: bench-diff BEFORE AFTER");
	begin = now();
	diff(argv[1], argv[2], &r);
	printf("%.6f %llu %llu\n", now() - begin, (unsigned long long)r.compared,
	       (unsigned long long)r.different);
	return 0;
}
