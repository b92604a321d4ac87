/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core-fixture.h"

#include <glib.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whatever hangs is a failure. */
#define TIME_LIMIT 60

static atomic_uint criticals;

/* GLib's complaints about wrong arguments fail the test. */
static void count_critical(const char *domain, GLogLevelFlags level, const char *text, void *data)
{
	if (atomic_fetch_add(&criticals, 1) == 0)
		print_message("%s\n", text);
}

int core_setup(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	alarm(TIME_LIMIT);
	g_log_set_default_handler(count_critical, NULL);
	criticals = 0;
	f->fds = stack_count_fds();
	getrlimit(RLIMIT_NOFILE, &f->nofile);
	*state = f;
	return 0;
}

int core_teardown(void **state)
{
	struct fixture *f = *state;

	un_fs_free(f->fs);
	setrlimit(RLIMIT_NOFILE, &f->nofile);
	if (f->s.text)
		stack_done(&f->s);
	alarm(0);
	g_free(f);
	return criticals > 0;
}

struct un_fs *start(struct fixture *f, const char *text)
{
	stack_init(&f->s, text);
	f->fs = stack_fs(&f->s);
	return f->fs;
}

/* Ends the union, which must leave nothing, and starts another. */
struct un_fs *restart(struct fixture *f)
{
	g_autofree char *work = NULL;

	un_fs_free(f->fs);
	f->fs = NULL;
	work = stack_ls(&f->s, "work/work");
	assert_string_equal(work, "");
	assert_int_equal(stack_count_fds(), f->fds);
	f->fs = stack_fs(&f->s);
	return f->fs;
}

struct un_inode *find(struct un_fs *fs, const char *path)
{
	int r;
	struct un_inode *inode = stack_find(fs, path, &r);

	if (r < 0)
		fail_msg("%s: %s", path, g_strerror(-r));
	return inode;
}

struct statx attrs(struct un_fs *fs, const char *path)
{
	struct un_inode *inode = find(fs, path);
	struct statx st;

	assert_int_equal(un_getattr(fs, inode, &st), 0);
	un_inode_put(fs, inode);
	return st;
}

char *read_inode(struct un_fs *fs, struct un_inode *inode)
{
	char buf[8192];
	ssize_t n = un_read(fs, inode, buf, sizeof(buf) - 1, 0, NULL);

	if (n < 0)
		return g_strdup_printf("!%s", g_strerror((int)-n));
	return g_strndup(buf, (size_t)n);
}

void reads(struct un_fs *fs, const char *path, const char *text)
{
	struct un_inode *inode = find(fs, path);
	g_autofree char *got = read_inode(fs, inode);

	un_inode_put(fs, inode);
	assert_string_equal(got, text);
}

void must(struct un_fs *fs, const char *op)
{
	int r = stack_do(fs, op);

	if (r < 0)
		fail_msg("%s: %s", op, g_strerror(-r));
}

void must_fail(struct un_fs *fs, const char *op, int errnum)
{
	int r = stack_do(fs, op);

	if (r != -errnum)
		fail_msg("%s: %s, expected %s", op, g_strerror(r < 0 ? -r : 0), g_strerror(errnum));
}

/* The union and one started later show the same tree, in which nothing is wrong. */
void same_from_outside(struct fixture *f)
{
	g_autofree char *names = stack_names(&f->s);
	g_autofree char *living = stack_view(f->fs, STACK_VIEW_NAMES, names);
	g_autofree char *outside = NULL;

	restart(f);
	outside = stack_view(f->fs, STACK_VIEW_NAMES, names);
	assert_null(strstr(living, " !"));
	assert_string_equal(living, outside);
}

void limit_descriptors(void)
{
	/* A budget of 64: un_fs_new() keeps the rest for what is not in its cache. */
	struct rlimit lim;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = 112;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

/* Of every line of the upper but its root: name and kind. */
void upper_has(struct fixture *f, const char *want)
{
	g_autofree char *disk = stack_disk(&f->s, "upper");
	g_auto(GStrv) lines = g_strsplit(disk, "\n", -1);
	GString *got = g_string_new("");

	for (char **p = lines + 1; *p && **p; p++) {
		g_auto(GStrv) w = g_strsplit(*p, " ", 3);
		unsigned mode = (unsigned)strtoul(w[1], NULL, 8);
		const char *opaque = strstr(*p, "overlay.opaque=y") ? "!" : "";

		g_string_append_printf(got, "%s%s%s%s", got->len ? " " : "", w[0],
				       S_ISDIR(mode)   ? "/"
				       : S_ISCHR(mode) ? "~"
						       : "",
				       opaque);
	}
	if (strcmp(got->str, want) != 0)
		fail_msg("the upper has \"%s\", expected \"%s\"", got->str, want);
	g_string_free(got, TRUE);
}
