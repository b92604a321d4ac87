/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "setup-fixture.h"

#include <dirent.h>
#include <ftw.h>
#include <glib.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/err.h"

int setup_begin(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	strcpy(f->dir, "/tmp/un-setup-XXXXXX");
	*state = f;
	return !mkdtemp(f->dir) || chdir(f->dir) < 0 || mkdir("lower", 0755) < 0 ||
	       mkdir("upper", 0755) < 0 || mkdir("work", 0755) < 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int open_up(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	if (flag == FTW_D || flag == FTW_DNR)
		un_ignore(chmod(path, 0755));
	return 0;
}

int setup_end(void **state)
{
	struct fixture *f = *state;
	int r;

	r = chdir("/");
	nftw(f->dir, open_up, 64, FTW_PHYS | FTW_MOUNT);
	nftw(f->dir, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	g_free(f);
	return r;
}

static const char *const lower_only[] = { "lower" };

const struct un_setup_request usual = {
	.lowers = lower_only, .n_lowers = 1, .upper = "upper", .work = "work"
};

struct un_layers *must_open(const struct un_setup_request *req)
{
	char *err = NULL;
	struct un_layers *ls = un_layers_open(req, &err);

	if (!ls)
		fail_msg("%s", err);
	assert_null(err);
	return ls;
}

/* Opening fails with a sentence that begins with @start and ends with the text of @errnum. */
void must_refuse(const struct un_setup_request *req, const char *start, int errnum)
{
	g_autofree char *err = NULL;
	struct un_layers *ls = un_layers_open(req, &err);

	if (ls) {
		un_layers_close(ls);
		fail_msg("opened, expected: %s", start);
	}
	assert_non_null(err);
	if (!g_str_has_prefix(err, start) || !g_str_has_suffix(err, g_strerror(errnum)))
		fail_msg("got \"%s\", expected \"%s ... %s\"", err, start, g_strerror(errnum));
}

void put(const char *path, const char *text)
{
	assert_true(g_file_set_contents(path, text, -1, NULL));
}

void make_dirs(const char *path)
{
	assert_int_equal(g_mkdir_with_parents(path, 0755), 0);
}

bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

unsigned count_fds(void)
{
	return count_entries("/proc/self/fd");
}

/* In a mount namespace of its own the process may mount what it likes. */
void need_mounts(struct fixture *f)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	/* The directory one stands in lies in the namespace left. */
	assert_int_equal(chdir(f->dir), 0);
}
