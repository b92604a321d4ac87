/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which paths are refused as layers, and which are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/setup-fixture.h"

static void wrong_paths(void **state)
{
	put("file", "");
	must_refuse(REQ(LOWERS("none")), "lowerdir: none: ", ENOENT);
	must_refuse(REQ(LOWERS("lower", "file")), "lowerdir: file: ", ENOTDIR);
	must_refuse(REQ(LOWERS("lower"), .upper = "none", .work = "work"),
		    "upperdir: none: ", ENOENT);
	must_refuse(REQ(LOWERS("lower"), .upper = "file", .work = "work"),
		    "upperdir: file: ", ENOTDIR);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "none"),
		    "workdir: none: ", ENOENT);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "file"),
		    "workdir: file: ", ENOTDIR);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper"),
		    "upperdir: upper: needs a workdir: ", EINVAL);
	must_refuse(REQ(.n_lowers = 0), "lowerdir: no layer given: ", EINVAL);
	must_refuse(REQ(.n_lowers = 501), "lowerdir: 501 layers given", EINVAL);
	assert_int_equal(count_entries("work"), 0);
}

static void overlaps(void **state)
{
	make_dirs("upper/a/b");
	make_dirs("work/a");
	make_dirs("lower/a/b");
	assert_int_equal(symlink("lower", "link"), 0);

	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "upper"),
		    "workdir: upper: is the same directory as upperdir upper: ", EINVAL);
	must_refuse(REQ(LOWERS("lower"), .upper = "upper", .work = "upper/a/b"),
		    "workdir: upper/a/b: lies inside upperdir upper: ", EINVAL);
	must_refuse(REQ(LOWERS("lower"), .upper = "work/a", .work = "work"),
		    "upperdir: work/a: lies inside workdir work: ", EINVAL);
	must_refuse(REQ(LOWERS("upper"), .upper = "upper", .work = "work"),
		    "lowerdir: upper: is the same directory as upperdir upper: ", ELOOP);
	must_refuse(REQ(LOWERS("work"), .upper = "upper", .work = "work"),
		    "lowerdir: work: is the same directory as workdir work: ", ELOOP);
	must_refuse(REQ(LOWERS("lower", "lower")),
		    "lowerdir: lower: is the same directory as lowerdir lower: ", ELOOP);
	must_refuse(REQ(LOWERS("lower", "link")),
		    "lowerdir: link: is the same directory as lowerdir lower: ", ELOOP);
	must_refuse(REQ(LOWERS("upper/a/b"), .upper = "upper", .work = "work"),
		    "lowerdir: upper/a/b: lies inside upperdir upper: ", ELOOP);
	must_refuse(REQ(LOWERS("work/a"), .upper = "upper", .work = "work"),
		    "lowerdir: work/a: lies inside workdir work: ", ELOOP);
	must_refuse(REQ(LOWERS("lower", "lower/a")),
		    "lowerdir: lower/a: lies inside lowerdir lower: ", ELOOP);
	must_refuse(REQ(LOWERS("lower/a/b", "lower")),
		    "lowerdir: lower/a/b: lies inside lowerdir lower: ", ELOOP);
	assert_false(exists("work/work"));
	assert_false(exists("upper/a/b/work"));
}

static void upper_and_work_inside_a_lower(void **state)
{
	make_dirs("lower/u");
	make_dirs("lower/w");
	un_layers_close(must_open(REQ(LOWERS("lower"), .upper = "lower/u", .work = "lower/w")));
	un_layers_close(must_open(REQ(LOWERS("lower"), .upper = "lower/u", .work = "work")));
	un_layers_close(must_open(REQ(LOWERS("lower"), .upper = "upper", .work = "lower/w")));
	un_layers_close(must_open(REQ(LOWERS("/"), .upper = "upper", .work = "work")));
}

static void work_on_another_mount(void **state)
{
	need_mounts(*state);
	assert_int_equal(mount("work", "work", NULL, MS_BIND, NULL), 0);
	must_refuse(&usual, "workdir: work: is not on the same mount as upperdir upper: ", EINVAL);
	assert_int_equal(umount("work"), 0);
	un_layers_close(must_open(&usual));
}

/* Mounted on a directory of the upper is not inside it. */
static void lower_mounted_on_upper(void **state)
{
	need_mounts(*state);
	make_dirs("upper/m/n");
	assert_int_equal(mount("none", "upper/m", "tmpfs", 0, NULL), 0);
	make_dirs("upper/m/l");
	un_layers_close(must_open(REQ(LOWERS("upper/m"), .upper = "upper", .work = "work")));
	un_layers_close(must_open(REQ(LOWERS("upper/m/l"), .upper = "upper", .work = "work")));
	must_refuse(REQ(LOWERS("upper/m/l", "upper/m")), "lowerdir: upper/m/l: lies inside", ELOOP);
	assert_int_equal(umount("upper/m"), 0);
}

static void unwritable(void **state)
{
	if (geteuid() == 0) {
		need_mounts(*state);
		make_dirs("ro/upper");
		make_dirs("ro/work");
		assert_int_equal(mount("ro", "ro", NULL, MS_BIND, NULL), 0);
		if (mount(NULL, "ro", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0)
			must_refuse(REQ(LOWERS("lower"), .upper = "ro/upper", .work = "ro/work"),
				    "upperdir: ro/upper: ", EROFS);
		assert_int_equal(umount("ro"), 0);
		assert_false(exists("ro/work/work"));
		return;
	}
	assert_int_equal(chmod("upper", 0555), 0);
	must_refuse(&usual, "upperdir: upper: ", EACCES);
	assert_int_equal(chmod("upper", 0755), 0);
	assert_int_equal(chmod("work", 0555), 0);
	must_refuse(&usual, "workdir: work: ", EACCES);
	assert_int_equal(chmod("work", 0755), 0);
}

static void kernel_file_systems(void **state)
{
	must_refuse(REQ(LOWERS("lower", "/proc/self")), "lowerdir: /proc/self: is on a file system",
		    EINVAL);
	if (exists("/sys/kernel"))
		must_refuse(REQ(LOWERS("/sys/kernel")),
			    "lowerdir: /sys/kernel: is on a file system", EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(wrong_paths),
		T(overlaps),
		T(upper_and_work_inside_a_lower),
		T(kernel_file_systems),
		/* These leave the mount namespace. */
		T(unwritable),
		T(work_on_another_mount),
		T(lower_mounted_on_upper),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
