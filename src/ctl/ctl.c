/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of `fuse-unionfs ctl`. */
#include "ctl/ctl.h"

#include "ask_i.h"

#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define USAGE "Usage: fuse-unionfs ctl MOUNTPOINT COMMAND [ARG...]\n"

/* What the daemon is asked for; it says by itself which arguments are wrong. */
static const struct {
	const char *name, *help;
} commands[] = {
	{ "status", "  status [--json]     layers, options in effect, counters\n" },
	{ "log", "  log LEVEL           log up to this: error, warning, info, debug\n" },
	{ "sync",
	  "  sync                return when all changes of layers made before are seen\n" },
	{ "lower",
	  "  lower add PATH [at N], lower remove PATH|N\n"
	  "                      one lower more, as number N (1: the top one), or one less\n" },
	{ "drop", "  drop                forget what the kernel and the daemon have cached\n" },
};

bool un_ctl_asked(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "ctl") != 0)
		return false;
	if (argc > 2 && argv[2][0] == '-')
		return strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0;
	return argc < 4 || argv[3][0] != '-';
}

static int complain(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int complain(int status, const char *fmt, ...)
{
	va_list ap;

	fputs("fuse-unionfs: ctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return status;
}

static int help(void)
{
	fputs(USAGE "Ask the daemon of a mount; for root and the user whom it runs as.\n\n",
	      stdout);
	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
		fputs(commands[i].help, stdout);
	return fflush(stdout) ? 1 : 0;
}

static bool known(const char *command)
{
	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
		if (strcmp(commands[i].name, command) == 0)
			return true;
	return false;
}

static char *all_commands(void)
{
	GString *list = g_string_new(NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
		g_string_append_printf(list, "%s%s", i ? ", " : "", commands[i].name);
	return g_string_free(list, FALSE);
}

/* The child: exit status, and text into the pipe. It must not keep a reader of our output waiting. */
static void ask(const char *path, const char *const *words, int out)
{
	struct un_ctl_result result = { .text = g_string_new(NULL) };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd < 3 && null >= 0; fd++)
		un_ignore(dup2(null, fd));
	un_ctl_ask(path, words, &result);
	for (size_t at = 0; at < result.text->len;) {
		ssize_t n = write(out, result.text->str + at, result.text->len - at);

		if (n < 0 && errno != EINTR)
			_exit(1);
		at += n > 0 ? (size_t)n : 0;
	}
	_exit(result.status);
}

static GString *read_all(int fd)
{
	GString *text = g_string_new(NULL);
	char buf[4096];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			g_string_append_len(text, buf, n);
	return text;
}

/*
 * Who waits for a daemon that has taken the request and hangs cannot be interrupted or killed: the kernel
 * waits for the answer. So a child waits, and whoever is tired of it interrupts the parent.
 */
static int ask_by_child(const char *path, const char *const *words)
{
	g_autoptr(GString) text = NULL;
	un_autofd int in = -1;
	int ends[2], status;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return complain(1, "no pipe can be made: %s", g_strerror(errno));
	in = ends[0];
	child = fork();
	if (child < 0) {
		un_close(ends[1]);
		return complain(1, "no process can be started: %s", g_strerror(errno));
	}
	if (child == 0)
		ask(path, words, ends[1]);
	un_close(ends[1]);
	text = read_all(in);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return complain(1, "'%s': no answer: %s", path, g_strerror(errno));
	if (!WIFEXITED(status))
		return complain(1, "'%s': no answer: the asking process was killed", path);
	if (WEXITSTATUS(status))
		return complain(WEXITSTATUS(status), "%s", text->str);
	if (fwrite(text->str, 1, text->len, stdout) != text->len || fflush(stdout))
		return complain(1, "the answer cannot be written: %s", g_strerror(errno));
	return 0;
}

/* The daemon works elsewhere: the path of a lower goes to it as an absolute one. A number is none. */
static void make_absolute(int argc, char **argv)
{
	bool lower = argc > 5 && strcmp(argv[3], "lower") == 0;
	bool number = lower && argv[5][strspn(argv[5], "0123456789")] == '\0';

	if (lower && argv[5][0] && argv[5][0] != '/' && !(number && strcmp(argv[4], "remove") == 0))
		argv[5] = g_canonicalize_filename(argv[5], NULL);
}

int un_ctl_main(int argc, char **argv)
{
	g_autofree char *list = all_commands();

	/* argv[1] is "ctl". */
	if (argc > 2 && argv[2][0] == '-')
		return help();
	if (argc < 3)
		return complain(2, "no mountpoint given; see fuse-unionfs ctl --help");
	if (!argv[2][0])
		return complain(2, "the mountpoint is an empty word");
	if (argc < 4)
		return complain(2, "no command given: one of %s", list);
	if (!known(argv[3]))
		return complain(2, "unknown command '%s': there are %s", argv[3], list);
	make_absolute(argc, argv);
	return ask_by_child(argv[2], (const char *const *)&argv[3]);
}
