/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which cases run, and as whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault-loop.h"

#include <errno.h>
#include <glib.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/err.h"

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return true;
	return argc < 2;
}

static int run_all(const struct fault_case *c, size_t n_cases, int argc, char **argv)
{
	g_autofree struct CMUnitTest *tests = g_new0(struct CMUnitTest, n_cases);
	size_t n = 0;

	for (size_t i = 0; i < n_cases; i++)
		if (wanted(c[i].name, argc, argv))
			tests[n++] = (struct CMUnitTest){
				.name = c[i].name,
				.test_func = fault_loop,
				.initial_state = (void *)(uintptr_t)&c[i],
			};
	return _cmocka_run_group_tests(geteuid() == 0 ? "faults as root" : "faults as a plain user",
				       tests, n, NULL, NULL);
}

/* The same at once in a process that gave its privilege up; what it says waits in @out. */
static pid_t start_as_user(const struct fault_case *c, size_t n_cases, int argc, char **argv,
			   FILE *out)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	dup2(fileno(out), STDOUT_FILENO);
	dup2(fileno(out), STDERR_FILENO);
	if (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 ||
	    setresuid(1000, 1000, 1000) < 0) {
		print_message("no other user here: %s\n", g_strerror(errno));
		_exit(0);
	}
	/* The leak checker attaches to the process. */
	un_ignore(prctl(PR_SET_DUMPABLE, 1));
	exit(run_all(c, n_cases, argc, argv));
}

static int finish_as_user(pid_t pid, FILE *out)
{
	char buf[4096];
	size_t n;
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	rewind(out);
	while ((n = fread(buf, 1, sizeof(buf), out)) > 0)
		un_ignore(fwrite(buf, 1, n, stdout));
	(void)fclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int fault_main(const struct fault_case *c, size_t n_cases, int argc, char **argv)
{
	FILE *out = NULL;
	pid_t pid = -1;
	int failed;

	if (geteuid() == 0 && (out = tmpfile()))
		pid = start_as_user(c, n_cases, argc, argv, out);
	failed = run_all(c, n_cases, argc, argv);
	return (out && finish_as_user(pid, out)) || failed;
}
