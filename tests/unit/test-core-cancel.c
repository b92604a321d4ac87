/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A caller that is gone, at each moment at which somebody asks: nothing has changed then, nothing is left, and
 * the next caller succeeds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/core-fixture.h"
#include "../lib/stack.h"
#include "object/lock.h"
#include "object/object.h"
#include "util/cancel.h"

#define MIB (1 << 20)

static struct {
	unsigned at; /* 0: never */
	_Atomic unsigned questions;
} gone;

static bool is_gone(void *data)
{
	(void)data;
	return ++gone.questions >= gone.at && gone.at > 0;
}

/* @op with a caller that is gone at the @at-th question. */
static int do_cancelled(struct un_fs *fs, const char *op, unsigned at)
{
	int r;

	gone.at = at;
	gone.questions = 0;
	un_cancel_by(is_gone, NULL);
	r = stack_do(fs, op);
	un_cancel_by(NULL, NULL);
	un_cancel_done();
	return r;
}

/* Real data, which no hole shortens. */
static void grow(struct fixture *f, const char *path, unsigned mib)
{
	g_autofree char *data = g_malloc(MIB);
	int fd = open(stack_path(&f->s, path), O_WRONLY | O_APPEND);

	memset(data, 'd', MIB);
	for (unsigned i = 0; i < mib; i++)
		assert_int_equal(write(fd, data, MIB), MIB);
	close(fd);
}

static void nothing_staged(struct fixture *f)
{
	g_autofree char *names = stack_ls(&f->s, "work/work");

	assert_string_equal(names, "");
}

static void check(void **state, const char *op, bool filled)
{
	struct fixture *f = *state;
	unsigned at, fds;
	int r = -EINTR;

	start(f, "1 d/f = text\n1 d/g = other\n");
	f->s.format = true;
	grow(f, "1/d/f", 9);
	for (at = 1; r == -EINTR; at++) {
		g_autofree char *before = NULL, *after = NULL;
		struct un_fs *fs;

		un_fs_free(f->fs);
		f->fs = NULL;
		stack_reset_upper(&f->s);
		fs = f->fs = stack_fs(&f->s);
		if (filled)
			must(fs, "chmod d/f 0600");
		before = stack_view(fs, 0, NULL);
		fds = stack_count_fds();
		r = do_cancelled(fs, op, at);
		if (r != -EINTR)
			break;
		after = stack_view(fs, 0, NULL);
		assert_string_equal(before, after);
		nothing_staged(f);
		assert_in_range(stack_count_fds(), 0, fds + 4);
		same_from_outside(f);
		must(f->fs, op);
		same_from_outside(f);
	}
	assert_true(r >= 0);
	/* Of 9 MiB there are questions in between. */
	assert_true(at > 3);
}

static void write_copies_up(void **state)
{
	check(state, "write d/f X", false);
}

static void truncate_copies_up(void **state)
{
	check(state, "truncate d/f 9000000", false);
}

static void write_fills(void **state)
{
	check(state, "write d/f X", true);
}

static void truncate_fills(void **state)
{
	check(state, "truncate d/f 9000000", true);
}

static void allocation(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u f = text\n");
	unsigned at;
	int r = -EINTR;

	for (at = 1; r == -EINTR; at++) {
		struct statx st;

		must(fs, "truncate f 4");
		r = do_cancelled(fs, "fallocate f 40000000", at);
		st = attrs(fs, "f");
		if (r == -EINTR) {
			assert_int_equal(st.stx_size, 4);
			assert_in_range(st.stx_blocks, 0, 256);
		}
	}
	assert_int_equal(r, 0);
	assert_true(at > 3);
	assert_int_equal(attrs(fs, "f").stx_size, 40000000);
	assert_true(attrs(fs, "f").stx_blocks >= 40000000 / 512);
}

/* ---- who waits ---------------------------------------------------------------------------------------- */

struct waiter {
	pthread_t thread;
	struct un_fs *fs;
	atomic_bool gone, done;
	int r;
};

static bool waiter_is_gone(void *data)
{
	struct waiter *w = data;

	return w->gone;
}

static void *wait_in_thread(void *data)
{
	struct waiter *w = data;

	un_cancel_by(waiter_is_gone, w);
	w->r = stack_do(w->fs, "write d/f X");
	un_cancel_by(NULL, NULL);
	un_cancel_done();
	w->done = true;
	return NULL;
}

static void set_copying(struct un_fs *fs, struct un_inode *inode, bool yes)
{
	un_copying_lock(fs);
	inode->copying = yes;
	if (!yes)
		pthread_cond_broadcast(&fs->copied);
	un_copying_unlock(fs);
}

/* @path is being copied by somebody: of two who wait one is gone, and only that one. */
static void waits(void **state, const char *path)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 d/f = text\n");
	struct un_inode *inode = find(fs, path);
	struct waiter w[2] = { { .fs = fs }, { .fs = fs } };

	set_copying(fs, inode, true);
	for (int i = 0; i < 2; i++)
		pthread_create(&w[i].thread, NULL, wait_in_thread, &w[i]);
	g_usleep(100000);
	assert_false(w[0].done || w[1].done);
	w[0].gone = true;
	pthread_join(w[0].thread, NULL);
	assert_int_equal(w[0].r, -EINTR);
	assert_false(w[1].done);
	upper_has(f, strcmp(path, "d") ? "d/" : "");
	/* The one who copied gives up: who waits takes it over. */
	set_copying(fs, inode, false);
	pthread_join(w[1].thread, NULL);
	assert_true(w[1].r >= 0);
	reads(fs, "d/f", "Xext");
	un_inode_put(fs, inode);
}

static void waits_for_copy(void **state)
{
	waits(state, "d/f");
}

static void waits_for_parent(void **state)
{
	waits(state, "d");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(write_copies_up), T(truncate_copies_up), T(write_fills),      T(truncate_fills),
		T(allocation),      T(waits_for_copy),     T(waits_for_parent),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
