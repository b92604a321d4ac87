/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages that the kernel had kept are written: the time of change stays what it was said to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glib.h>
#include <string.h>

#include "../lib/core-fixture.h"
#include "layer/layer.h"
#include "object/object.h"

#define EARLIER 1000000000
#define LATER 1100000000

static const struct un_cred root = { 0 };

/* What happens while a write is under way, once. */
static struct {
	struct un_fs *fs;
	struct un_inode *inode;
	void (*fn)(void);
	const struct un_layer_ops *ops;
} during;

static ssize_t pwrite_and(struct un_layer *l, int fd, const void *buf, size_t size, off_t off)
{
	ssize_t n = during.ops->pwrite(l, fd, buf, size, off);
	void (*fn)(void) = during.fn;

	during.fn = NULL;
	if (fn)
		fn();
	return n;
}

static void set_mtime(time_t to)
{
	struct un_setattr a = { .valid = UN_SET_MTIME, .mtime = { .tv_sec = to } };
	struct statx st;

	assert_int_equal(un_setattr(during.fs, during.inode, &a, &root, &st), 0);
}

static void write_one(bool cached)
{
	const struct un_write w = { .buf = "x", .size = 1, .cached = cached, .keep_mtime = cached };
	bool killed;

	assert_int_equal(un_write(during.fs, during.inode, &w, &root, &killed), 1);
}

static void set_later(void)
{
	set_mtime(LATER);
}

static void write_cached(void)
{
	write_one(true);
}

static void write_cached_then_set(void)
{
	write_one(true);
	set_mtime(LATER);
	write_one(true);
}

static void write_now(void)
{
	write_one(false);
}

static time_t mtime_after(struct fixture *f, void (*fn)(void))
{
	static struct un_layer_ops mine;
	struct un_fs *fs = start(f, "u a = x\n");
	time_t ret;

	during.fs = fs;
	during.inode = find(fs, "a");
	set_mtime(EARLIER);
	during.ops = fs->upper->ops;
	mine = *during.ops;
	mine.pwrite = pwrite_and;
	fs->upper->ops = &mine;
	during.fn = fn;
	write_one(true);
	fs->upper->ops = during.ops;
	ret = attrs(fs, "a").stx_mtime.tv_sec;
	un_inode_put(fs, during.inode);
	return ret;
}

static void alone(void **state)
{
	assert_int_equal(mtime_after(*state, NULL), EARLIER);
}

/* A flush of times overtakes a write. */
static void set_under_way(void **state)
{
	assert_int_equal(mtime_after(*state, set_later), LATER);
}

/* The second sees the file with the time of the first. */
static void two_at_once(void **state)
{
	assert_int_equal(mtime_after(*state, write_cached), EARLIER);
}

static void two_and_a_flush(void **state)
{
	assert_int_equal(mtime_after(*state, write_cached_then_set), LATER);
}

/* A write that is none of kept pages has its own time. */
static void written_under_way(void **state)
{
	assert_true(mtime_after(*state, write_now) > LATER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(alone),           T(set_under_way),     T(two_at_once),
		T(two_and_a_flush), T(written_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
