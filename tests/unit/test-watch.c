/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes of watched directories by another process, and by this one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "watch/watch.h"

struct fixture {
	char dir[64];
	int fd; /* O_PATH */
	struct un_watch *w;
	GString *told; /* "KEY WHAT NAME\n" for each event; those that repeat the last one are left out */
	char last[400];
};

static void on_event(void *data, const struct un_watch_event *e)
{
	struct fixture *f = data;
	char line[400];

	snprintf(line, sizeof(line), "%d%s%s%s%s%s%s%s %s\n", (int)e->key,
		 e->what & UN_WATCH_NAME ? " name" : "", e->what & UN_WATCH_DATA ? " data" : "",
		 e->what & UN_WATCH_ATTR ? " attr" : "", e->what & UN_WATCH_GONE ? " gone" : "",
		 e->what & UN_WATCH_LOST ? " lost" : e->what & UN_WATCH_SOME ? " some" : "", e->name ? ":" : "", e->name && e->dir ? " dir" : "",
		 e->name ? e->name : ".");
	if (strcmp(line, f->last) != 0)
		g_string_append(f->told, line);
	g_strlcpy(f->last, line, sizeof(f->last));
}

static struct fixture *new_fixture(bool no_fanotify, unsigned budget)
{
	struct fixture *f = g_new0(struct fixture, 1);
	struct un_watch_config c = {
		.fn = on_event, .data = f, .no_fanotify = no_fanotify, .budget = budget
	};

	f->told = g_string_new("");
	strcpy(f->dir, "/tmp/un-watch-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->fd = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->w = un_watch_new(&c);
	if (!f->w)
		fail_msg("nothing can be watched: %s", g_strerror(errno));
	return f;
}

static int setup(void **state)
{
	*state = new_fixture(false, 0);
	return 0;
}

static int setup_inotify(void **state)
{
	*state = new_fixture(true, 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	g_autofree char *rm = g_strdup_printf("rm -rf %s", f->dir);

	un_watch_free(f->w);
	close(f->fd);
	g_string_free(f->told, TRUE);
	assert_int_equal(system(rm), 0);
	g_free(f);
	return 0;
}

/* By another process, in the watched directory. */
static void others(struct fixture *f, const char *script)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (chdir(f->dir) == 0)
			execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* What was told since the last time. */
static const char *told(struct fixture *f)
{
	static char *text;

	g_free(text);
	assert_int_equal(un_watch_pending(f->w), true);
	un_watch_process(f->w);
	assert_false(un_watch_pending(f->w));
	text = g_strdup(f->told->str);
	g_string_truncate(f->told, 0);
	f->last[0] = '\0';
	return text;
}

static void changes_of_others(void **state)
{
	struct fixture *f = *state;
	const char *text;

	assert_int_equal(un_watch_add(f->w, f->fd, 7), 0);
	assert_int_equal(un_watch_add(f->w, f->fd, 7), 0);
	assert_false(un_watch_pending(f->w));
	others(f, "mkdir d");
	assert_string_equal(told(f), "7 name: dir d\n");
	others(f, ": > f");
	assert_string_equal(told(f), "7 name: f\n");
	others(f, "echo x >> f");
	assert_string_equal(told(f), "7 data: f\n");
	others(f, "chmod 600 f");
	assert_string_equal(told(f), "7 attr: f\n");
	others(f, "mv f 'a name of\nodd bytes'");
	assert_string_equal(told(f), "7 name: f\n7 name: a name of\nodd bytes\n");
	others(f, "chmod 700 d");
	text = told(f);
	/* fanotify tells of it by its own handle. */
	assert_true(strcmp(text, "7 attr: dir d\n") == 0 || strcmp(text, "0 some .\n") == 0);
	others(f, "rmdir d");
	assert_string_equal(told(f), "7 name: dir d\n");
}

static void own_changes_are_silent(void **state)
{
	struct fixture *f = *state;
	g_autofree char *path = g_strdup_printf("%s/own", f->dir);
	struct un_watch_stats stats;

	assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(chmod(path, 0644), 0);
	assert_string_equal(told(f), "");
	un_watch_stats(f->w, &stats);
	assert_int_equal(stats.events, 0);
	assert_true(stats.own > 0);
	others(f, "rm -f own");
	assert_non_null(strstr(told(f), "1 name: own\n"));
}

static void each_key_is_told(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
	assert_int_equal(un_watch_add(f->w, f->fd, 2), 0);
	others(f, "mkdir d");
	assert_string_equal(told(f), "1 name: dir d\n2 name: dir d\n");
	un_watch_remove(f->w, f->fd, 1);
	others(f, "mkdir e");
	assert_string_equal(told(f), "2 name: dir e\n");
	un_watch_remove(f->w, f->fd, 2);
	others(f, "mkdir g");
	/* At most that it is watched no more. */
	un_watch_process(f->w);
	assert_string_equal(f->told->str, "");
}

static void directory_itself(void **state)
{
	struct fixture *f = *state;
	g_autofree char *path = g_strdup_printf("%s/sub", f->dir);
	struct un_watch_stats stats;
	int fd;

	assert_int_equal(mkdir(path, 0755), 0);
	fd = open(path, O_PATH | O_CLOEXEC);
	assert_int_equal(un_watch_add(f->w, fd, 3), 0);
	others(f, "chmod 711 sub");
	assert_non_null(strstr(told(f), "3 attr"));
	close(fd);
	others(f, "rmdir sub");
	assert_non_null(strstr(told(f), " gone"));
	un_watch_stats(f->w, &stats);
	assert_int_equal(stats.by_fanotify + stats.by_inotify, 0);
}

static void budget_is_kept(void **state)
{
	struct fixture *f = new_fixture(false, 3);
	int fds[4];

	for (int i = 0; i < 4; i++) {
		g_autofree char *path = g_strdup_printf("%s/%d", f->dir, i);

		assert_int_equal(mkdir(path, 0755), 0);
		fds[i] = open(path, O_PATH | O_CLOEXEC);
		assert_int_equal(un_watch_add(f->w, fds[i], 1), i < 3 ? 0 : -ENOSPC);
	}
	un_watch_remove(f->w, fds[1], 1);
	assert_int_equal(un_watch_add(f->w, fds[3], 1), 0);
	others(f, "mkdir 3/x 1/x");
	assert_string_equal(told(f), "1 name: dir x\n");
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	*state = f;
	teardown(state);
	*state = NULL;
}

static void storm_is_told(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
	others(f, "i=0; while [ $i -lt 20000 ]; do : > f$i; i=$((i + 1)); done");
	assert_non_null(strstr(told(f), " lost"));
	others(f, "mkdir after");
	assert_string_equal(told(f), "1 name: dir after\n");
}

/* By another process: more events than are kept, and then the directories d0, d1, ... are gone. */
static void storm(struct fixture *f, int dirs)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		char name[32];

		if (chdir(f->dir) < 0)
			_exit(1);
		for (int i = 0; i < 17000; i++) {
			snprintf(name, sizeof(name), "f%d", i);
			close(open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
			unlink(name);
		}
		for (int i = 0; i < dirs; i++) {
			snprintf(name, sizeof(name), "d%d", i);
			rmdir(name);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Directories go while more happens than is kept: nobody tells that they have. */
static void gone_in_a_storm(bool no_fanotify)
{
	struct fixture *f = new_fixture(no_fanotify, 9);
	struct un_watch_stats s;
	void *state = f;

	assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 8; i++) {
			g_autofree char *path = g_strdup_printf("%s/d%d", f->dir, i);
			int fd;

			assert_int_equal(mkdir(path, 0755), 0);
			fd = open(path, O_PATH | O_CLOEXEC);
			assert_int_equal(un_watch_add(f->w, fd, (uint64_t)i + 2), 0);
			close(fd);
		}
		assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
		storm(f, 8);
		assert_non_null(strstr(told(f), " lost"));
	}
	/* What is still there is as good as before. */
	assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
	g_string_truncate(f->told, 0);
	others(f, "mkdir after");
	assert_string_equal(told(f), "1 name: dir after\n");
	un_watch_stats(f->w, &s);
	assert_true(s.by_fanotify + s.by_inotify <= 9);
	teardown(&state);
}

static void gone_in_a_storm_is_not_counted(void **state)
{
	(void)state;
	gone_in_a_storm(false);
	gone_in_a_storm(true);
}

static void *processor(void *data)
{
	struct fixture *f = data;

	for (int i = 0; i < 2000; i++)
		un_watch_process(f->w);
	return NULL;
}

/* Whoever comes second waits until what was there is told. */
static void several_threads(void **state)
{
	struct fixture *f = *state;
	GThread *t[3];

	assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
	for (int i = 0; i < 3; i++)
		t[i] = g_thread_new("process", processor, f);
	for (int i = 0; i < 20; i++) {
		g_autofree char *script = g_strdup_printf("mkdir d%d", i);

		others(f, script);
		un_watch_process(f->w);
	}
	for (int i = 0; i < 3; i++)
		g_thread_join(t[i]);
	for (int i = 0; i < 20; i++) {
		g_autofree char *line = g_strdup_printf("1 name: dir d%d\n", i);

		assert_non_null(strstr(f->told->str, line));
	}
}

/* Another process that makes a directory and removes it again each time it is asked. */
struct helper {
	pid_t pid;
	int ask, answer;
};

static struct helper start_helper(struct fixture *f)
{
	struct helper h;
	int in[2], out[2];
	char c;

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	h.pid = fork();
	if (h.pid == 0) {
		close(in[1]);
		while (chdir(f->dir) == 0 && read(in[0], &c, 1) == 1)
			if (mkdir("t", 0700) < 0 || rmdir("t") < 0 || write(out[1], &c, 1) < 0)
				break;
		_exit(0);
	}
	close(in[0]);
	close(out[1]);
	h.ask = in[1];
	h.answer = out[0];
	return h;
}

static void ask_helper(struct helper *h)
{
	char c = 0;

	assert_int_equal(write(h->ask, &c, 1), 1);
	assert_int_equal(read(h->answer, &c, 1), 1);
}

static void stop_helper(struct helper *h)
{
	close(h->ask);
	close(h->answer);
	waitpid(h->pid, NULL, 0);
}

static gint stop_churning;

static void *churn(void *data)
{
	struct fixture *f = data;

	while (!g_atomic_int_get(&stop_churning)) {
		un_watch_add(f->w, f->fd, 1);
		un_watch_remove(f->w, f->fd, 1);
	}
	return NULL;
}

/* Under one key it comes and goes all the time; under another it stays watched for as long as that is wanted. */
static void keys_of_several_threads(void **state)
{
	struct fixture *f = *state;
	struct helper h = start_helper(f);
	struct un_watch_stats stats;
	int missed = 0;
	GThread *t[2];

	stop_churning = 0;
	for (int i = 0; i < 2; i++)
		t[i] = g_thread_new("churn", churn, f);
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(un_watch_add(f->w, f->fd, 2), 0);
		ask_helper(&h);
		un_watch_process(f->w);
		/* So many watches that come and go may be too many for the queue: that is told. */
		missed +=
			!strstr(f->told->str, "2 name: dir t\n") && !strstr(f->told->str, " lost");
		g_string_truncate(f->told, 0);
		f->last[0] = '\0';
		un_watch_remove(f->w, f->fd, 2);
	}
	g_atomic_int_set(&stop_churning, 1);
	for (int i = 0; i < 2; i++)
		g_thread_join(t[i]);
	stop_helper(&h);
	assert_int_equal(missed, 0);
	un_watch_process(f->w);
	un_watch_stats(f->w, &stats);
	assert_int_equal(stats.by_fanotify + stats.by_inotify, 0);
}

/* How many watches the kernel has for inotify descriptors of this process. */
static int inotify_watches(void)
{
	FILE *p = popen("grep -h '^inotify' /proc/$PPID/fdinfo/* | wc -l", "r");
	int n = -1;

	assert_non_null(p);
	assert_int_equal(fscanf(p, "%d", &n), 1);
	pclose(p);
	return n;
}

/* Neither a key of several, nor a directory that is not watched, leaves a watch behind that nobody asked for. */
static void removed_leaves_nothing(void **state)
{
	struct fixture *f = *state;

	un_watch_remove(f->w, f->fd, 1);
	assert_int_equal(un_watch_add(f->w, f->fd, 1), 0);
	assert_int_equal(un_watch_add(f->w, f->fd, 2), 0);
	un_watch_remove(f->w, f->fd, 1);
	un_watch_remove(f->w, f->fd, 1);
	others(f, "mkdir d");
	assert_string_equal(told(f), "2 name: dir d\n");
	un_watch_remove(f->w, f->fd, 2);
	un_watch_remove(f->w, f->fd, 2);
	assert_int_equal(inotify_watches(), 0);
}

/* A watch that went with its directory is told to who relied on it, for another may have come to be called like it. */
static void own_removal_is_told(void **state)
{
	struct fixture *f = *state;
	g_autofree char *path = g_strdup_printf("%s/sub", f->dir);
	struct un_watch_stats stats;
	int fd;

	assert_int_equal(mkdir(path, 0755), 0);
	fd = open(path, O_PATH | O_CLOEXEC);
	assert_int_equal(un_watch_add(f->w, fd, 3), 0);
	close(fd);
	assert_int_equal(rmdir(path), 0);
	assert_string_equal(told(f), "3 gone .\n");
	un_watch_stats(f->w, &stats);
	assert_int_equal(stats.by_fanotify + stats.events, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(changes_of_others, setup, teardown),
		{ "changes_of_others (inotify)", changes_of_others, setup_inotify, teardown, NULL },
		cmocka_unit_test_setup_teardown(own_changes_are_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(each_key_is_told, setup, teardown),
		{ "each_key_is_told (inotify)", each_key_is_told, setup_inotify, teardown, NULL },
		cmocka_unit_test_setup_teardown(directory_itself, setup, teardown),
		{ "directory_itself (inotify)", directory_itself, setup_inotify, teardown, NULL },
		cmocka_unit_test(budget_is_kept),
		cmocka_unit_test_setup_teardown(storm_is_told, setup, teardown),
		cmocka_unit_test(gone_in_a_storm_is_not_counted),
		cmocka_unit_test_setup_teardown(several_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_of_several_threads, setup, teardown),
		{ "keys_of_several_threads (inotify)", keys_of_several_threads, setup_inotify,
		  teardown, NULL },
		cmocka_unit_test_setup_teardown(removed_leaves_nothing, setup, teardown),
		{ "removed_leaves_nothing (inotify)", removed_leaves_nothing, setup_inotify,
		  teardown, NULL },
		cmocka_unit_test_setup_teardown(own_removal_is_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
