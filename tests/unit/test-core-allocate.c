/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Much room in one call, which goes in pieces: what is left of it when one of them fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/core-fixture.h"
#include "../lib/layer-fault.h"
#include "object/cred.h"
#include "object/object.h"
#include "util/cancel.h"

#define MUCH "fallocate f 40000000"

/* @op, with the @n-th change of the upper failing. False: there are not so many. */
static bool fails(struct un_fs *fs, const char *op, int n, int err, int *ret)
{
	struct un_fault fault = { .countdown = n, .err = err, .changes_only = true };

	un_layer_fault(fs->upper, &fault);
	*ret = stack_do(fs, op);
	un_layer_unfault(fs->upper);
	return fault.hit;
}

static void out_of_room(void **state)
{
	struct un_fs *fs = start(*state, "u f = text\n");
	int n, r;

	for (n = 1; fails(fs, MUCH, n, ENOSPC, &r); n++) {
		assert_int_equal(r, -ENOSPC);
		assert_int_equal(attrs(fs, "f").stx_size, 4);
		assert_in_range(attrs(fs, "f").stx_blocks, 0, 256);
		reads(fs, "f", "text");
	}
	assert_true(n > 4);
	assert_int_equal(r, 0);
	assert_int_equal(attrs(fs, "f").stx_size, 40000000);
}

/* Somebody has set it aside, and counts on it. */
static void earlier_room_stays(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u f = text\n");
	int fd = open(stack_path(&f->s, "upper/f"), O_WRONLY | O_CLOEXEC), r;

	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8 << 20), 0);
	close(fd);
	assert_true(fails(fs, MUCH, 3, ENOSPC, &r));
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(attrs(fs, "f").stx_size, 4);
	assert_true(attrs(fs, "f").stx_blocks >= (8 << 20) / 512);
}

/* A stop, or a debugger, ends a call early. */
static void other_signals(void **state)
{
	struct un_fs *fs = start(*state, "u f = text\nu g = data\n");
	struct un_inode *from = find(fs, "f"), *to = find(fs, "g");
	struct un_fault fault = { .countdown = 1, .err = EINTR, .changes_only = true };
	const struct un_cred cred = { 0 };
	bool killed;
	int r;

	assert_true(fails(fs, MUCH, 2, EINTR, &r));
	assert_int_equal(r, 0);
	assert_int_equal(attrs(fs, "f").stx_size, 40000000);
	assert_true(fails(fs, "fallocate g 4096", 1, EINTR, &r));
	assert_int_equal(r, 0);
	un_layer_fault(fs->upper, &fault);
	assert_int_equal(un_copy_file_range(fs, from, 0, to, 0, 4, &cred, &killed), 4);
	assert_true(fault.hit);
	un_layer_unfault(fs->upper);
	un_inode_put(fs, to);
	un_inode_put(fs, from);
}

static struct {
	struct un_fs *fs;
	unsigned questions;
} writer;

/* The caller is killed, just after pages from before its call have been written to the file. */
static bool is_gone_later(void *data)
{
	(void)data;
	if (++writer.questions == 3)
		must(writer.fs, "write f late 4");
	return writer.questions >= 3;
}

static void pages_are_written_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs;

	start(f, "u f = text\n");
	f->s.writeback = true;
	writer.fs = fs = restart(f);
	writer.questions = 0;
	un_cancel_by(is_gone_later, NULL);
	assert_int_equal(stack_do(fs, MUCH), -EINTR);
	un_cancel_by(NULL, NULL);
	un_cancel_done();
	assert_true(writer.questions >= 3);
	reads(fs, "f", "textlate");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(out_of_room),
		T(earlier_room_stays),
		T(other_signals),
		T(pages_are_written_meanwhile),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
