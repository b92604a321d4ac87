/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "util/cancel.h"
#include "util/copy.h"

#define MIB ((off_t)1 << 20)
#define SIZE (5 * MIB)

/* Data is at [0, 1) and [3, 3.5) MiB, the rest is a hole. */
static const struct {
	off_t from, to;
} extents[] = { { 0, MIB }, { 3 * MIB, 3 * MIB + MIB / 2 } };

struct file {
	char *src, *dst;
	off_t shrunk_to; /* -1: not */
	int clone;       /* what the rungs answer; 0: they work */
	int range, read, write, seek;
	unsigned range_after, read_after, write_after; /* so many calls work before */
	bool short_range, short_read, short_write, interrupted;
	unsigned clones, ranges, reads, writes;
	unsigned cancel_at; /* at this question and from then on; 0: never */
	unsigned questions;
	int flush; /* what it answers */
	unsigned flushes;
	off_t started, waited; /* up to here */
	off_t most; /* end of what was written */
	bool hole_written;
};

static bool in_extent(off_t off)
{
	for (size_t i = 0; i < G_N_ELEMENTS(extents); i++)
		if (off >= extents[i].from && off < extents[i].to)
			return true;
	return false;
}

static off_t end_of(const struct file *f)
{
	return f->shrunk_to >= 0 ? f->shrunk_to : SIZE;
}

static void wrote(struct file *f, const char *from, size_t n, off_t off)
{
	memcpy(f->dst + off, from, n);
	f->most = MAX(f->most, off + (off_t)n);
	f->hole_written |= !in_extent(off) || !in_extent(off + (off_t)n - 1);
}

static int op_clone(void *ctx)
{
	struct file *f = ctx;

	f->clones++;
	if (f->clone)
		return -f->clone;
	memcpy(f->dst, f->src, SIZE);
	return 0;
}

static ssize_t op_range(void *ctx, off_t off, size_t size)
{
	struct file *f = ctx;

	if (f->ranges++ >= f->range_after && f->range)
		return -f->range;
	if (f->interrupted && f->ranges % 2)
		return -EINTR;
	if (off >= end_of(f))
		return 0;
	size = MIN(size, (size_t)(end_of(f) - off));
	if (f->short_range)
		size = MIN(size, 300000u);
	wrote(f, f->src + off, size, off);
	return (ssize_t)size;
}

static ssize_t op_pread(void *ctx, void *buf, size_t size, off_t off)
{
	struct file *f = ctx;

	if (f->reads++ >= f->read_after && f->read)
		return -f->read;
	if (f->interrupted && f->reads % 2)
		return -EINTR;
	if (off >= end_of(f))
		return 0;
	size = MIN(size, (size_t)(end_of(f) - off));
	if (f->short_read)
		size = MIN(size, 70001u);
	memcpy(buf, f->src + off, size);
	return (ssize_t)size;
}

static ssize_t op_pwrite(void *ctx, const void *buf, size_t size, off_t off)
{
	struct file *f = ctx;

	if (f->writes++ >= f->write_after && f->write)
		return f->write == 1000 ? 0 : -f->write;
	if (f->interrupted && f->writes % 2)
		return -EINTR;
	if (f->short_write)
		size = MIN(size, 50021u);
	wrote(f, buf, size, off);
	return (ssize_t)size;
}

static off_t op_seek(void *ctx, off_t off, int whence)
{
	struct file *f = ctx;
	bool data = whence == SEEK_DATA;

	if (f->seek)
		return -f->seek;
	for (; off < end_of(f); off += 4096)
		if (in_extent(off) == data)
			return off;
	return data ? -ENXIO : end_of(f);
}

static const struct un_copy_ops ops = { .clone = op_clone,
					.copy_range = op_range,
					.pread = op_pread,
					.pwrite = op_pwrite,
					.seek = op_seek };

static void reset(struct file *f)
{
	char *src = f->src, *dst = f->dst;

	*f = (struct file){ .src = src, .dst = dst, .shrunk_to = -1 };
	memset(dst, 0, SIZE);
}

static int setup(void **state)
{
	struct file *f = g_new0(struct file, 1);

	f->src = g_malloc0(SIZE);
	f->dst = g_malloc0(SIZE);
	for (off_t i = 0; i < SIZE; i++)
		if (in_extent(i))
			f->src[i] = (char)(i * 7 + i / 256 + 1);
	reset(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct file *f = *state;

	g_free(f->src);
	g_free(f->dst);
	g_free(f);
	return 0;
}

/* All that was there, and nothing where a hole was. */
static void good(struct file *f, off_t size)
{
	assert_memory_equal(f->src, f->dst, (size_t)size);
	assert_true(f->most <= size);
	assert_false(f->hole_written);
}

static void cloned(void **state)
{
	struct file *f = *state;

	assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), 0);
	good(f, SIZE);
	assert_int_equal(f->ranges + f->reads, 0);
}

static void rungs(void **state)
{
	static const int refused[] = { EOPNOTSUPP, EXDEV,   EINVAL, ENOTTY, EPERM,
				       ENOSYS,     ETXTBSY, EBADF,  EACCES };
	static const int range_refused[] = { EOPNOTSUPP, EXDEV, EINVAL, ENOSYS, EPERM, ETXTBSY };
	struct file *f = *state;

	for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
		reset(f);
		f->clone = refused[i];
		assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), 0);
		good(f, SIZE);
		assert_int_equal(f->clones, 1);
		assert_true(f->ranges > 0);
		assert_int_equal(f->reads, 0);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(range_refused); i++)
		for (unsigned after = 0; after < 3; after++) {
			reset(f);
			f->clone = EXDEV;
			f->range = range_refused[i];
			f->range_after = after;
			f->short_range = true;
			assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), 0);
			good(f, SIZE);
			/* Not asked again once it said no. */
			assert_int_equal(f->ranges, after + 1);
			assert_true(f->reads > 0);
		}
}

static void real_errors(void **state)
{
	static const int errnos[] = { EIO, ENOSPC, EDQUOT, ENOMEM, EFBIG };
	struct file *f = *state;

	for (size_t i = 0; i < G_N_ELEMENTS(errnos); i++) {
		reset(f);
		f->clone = errnos[i];
		assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), -errnos[i]);
		reset(f);
		f->clone = EXDEV;
		f->range = errnos[i];
		f->range_after = i % 2;
		f->short_range = true;
		assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), -errnos[i]);
		reset(f);
		f->clone = f->range = EXDEV;
		f->read = errnos[i];
		f->read_after = 1;
		assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), -errnos[i]);
		reset(f);
		f->clone = f->range = EXDEV;
		f->write = errnos[i];
		f->write_after = 1;
		assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), -errnos[i]);
	}
	/* A write of nothing for ever. */
	reset(f);
	f->clone = f->range = EXDEV;
	f->write = 1000;
	assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), -EIO);
}

static void in_small_pieces(void **state)
{
	struct file *f = *state;

	for (int range = 0; range < 2; range++) {
		reset(f);
		f->clone = EXDEV;
		f->range = range ? 0 : EXDEV;
		f->short_range = f->short_read = f->short_write = f->interrupted = true;
		assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), 0);
		good(f, SIZE);
	}
}

static void no_holes_known(void **state)
{
	struct file *f = *state;

	f->clone = f->range = EXDEV;
	f->seek = EINVAL;
	assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), 0);
	assert_memory_equal(f->src, f->dst, SIZE);
}

static void only_a_part(void **state)
{
	static const off_t sizes[] = { 1, 4096, MIB - 1, MIB, 2 * MIB, 3 * MIB + 5, 4 * MIB, SIZE };
	struct file *f = *state;

	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
		for (int range = 0; range < 2; range++) {
			reset(f);
			f->clone = EXDEV;
			f->range = range ? 0 : EXDEV;
			assert_int_equal(un_copy_data(&ops, f, sizes[i], SIZE), 0);
			good(f, sizes[i]);
		}
	/* Cloning most of it for nothing is not worth it. */
	reset(f);
	assert_int_equal(un_copy_data(&ops, f, 4096, SIZE), 0);
	assert_int_equal(f->clones, 0);
	good(f, 4096);
	reset(f);
	assert_int_equal(un_copy_data(&ops, f, 0, SIZE), 0);
	assert_int_equal(un_copy_data(&ops, f, 0, 0), 0);
	assert_int_equal(f->clones + f->ranges + f->reads, 0);
	assert_int_equal(un_copy_data(&ops, f, 100 * SIZE, SIZE), 0);
	good(f, SIZE);
}

static void shrinking_source(void **state)
{
	static const off_t ends[] = { 0, 1000, MIB - 5, 3 * MIB + 17 };
	struct file *f = *state;

	for (size_t i = 0; i < G_N_ELEMENTS(ends); i++)
		for (int range = 0; range < 2; range++)
			for (int seek = 0; seek < 2; seek++) {
				reset(f);
				f->clone = EXDEV;
				f->range = range ? 0 : EXDEV;
				f->seek = seek ? EINVAL : 0;
				f->shrunk_to = ends[i];
				assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), 0);
				assert_memory_equal(f->src, f->dst, (size_t)ends[i]);
				assert_true(f->most <= ends[i]);
			}
}

static bool is_gone(void *data)
{
	struct file *f = data;

	return ++f->questions >= f->cancel_at && f->cancel_at > 0;
}

static void cancelled_anywhere(void **state)
{
	struct file *f = *state;

	for (int range = 0; range < 2; range++) {
		unsigned at;
		int r = -EINTR;

		for (at = 1; r; at++) {
			reset(f);
			f->clone = EXDEV;
			f->range = range ? 0 : EXDEV;
			f->cancel_at = at;
			un_cancel_by(is_gone, f);
			r = un_copy_data(&ops, f, SIZE, SIZE);
			un_cancel_by(NULL, NULL);
			if (r < 0)
				assert_int_equal(r, -EINTR);
			/* A question before each MiB, and nothing after it was answered. */
			assert_true(f->questions <= at);
			assert_true(f->most <= (off_t)(at - 1) * 4 * MIB);
			assert_in_range(f->ranges + f->writes, at - 1, at);
		}
		good(f, SIZE);
		assert_true(at > 2);
	}
	/* One call, which is over in no time. */
	reset(f);
	f->cancel_at = 1;
	un_cancel_by(is_gone, f);
	assert_int_equal(un_copy_data(&ops, f, SIZE, SIZE), 0);
	un_cancel_by(NULL, NULL);
}

static int op_flush(void *ctx, off_t off, off_t size, bool wait)
{
	struct file *f = ctx;
	off_t *to = wait ? &f->waited : &f->started;

	/* Without a gap, of what was written or is a hole. */
	assert_int_equal(off, *to);
	*to = off + size;
	assert_true(f->waited <= f->started);
	if (f->flushes++ > 0 && f->flush)
		return -f->flush;
	return 0;
}

static ssize_t big_range(void *ctx, off_t off, size_t size)
{
	struct file *f = ctx;

	f->ranges++;
	g_usleep(500); /* as memory would take; in no time, it would not be moved */
	assert_true(off - f->started <= 8 * MIB);
	assert_true(off - f->waited <= 16 * MIB);
	f->most = off + (off_t)size;
	return (ssize_t)size;
}

static off_t big_seek(void *ctx, off_t off, int whence)
{
	(void)ctx;
	return whence == SEEK_DATA ? off : 64 * MIB;
}

static void written_meanwhile(void **state)
{
	const struct un_copy_ops big = { .clone = op_clone,
					 .copy_range = big_range,
					 .pread = op_pread,
					 .pwrite = op_pwrite,
					 .seek = big_seek,
					 .flush = op_flush };
	struct file *f = *state;

	f->clone = EXDEV;
	assert_int_equal(un_copy_data(&big, f, 64 * MIB, 64 * MIB), 0);
	assert_int_equal(f->most, 64 * MIB);
	assert_true(f->waited >= 48 * MIB);
	/* Nothing was written that an fsync would not do at once. */
	reset(f);
	f->clone = EXDEV;
	assert_int_equal(un_copy_data(&big, f, 3 * MIB, 64 * MIB), 0);
	assert_int_equal(f->flushes, 0);
	reset(f);
	f->clone = EXDEV;
	f->flush = EIO;
	assert_int_equal(un_copy_data(&big, f, 64 * MIB, 64 * MIB), -EIO);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(cloned),
		T(rungs),
		T(real_errors),
		T(in_small_pieces),
		T(no_holes_known),
		T(only_a_part),
		T(shrinking_source),
		T(cancelled_anywhere),
		T(written_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
