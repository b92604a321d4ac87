/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers that are looked at: nothing is changed, and what may be mended is nobody else's meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/setup-fixture.h"

#define LOOK .upper = "upper", .look = true

static void nothing_is_made(void **state)
{
	struct un_layers *ls = must_open(REQ(LOOK, LOWERS("lower"), .work = "work"));

	assert_int_equal(ls->work, -1);
	assert_int_equal(ls->index, -1);
	assert_int_equal(ls->n, 1);
	un_layers_close(ls);
	assert_int_equal(count_entries("work"), 0);
	assert_int_equal(count_entries("upper"), 0);
}

static void what_a_mount_left_is_opened(void **state)
{
	unsigned fds = count_fds();
	struct un_layers *ls;

	un_layers_close(must_open(&usual));
	put("work/work/#left", "x");
	assert_int_equal(mkdir("work/index", 0700), 0);
	ls = must_open(REQ(LOOK, LOWERS("lower"), .work = "work"));
	assert_true(ls->work >= 0);
	assert_true(ls->index >= 0);
	un_layers_close(ls);
	assert_true(exists("work/work/#left"));
	assert_int_equal(count_fds(), fds);
}

static void work_and_lowers_may_be_missing(void **state)
{
	struct un_layers *ls = must_open(REQ(LOOK));

	assert_int_equal(ls->n, 0);
	assert_int_equal(ls->lowest, 0);
	assert_null(un_layers_in_use(ls));
	un_layers_close(ls);
	un_layers_close(must_open(REQ(LOOK, LOWERS("lower"))));
	must_refuse(REQ(LOOK, LOWERS("nowhere")), "lowerdir: nowhere", ENOENT);
	must_refuse(REQ(.upper = "upper", LOWERS("lower")), "upperdir: upper: needs a workdir",
		    EINVAL);
}

static void a_mount_is_in_the_way(void **state)
{
	struct un_layers *mounted = must_open(&usual), *ls;
	char *who;

	ls = must_open(REQ(LOOK, LOWERS("lower"), .work = "work", .mend = true));
	assert_int_equal(un_layers_claim(ls, &who), -EBUSY);
	assert_non_null(who);
	g_free(who);
	who = un_layers_in_use(ls);
	assert_non_null(who);
	g_free(who);
	un_layers_close(mounted);
	assert_int_equal(un_layers_claim(ls, &who), 0);
	assert_null(who);
	un_layers_close(ls);
}

static void mounts_are_kept_away(void **state)
{
	struct un_layers *ls = must_open(REQ(LOOK, LOWERS("lower"), .work = "work", .mend = true));
	const struct un_setup_request eager = { LOWERS("lower"), .upper = "upper", .work = "work",
						.alone = true, .patience = 1 };
	char *who;

	assert_int_equal(un_layers_claim(ls, &who), 0);
	must_refuse(&eager, "upperdir: upper: is used by another mount", EBUSY);
	un_layers_close(ls);
	un_layers_close(must_open(&eager));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(nothing_is_made),
		T(what_a_mount_left_is_opened),
		T(work_and_lowers_may_be_missing),
		T(a_mount_is_in_the_way),
		T(mounts_are_kept_away),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
