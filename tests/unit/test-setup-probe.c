/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Failures of the upper while work is prepared and the upper probed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../src/layer/setup_i.h"
#include "../lib/layer-fault.h"
#include "../lib/setup-fixture.h"
#include "util/err.h"
#include "util/fd.h"

/* Makes the Nth operation on the upper fail while work is prepared and the upper probed. */
static int prepare_with_fault(struct un_fault *fault, char **ret_err, struct un_layer_caps *ret)
{
	struct un_layer v[2] = { { .root = -1, .clone = -1, .ops = &un_layer_posix },
				 { .root = -1, .clone = -1, .ops = &un_layer_posix } };
	struct un_layers ls = { .v = v,
				.n = 1,
				.has_upper = true,
				.work = -1,
				.index = -1,
				.stage_lock = -1,
				.upper_lock = -1 };
	struct un_setup s = { .req = &usual, .ls = &ls, .ret_err = ret_err };
	int r;

	v[0].path = (char *)(uintptr_t) "upper";
	v[0].root = open("upper", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s.work_parent = open("work", O_PATH | O_DIRECTORY | O_CLOEXEC);
	un_layer_fault(&v[0], fault);
	r = un_setup_work_open(&s);
	if (r == 0)
		r = un_setup_probe_upper(&s);
	*ret = v[0].caps;
	fault->countdown = -1;
	un_setup_work_close(&ls);
	un_close(ls.work);
	un_close(ls.stage_lock);
	un_close(ls.upper_lock);
	g_free(ls.stage_id);
	un_layer_unfault(&v[0]);
	un_close(v[0].root);
	un_close(s.work_parent);
	return r;
}

static void faults(int errnum)
{
	struct un_fault fault = { .hit = true };
	struct un_layer_caps caps, all;
	unsigned refused = 0, fds = count_fds();

	fault.countdown = -1;
	assert_int_equal(prepare_with_fault(&fault, &(char *){ NULL }, &all), 0);
	for (int n = 1; fault.hit || n == 1; n++) {
		g_autofree char *err = NULL;
		int r;

		put("stray", "");
		un_ignore(rename("stray", "work/work/stray"));
		fault = (struct un_fault){ .countdown = n, .err = errnum };
		r = prepare_with_fault(&fault, &err, &caps);
		assert_int_equal(r < 0, err != NULL);
		refused += r < 0;
		if (r < 0 && !(r == -errnum && g_str_has_prefix(err, "workdir: work: ")))
			fail_msg("%d: %s", n, err);
		assert_int_equal(count_fds(), fds);
		assert_true(n < 1000);
		if (!fault.hit)
			assert_memory_equal(&caps, &all, sizeof(caps));
	}
	assert_true(refused > 5);
	un_layers_close(must_open(&usual));
	assert_int_equal(count_entries("work/work"), 0);
}

static void io_errors_in_the_probe(void **state)
{
	faults(EIO);
}

static void full_disk_in_the_probe(void **state)
{
	struct un_layer_caps all = { 0 };
	struct un_fault fault = { .hit = true };

	faults(ENOSPC);
	/* A full disk can be mounted, and is taken for what it is when it is not full. */
	for (int n = 0; fault.hit; n++) {
		struct un_layers *ls = must_open(&usual);
		char *err = NULL;
		struct un_setup s = { .req = &usual, .ls = ls, .ret_err = &err };

		if (n == 0)
			all = ls->v[0].caps;
		fault = (struct un_fault){ .countdown = n, .err = ENOSPC, .changes_only = true };
		memset(&ls->v[0].caps, 0, sizeof(all));
		un_layer_fault(&ls->v[0], &fault);
		assert_int_equal(un_setup_probe_upper(&s), 0);
		un_layer_unfault(&ls->v[0]);
		assert_memory_equal(&ls->v[0].caps, &all, sizeof(all));
		un_layers_close(ls);
		fault.hit |= n == 0;
	}
	assert_int_equal(count_entries("work/work"), 0);
}

/* What the file system does not have is no failure. */
static void refusals_in_the_probe(void **state)
{
	struct un_layers *ls = must_open(&usual);
	char *err = NULL;
	struct un_setup s = { .req = &usual, .ls = ls, .work_parent = -1, .ret_err = &err };
	struct un_fault fault = { .hit = true };
	unsigned missing = 0;

	for (int n = 1; fault.hit; n++) {
		fault = (struct un_fault){ .countdown = n,
					   .err = EOPNOTSUPP,
					   .changes_only = true };
		memset(&ls->v[0].caps, 0, sizeof(ls->v[0].caps));
		un_layer_fault(&ls->v[0], &fault);
		if (un_setup_probe_upper(&s) < 0)
			g_clear_pointer(&err, g_free); /* an operation every file system has */
		un_layer_unfault(&ls->v[0]);
		missing += !ls->v[0].caps.tmpfile + !ls->v[0].caps.rename_whiteout +
			   !ls->v[0].caps.rename_exchange + !ls->v[0].caps.mknod_whiteout;
		un_setup_probe_report(&s);
	}
	assert_true(missing >= 4);
	un_layers_close(ls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(io_errors_in_the_probe),
		T(full_disk_in_the_probe),
		T(refusals_in_the_probe),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
