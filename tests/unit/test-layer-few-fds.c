/* SPDX-License-Identifier: GPL-2.0-or-later */
/* No descriptor is left: whatever a layer opens, for its caller or within a call, waits for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "layer/layer-posix_i.h"
#include "util/fd.h"

#define LIMIT 64

struct fixture {
	char dir[64];
	struct un_layer l;
	GArray *spare; /* descriptors that fill the table */
	unsigned asked;
	unsigned deaf; /* so many times nothing is given */
};

static bool give_back(void *data)
{
	struct fixture *f = data;

	f->asked++;
	if (f->asked <= f->deaf || f->spare->len == 0)
		return false;
	close(g_array_index(f->spare, int, f->spare->len - 1));
	g_array_set_size(f->spare, f->spare->len - 1);
	return true;
}

/* Now there is none. */
static void fill(struct fixture *f)
{
	for (int fd; (fd = fcntl(f->l.root, F_DUPFD_CLOEXEC, 3)) >= 0;)
		g_array_append_val(f->spare, fd);
	assert_int_equal(errno, EMFILE);
	f->asked = 0;
}

static void drain(struct fixture *f)
{
	while (f->spare->len)
		give_back(f);
}

static void put(const char *dir, const char *name)
{
	g_autofree char *path = g_build_filename(dir, name, NULL);

	assert_true(g_file_set_contents(path, "x", 1, NULL));
}

static int setup(void **state)
{
	struct rlimit lim = { LIMIT, LIMIT };
	struct fixture *f = g_new0(struct fixture, 1);
	g_autofree char *sub = NULL;

	strcpy(f->dir, "/tmp/un-few-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	sub = g_build_filename(f->dir, "d", NULL);
	assert_int_equal(g_mkdir_with_parents(sub, 0755), 0);
	put(f->dir, "a");
	put(f->dir, "b");
	put(sub, "x");
	f->l = (struct un_layer){ .index = 1, .clone = -1, .ops = &un_layer_posix };
	f->l.root = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->spare = g_array_new(FALSE, FALSE, sizeof(int));
	setrlimit(RLIMIT_NOFILE, &lim);
	un_fd_giver(give_back, f);
	*state = f;
	return f->l.root < 0 ? -1 : 0;
}

/* What this kernel has, before a test takes it away. */
static struct un_posix_have all;

static int setup_new(void **state)
{
	un_posix_found = all;
	return setup(state);
}

static int setup_old(void **state)
{
	memset(&un_posix_found, 0, sizeof(un_posix_found));
	return setup(state);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->deaf = 0;
	drain(f);
	un_fd_giver(NULL, NULL);
	if (f->l.handle_fd > 0)
		close(f->l.handle_fd);
	close(f->l.root);
	nftw(f->dir, remove_one, 4, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	g_array_free(f->spare, TRUE);
	g_free(f);
	return 0;
}

#define OP(f, op, ...) ((f)->l.ops->op(&(f)->l, __VA_ARGS__))

static void had_to_ask(struct fixture *f)
{
	assert_true(f->asked > 0);
	fill(f);
}

static void opens(struct fixture *f, const char *name, int flags)
{
	int fd = OP(f, open, f->l.root, name, flags, 0600);

	assert_true(fd >= 0);
	close(fd);
	had_to_ask(f);
}

static void every_open(void **state)
{
	struct fixture *f = *state;

	fill(f);
	opens(f, "a", O_RDONLY);
	opens(f, "a", O_PATH | O_NOFOLLOW);
	opens(f, "", O_RDONLY | O_DIRECTORY);
	opens(f, "new", O_RDWR | O_CREAT | O_EXCL);
	f->l.noatime_by_open = true;
	opens(f, "a", O_RDONLY);
	assert_int_equal(OP(f, open, f->l.root, "new", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	assert_int_equal(OP(f, open, f->l.root, "none", O_RDONLY, 0), -ENOENT);
}

static void questions(void **state)
{
	struct fixture *f = *state;

	fill(f);
	assert_int_equal(OP(f, has, f->l.root, "d", "x"), 1);
	had_to_ask(f);
	/* Nothing is there: no descriptor was needed to see that, or it came. */
	assert_int_equal(OP(f, has, f->l.root, "d", "y"), 0);
}

static void handles(void **state)
{
	struct fixture *f = *state;
	g_autofree struct file_handle *h = g_malloc0(sizeof(*h) + MAX_HANDLE_SZ);
	int fd;

	h->handle_bytes = MAX_HANDLE_SZ;
	if (geteuid() != 0 || OP(f, handle, f->l.root, "a", h) < 0)
		skip();
	fill(f);
	for (int i = 0; i < 2; i++) {
		fd = OP(f, open_handle, h);
		assert_true(fd >= 0);
		close(fd);
		had_to_ask(f);
	}
}

static void what_covers_a_file(void **state)
{
	struct fixture *f = *state;
	g_autofree char *a = g_build_filename(f->dir, "a", NULL);
	g_autofree char *b = g_build_filename(f->dir, "b", NULL);
	struct statx st;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		skip();
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	close(f->l.root);
	f->l.root = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mount(b, a, NULL, MS_BIND, NULL), 0);
	fill(f);
	assert_int_equal(OP(f, stat, f->l.root, "a", &st), 0);
	assert_true(un_stx_is_covered(&st));
	had_to_ask(f);
	opens(f, "a", O_RDONLY);
	assert_int_equal(umount2(a, MNT_DETACH), 0);
}

/* All are in use for a moment: it waits. For ever: it says so, and not that the caller has too many. */
static void waits_and_gives_up(void **state)
{
	struct fixture *f = *state;
	int fd;

	fill(f);
	f->deaf = 3;
	fd = OP(f, open, f->l.root, "a", O_RDONLY, 0);
	assert_true(fd >= 0);
	assert_int_equal(f->asked, 4);
	close(fd);
	fill(f);
	f->deaf = 1000;
	assert_int_equal(OP(f, open, f->l.root, "a", O_RDONLY, 0), -ENFILE);
	assert_int_equal(f->asked, 16);
	un_fd_giver(NULL, NULL);
	assert_int_equal(OP(f, open, f->l.root, "a", O_RDONLY, 0), -ENFILE);
	assert_int_equal(OP(f, has, f->l.root, "d", "x"), -ENFILE);
}

#define EACH(test)                                                                                 \
	{ #test, test, setup_new, teardown, NULL },                                                \
	{                                                                                          \
#test " (old)", test, setup_old, teardown, NULL                                    \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(every_open),         EACH(questions),          EACH(handles),
		EACH(what_covers_a_file), EACH(waits_and_gives_up),
	};

	umask(022);
	all = *un_posix_have();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
