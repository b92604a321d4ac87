/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "transport/daemon.h"

#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* On the pipe: this, or the text of a sentence, which never begins with it. */
#define READY '\0'

static char *how_it_ended(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			break;
	if (WIFSIGNALED(status))
		return g_strdup_printf("the daemon was ended by signal %d (%s) before it was ready",
				       WTERMSIG(status), g_strsignal(WTERMSIG(status)));
	return g_strdup_printf("the daemon ended with status %d before it was ready",
			       WEXITSTATUS(status));
}

static enum un_daemon_side wait_for_child(int fd, pid_t pid, char **ret_err)
{
	g_autoptr(GString) text = g_string_new(NULL);
	char buf[1024];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue;
		/* Not to the end of the file: the child lives on. */
		if (!text->len && buf[0] == READY)
			return UN_DAEMON_READY;
		g_string_append_len(text, buf, n);
	}
	if (text->len) {
		/* When the caller hears of it, the locks of the child are gone. */
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		*ret_err = g_strdup(text->str);
		return UN_DAEMON_FAILED;
	}
	*ret_err = how_it_ended(pid);
	return UN_DAEMON_DIED;
}

enum un_daemon_side un_daemon_fork(struct un_daemon *d, char **ret_err)
{
	enum un_daemon_side side;
	int fds[2];
	pid_t pid;

	fflush(NULL);
	if (pipe2(fds, O_CLOEXEC) < 0) {
		*ret_err = g_strdup_printf("pipe: %s", g_strerror(errno));
		return UN_DAEMON_NO_FORK;
	}
	pid = fork();
	if (pid < 0) {
		*ret_err = g_strdup_printf("fork: %s", g_strerror(errno));
		close(fds[0]);
		close(fds[1]);
		return UN_DAEMON_NO_FORK;
	}
	if (pid == 0) {
		close(fds[0]);
		d->pipe = fds[1];
		/* Out of the caller's session: its end must not be ours. */
		un_ignore(setsid());
		un_ignore(chdir("/"));
		return UN_DAEMON_CHILD;
	}
	close(fds[1]);
	side = wait_for_child(fds[0], pid, ret_err);
	close(fds[0]);
	return side;
}

static void say(struct un_daemon *d, const char *buf, size_t size)
{
	while (size) {
		ssize_t n = write(d->pipe, buf, size);

		if (n < 0 && errno != EINTR)
			break; /* the parent is gone: nobody wants to know */
		if (n > 0) {
			buf += n;
			size -= (size_t)n;
		}
	}
	close(d->pipe);
	d->pipe = -1;
}

void un_daemon_ready(struct un_daemon *d)
{
	const char ready = READY;
	int fd;

	if (d->pipe < 0)
		return;

	/*
	 * Before the word: a caller that reads our standard error to its end waits for the parent
	 * alone then, and that exits at once.
	 */
	un_log_to_syslog();
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i <= 2; i++)
		if (fd >= 0)
			dup2(fd, i);
		else
			close(i);
	if (fd > 2)
		close(fd);
	say(d, &ready, 1);
}

void un_daemon_fail(struct un_daemon *d, const char *sentence)
{
	if (d->pipe >= 0)
		say(d, sentence, strlen(sentence));
	else
		fprintf(stderr, "fuse-unionfs: %s\n", sentence);
}
