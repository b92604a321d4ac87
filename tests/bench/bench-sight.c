/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a change in a layer to its sight in the mount. One process makes changes in a directory of a layer, another
 * looks at the same directory of the mount until it sees each. Before each change the reader has looked, so the
 * kernel has the old answer.
 *
 *     bench-sight LAYER-DIRECTORY MOUNT-DIRECTORY N POLL-NS BUSY
 *
 * N changes of each kind; POLL-NS between two looks, 0: none; BUSY processes that only burn time meanwhile. Prints a
 * line for each kind: its name, and nanoseconds from just before the change until just after the look that saw it.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LATE_NS 10000000000ull

enum kind {
	EDIT,
	CREATE,
	MODE,
	REMOVE,
	N_KINDS
};

static const char *const names[N_KINDS] = { "edit", "create", "chmod", "remove" };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void pause_ns(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u),
			      .tv_nsec = (long)(ns % 1000000000u) };

	if (ns)
		nanosleep(&t, NULL);
}

/* Each file has one name for a whole run: what is made is a name that was never there. */
static void path_of(char *ret, size_t size, const char *dir, enum kind kind, long i)
{
	if (kind == CREATE || kind == REMOVE)
		snprintf(ret, size, "%s/new%ld", dir, i);
	else
		snprintf(ret, size, "%s/%s", dir, kind == EDIT ? "edited" : "moded");
}

static long text_of(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		err(1, "%s", path);
	close(fd);
	return strtol(text, NULL, 10);
}

/* Does the mount show change @i? */
static int is_seen(const char *path, enum kind kind, long i)
{
	struct stat st;
	int r;

	if (kind == EDIT)
		return text_of(path) == i;
	r = lstat(path, &st);
	if (r < 0 && errno != ENOENT)
		err(1, "%s", path);
	if (kind == MODE && r < 0)
		errx(1, "%s is gone", path);
	if (kind == MODE)
		return (st.st_mode & 07777) == (i % 2 ? 0600 : 0644);
	return (r == 0) == (kind == CREATE);
}

static void change(const char *dir, int edited, enum kind kind, long i)
{
	char path[4096], text[32];
	int r;

	path_of(path, sizeof(path), dir, kind, i);
	if (kind == EDIT) {
		snprintf(text, sizeof(text), "%08ld\n", i);
		r = pwrite(edited, text, 9, 0) == 9 ? 0 : -1;
	} else if (kind == CREATE) {
		r = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	} else if (kind == MODE) {
		r = chmod(path, i % 2 ? 0600 : 0644);
	} else {
		r = unlink(path);
	}
	if (r < 0)
		err(1, "%s", path);
	if (kind == CREATE)
		close(r);
}

static void tell(int fd, uint64_t value)
{
	if (write(fd, &value, sizeof(value)) != sizeof(value))
		err(1, "pipe");
}

static uint64_t told(int fd)
{
	uint64_t value;

	if (read(fd, &value, sizeof(value)) != sizeof(value))
		errx(1, "the other process has ended");
	return value;
}

/* Says that it has looked, then when it saw the change. */
static void reader(const char *dir, long n, uint64_t poll_ns, int in, int out)
{
	for (long i = 1; i <= n; i++)
		for (enum kind kind = 0; kind < N_KINDS; kind++) {
			char path[4096];
			uint64_t begin, t;

			path_of(path, sizeof(path), dir, kind, i);
			told(in);
			if (is_seen(path, kind, i) || is_seen(path, kind, i))
				errx(1, "%s %ld is seen before it is made", names[kind], i);
			begin = now_ns();
			tell(out, 0);
			do {
				pause_ns(poll_ns);
				if (now_ns() - begin > LATE_NS)
					errx(1, "%s %ld is not seen", names[kind], i);
			} while (!is_seen(path, kind, i));
			t = now_ns();
			tell(out, t);
		}
}

static pid_t start(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return pid;
}

static int make(const char *dir, enum kind kind)
{
	char path[4096];
	int fd;

	path_of(path, sizeof(path), dir, kind, 0);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "00000000\n", 9) != 9)
		err(1, "%s", path);
	return fd;
}

static void run(const char *layer, long n, int in, int out, uint64_t *took)
{
	int edited = make(layer, EDIT);

	close(make(layer, MODE));
	pause_ns(100000000); /* until all of it is seen */
	for (long i = 1; i <= n; i++)
		for (enum kind kind = 0; kind < N_KINDS; kind++) {
			uint64_t begin;

			tell(out, 0);
			told(in);
			/* Nobody is awake any more but who burns time; and not in step with any clock. */
			pause_ns(1000000 + (uint64_t)random() % 1000000);
			begin = now_ns();
			change(layer, edited, kind, i);
			took[kind * n + i - 1] = told(in) - begin;
		}
	close(edited);
}

int main(int argc, char **argv)
{
	int to_reader[2], to_writer[2];
	uint64_t *took;
	pid_t pid;
	long n;

	if (argc != 6)
		errx(2, "LAYER-DIRECTORY MOUNT-DIRECTORY N POLL-NS BUSY");
	n = strtol(argv[3], NULL, 10);
	took = calloc((size_t)n * N_KINDS, sizeof(*took));
	if (!took || pipe2(to_reader, O_CLOEXEC) < 0 || pipe2(to_writer, O_CLOEXEC) < 0)
		err(1, "pipe");
	/* A timer's slack of 50 us would be most of what is measured. */
	prctl(PR_SET_TIMERSLACK, 1);
	for (long i = strtol(argv[5], NULL, 10); i > 0; i--)
		if (start() == 0)
			for (volatile unsigned long burnt = 0;; burnt++)
				;
	pid = start();
	if (pid == 0) {
		close(to_writer[0]);
		close(to_reader[1]);
		reader(argv[2], n, strtoull(argv[4], NULL, 10), to_reader[0], to_writer[1]);
		_exit(0);
	}
	close(to_writer[1]);
	close(to_reader[0]);
	run(argv[1], n, to_writer[0], to_reader[1], took);
	for (enum kind kind = 0; kind < N_KINDS; kind++) {
		printf("%s", names[kind]);
		for (long i = 0; i < n; i++)
			printf(" %llu", (unsigned long long)took[kind * n + i]);
		printf("\n");
	}
	return 0;
}
