/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "command-line.h"

static void mount_opts_are(bool is_root, const char *opts, const char *want)
{
	struct un_options *o = good_words(is_root, WORDS("/m", "-o", opts));

	assert_string_equal(o->mount_opts->str, want);
	un_options_free(o);
}

static void defaults(void **state)
{
	struct un_options *o = GOOD(U);

	assert_string_equal(o->mountpoint, "/m");
	assert_null(o->source);
	assert_string_equal(o->upper, "/u");
	assert_string_equal(o->work, "/w");
	assert_string_equal(o->fsname, "fuse-unionfs");
	assert_string_equal(o->subtype, "fuse-unionfs");
	assert_string_equal(o->mount_opts->str, "");
	assert_int_equal(o->warnings->len, 0);
	assert_false(o->help || o->version || o->foreground || o->debug || o->read_only);
	assert_false(o->writeback || o->noxattrs || o->userxattr || o->auto_unmount);
	assert_false(o->noacl || o->static_nlink || o->ino32);
	assert_true(o->clone_fd);
	assert_int_equal(o->io_uring, UN_IO_URING_AUTO);
	assert_int_equal(o->passthrough, UN_PASSTHROUGH_AUTO);
	assert_int_equal(o->sync, UN_SYNC_AUTO);
	assert_true(o->timeout == UN_TIMEOUT_FOREVER);
	assert_int_equal(o->threads, 0);
	assert_int_equal(o->spin, 50);
	assert_int_equal(o->max_write, UN_DEFAULT_MAX_WRITE);
	un_options_free(o);
	un_options_free(NULL);
}

static void words_and_letters(void **state)
{
	struct un_options *o = GOOD_WORDS("none", "/m", "-o", L, "-f", "-n", "-v", "-w");

	assert_string_equal(o->source, "none");
	assert_string_equal(o->fsname, "none");
	assert_string_equal(o->mountpoint, "/m");
	assert_true(o->foreground);
	assert_false(o->debug || o->read_only);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);

	o = GOOD_WORDS("-o" L, "-r", "-s", "-d", "--", "-o", "-m");
	assert_string_equal(o->source, "-o");
	assert_string_equal(o->mountpoint, "-m");
	assert_true(o->read_only && o->debug && o->foreground);
	assert_int_equal(o->threads, 1);
	un_options_free(o);

	o = GOOD_WORDS("-o", L, "-", "-fdo", "threads=3", "-o", "", "-o", "noexec", "--debug");
	assert_string_equal(o->mountpoint, "-");
	assert_true(o->debug && o->foreground);
	assert_int_equal(o->threads, 3);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);

	o = GOOD_WORDS("", "/m", "-o", L ",fsname=a\\,b,subtype=x", "-r", "-w");
	assert_string_equal(o->fsname, "a,b");
	assert_string_equal(o->subtype, "x");
	assert_false(o->read_only);
	un_options_free(o);

	o = GOOD_WORDS("", "/m", "-o", L);
	assert_string_equal(o->fsname, "fuse-unionfs");
	un_options_free(o);

	BAD_WORDS("no mount point", "-o", L);
	BAD_WORDS("no mount point", "-f");
	BAD_WORDS("empty word", "-o", L, "");
	BAD_WORDS("unexpected argument 'c'", "a", "b", "c", "-o", L);
	BAD_WORDS("'-o' needs", "/m", "-o");
	BAD_WORDS("'-o' needs", "/m", "-fo");
	BAD_WORDS("'-x'", "-x", "/m", "-o", L);
	BAD_WORDS("'-x'", "-fx", "/m", "-o", L);
	BAD_WORDS("'--lowerdir'", "--lowerdir", "/m");
}

static void help_and_version(void **state)
{
	static const char *const words[] = { "-h", "--help", "-fh", "-V", "--version", "-dV" };

	for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
		struct un_options *o = GOOD_WORDS("-o", "writeback,nonsense", words[i], "-x");

		assert_int_equal(o->help, i < 3);
		assert_int_equal(o->version, i >= 3);
		assert_null(o->mountpoint);
		assert_int_equal(o->lowers->len, 0);
		assert_int_equal(o->warnings->len, 0);
		assert_false(o->foreground || o->debug || o->writeback);
		un_options_free(o);
	}
	assert_non_null(strstr(un_usage_help(), "lowerdir+="));
}

static void version_by_name(void **state)
{
	static const char *const ours[] = { "fuse-unionfs", "/usr/bin/fuse-unionfs", "", "other",
					    "/fuse-overlayfs/unionfs" };
	static const char *const theirs[] = { "fuse-overlayfs", "/usr/bin/fuse-overlayfs",
					      "./fuse-overlayfs" };
	const char *text;
	unsigned minor = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(ours); i++) {
		text = un_usage_version(ours[i]);
		assert_true(g_str_has_prefix(text, "fuse-unionfs: version " UN_VERSION "\n"));
		assert_non_null(strstr(text, "GPL-2.0-or-later"));
	}
	for (size_t i = 0; i < G_N_ELEMENTS(theirs); i++) {
		text = un_usage_version(theirs[i]);
		assert_int_equal(sscanf(text, "fuse-overlayfs: version 1.%u\n", &minor), 1);
		assert_true(minor >= 14);
		assert_non_null(strstr(text, "\nfuse-unionfs: version " UN_VERSION "\n"));
	}
}

static void labels(void **state)
{
	struct un_options *o =
		GOOD(U ",context=\"a:b:c:s0:c1,c2\",rootcontext=d\\,e,noatime,context=\"x,y\"");

	assert_string_equal(o->labels[UN_LABEL_CONTEXT], "x,y");
	assert_string_equal(o->labels[UN_LABEL_ROOT], "d,e");
	assert_null(o->labels[UN_LABEL_FS]);
	assert_null(o->labels[UN_LABEL_DEFAULT]);
	assert_string_equal(o->mount_opts->str, "noatime");
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);
	BAD(L ",context=", "context=': the value is empty");
	BAD(L ",context=\"\"", "the value is empty");
	BAD(L ",fscontext", "needs a value");
	BAD(L ",defcontext=a\"b", "a label, without quotes");
}

static void no_effect(void **state)
{
	warned("fast_ino", "'fast_ino' has no effect");
	warned("fast_ino=1", "'fast_ino=1' has no effect");
	warned("plugins=a.so", "'plugins=a.so' has no effect");
	warned("threaded=0", "'threaded=0' has no effect: the number of threads is threads=N");
	warned("kernel_cache=0", "'kernel_cache=0' has no effect");
}

static void upper_and_work(void **state)
{
	struct un_options *o = GOOD(L ",upperdir=a:b\\:c\\,d\\\\e,workdir=w\\x\\");

	assert_string_equal(o->upper, "a:b:c,d\\e");
	assert_string_equal(o->work, "wx");
	un_options_free(o);

	o = GOOD(L ",upperdir=a,upperdir=b,workdir=c,workdir=d");
	assert_string_equal(o->upper, "b");
	assert_string_equal(o->work, "d");
	un_options_free(o);

	/* as in the kernel, quotes are characters of a path */
	o = GOOD(L ",upperdir=\"a\",workdir=\"b");
	assert_string_equal(o->upper, "\"a\"");
	assert_string_equal(o->work, "\"b");
	un_options_free(o);

	o = GOOD(L ",workdir=w");
	assert_null(o->upper);
	assert_null(o->work);
	assert_false(o->read_only);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);

	BAD(L ",upperdir=/u", "upperdir='/u' needs option workdir");
	BAD(L ",upperdir=,workdir=/w", "upperdir=': the path is empty");
	BAD(L ",upperdir=/u,workdir=", "workdir=': the path is empty");
	BAD(L ",upperdir=/u,workdir=\\", "the path is empty");
	BAD(L ",upperdir", "needs a value");
	BAD(L ",workdir", "needs a value");
}

static void sync_modes(void **state)
{
	static const struct {
		const char *opts;
		enum un_sync sync;
	} t[] = {
		{ L ",fsync=0", UN_SYNC_VOLATILE },
		{ L ",fsync=1", UN_SYNC_AUTO },
		{ L ",fsync=auto", UN_SYNC_AUTO },
		{ L ",fsync=strict", UN_SYNC_STRICT },
		{ L ",fsync=volatile", UN_SYNC_VOLATILE },
		{ L ",volatile", UN_SYNC_VOLATILE },
		{ L ",,volatile", UN_SYNC_VOLATILE },
		{ L ",volatile,fsync=1", UN_SYNC_AUTO },
		{ L ",fsync=strict,volatile", UN_SYNC_VOLATILE },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
		struct un_options *o = GOOD(t[i].opts);

		assert_int_equal(o->sync, t[i].sync);
		un_options_free(o);
	}
	BAD(L ",fsync=2", "'fsync=2': the value must be 0, 1, auto, strict or volatile");
	BAD(L ",fsync=", "auto, strict");
	BAD(L ",fsync", "needs a value");
	BAD(L ",volatile=1", "takes no value");
}

static void timeouts(void **state)
{
	static const struct {
		const char *opts;
		double t;
	} t[] = {
		{ L ",timeout=0", 0 },
		{ L ",timeout=0.5", 0.5 },
		{ L ",timeout=1e9", 1e9 },
		{ L ",timeout=1000000000.0", 1e9 },
		{ L ",timeout=3,timeout=4", 4 },
		{ L ",timeout=1e300", 1e9 },
		{ L ",timeout=18446744073709551616", 1e9 },
		{ L ",timeout=1e-300", 0 },
		{ L ",timeout=0.000000001", 1e-9 },
	};
	static const char *const bad[] = { "",    "-1",    "-0", "x",    "1x", "inf",
					   "nan", "1e999", " 1", "0x10", "1 ", "-" };

	for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
		struct un_options *o = GOOD(t[i].opts);

		assert_true(o->timeout == t[i].t);
		un_options_free(o);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *opts = g_strconcat(L ",timeout=", bad[i], NULL);

		BAD(opts, "a number of seconds, 0 or more");
	}
	BAD(L ",timeout", "needs a value");
}

static void booleans(void **state)
{
	static const struct {
		const char *name;
		size_t at;
	} t[] = {
		{ "writeback", offsetof(struct un_options, writeback) },
		{ "noxattrs", offsetof(struct un_options, noxattrs) },
		{ "noacl", offsetof(struct un_options, noacl) },
		{ "static_nlink", offsetof(struct un_options, static_nlink) },
		{ "ino32_t", offsetof(struct un_options, ino32) },
		{ "clone_fd", offsetof(struct un_options, clone_fd) },
	};
	static const char *const values[] = { "=0", "=1", "" };

	for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
		g_autofree char *bad = g_strconcat(L ",", t[i].name, "=2", NULL);
		g_autofree char *bad2 = g_strconcat(L ",", t[i].name, "=", NULL);

		for (size_t v = 0; v < G_N_ELEMENTS(values); v++) {
			g_autofree char *s = g_strconcat(L ",", t[i].name, values[v], NULL);
			struct un_options *o = GOOD(s);

			assert_int_equal(*((bool *)((char *)o + t[i].at)), v > 0);
			un_options_free(o);
		}
		BAD(bad, "=2': the value must be 0 or 1");
		BAD(bad2, "0 or 1");
	}
	BAD(L ",writeback=1,timeout=0", "writeback=1 excludes timeout=0");
	BAD(L ",timeout=0,writeback", "writeback=1 excludes timeout=0");
	BAD(L ",writeback,passthrough=on", "passthrough=on excludes writeback=1");
	BAD(L ",passthrough=maybe", "must be auto, on or off");
	un_options_free(GOOD(L ",passthrough=on,writeback=0"));
	un_options_free(GOOD(L ",passthrough=auto,writeback=1"));
	un_options_free(GOOD(L ",writeback=0,timeout=0"));
	un_options_free(GOOD(L ",writeback,timeout=1"));
}

static void flags(void **state)
{
	struct un_options *o = GOOD(L ",userxattr,auto_unmount,debug,ro");

	assert_true(o->userxattr && o->auto_unmount && o->debug && o->foreground && o->read_only);
	un_options_free(o);
	BAD(L ",userxattr=1", "'userxattr' takes no value");
	BAD(L ",auto_unmount=1", "takes no value");
	BAD(L ",debug=", "takes no value");
	BAD(L ",ro=1", "takes no value");
	BAD(L ",allow_other=1", "takes no value");
	BAD(L ",noatime=1", "takes no value");
	BAD(L ",fsname=", "fsname=': the value is empty");
	BAD(L ",subtype=", "subtype=': the value is empty");
	BAD(L ",subtype", "needs a value");
}

static void threads_are(const char *opts, unsigned want)
{
	struct un_options *o = GOOD(opts);

	assert_int_equal(o->threads, want);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);
}

static void numbers(void **state)
{
	static const char *const bad[] = { "",   "0",  "1025",
					   "-1", "+1", "x",
					   "1x", " 1", "99999999999999999999" };
	struct un_options *o;

	threads_are(L ",threads=1", 1);
	threads_are(L ",threads=1024", 1024);
	threads_are(L ",threads=8,max_threads=3", 3);
	threads_are(L ",max_threads=3,threads=8", 3);
	threads_are(L ",threads=2,max_threads=3", 2);
	threads_are(L ",max_threads=1", 1);
	threads_are(L ",max_threads=100000", 0);
	threads_are(L ",max_idle_threads=10", 0);
	threads_are(L ",max_idle_threads=-1", 0);
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *opts = g_strconcat(L ",threads=", bad[i], NULL);

		BAD(opts, "a whole number from 1 to 1024");
	}
	BAD(L ",threads", "needs a value");
	BAD(L ",max_threads=0", "'max_threads=0': the value must be a whole number");
	BAD(L ",max_threads=x", "a whole number");

	o = GOOD(L ",spin=0");
	assert_int_equal(o->spin, 0);
	un_options_free(o);
	o = GOOD(L ",spin=10000");
	assert_int_equal(o->spin, 10000);
	un_options_free(o);
	BAD(L ",spin=10001", "'spin=10001': the value must be a whole number of microseconds");
	BAD(L ",spin=", "whole number of microseconds");
	BAD(L ",spin", "needs a value");

	o = GOOD(L ",max_write=4096");
	assert_int_equal(o->max_write, 4096);
	un_options_free(o);
	o = GOOD(L ",max_write=1048576");
	assert_int_equal(o->max_write, 1048576);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);
	o = GOOD(L ",max_write=1048577");
	assert_int_equal(o->max_write, 1048576);
	assert_int_equal(o->warnings->len, 1);
	un_options_free(o);
	BAD(L ",max_write=4095", "'max_write=4095': the value must be a number of bytes");
	BAD(L ",max_write=64k", "a number of bytes");
	BAD(L ",max_write=99999999999999999999999", "a number of bytes");

	o = GOOD(L);
	assert_int_equal(o->read_ahead, 0);
	un_options_free(o);
	o = GOOD(L ",read_ahead=1048576");
	assert_int_equal(o->read_ahead, 1048576);
	un_options_free(o);
	BAD(L ",read_ahead=4095",
	    "'read_ahead=4095': the value must be a number of bytes, 4096 to");
	BAD(L ",read_ahead=16777217", "a number of bytes");
	BAD(L ",read_ahead=1m", "a number of bytes");
}

static void mount_options(void **state)
{
	mount_opts_are(false, U, "");
	mount_opts_are(false, L, "ro");
	mount_opts_are(false, U ",ro", "ro");
	mount_opts_are(false, U ",ro,rw", "");
	mount_opts_are(false, U ",allow_other,noatime,nodev", "allow_other,nodev,noatime");
	mount_opts_are(false, U ",noatime,atime,async,sync,dirsync,noexec,exec",
		       "exec,sync,dirsync,atime");
	mount_opts_are(false, U ",sync,async,exec,noexec", "noexec,async");
	mount_opts_are(false, U ",allow_root", "allow_root");
	/* libfuse 3.14 does not know these, and the kernel does not do them for FUSE */
	mount_opts_are(false,
		       U ",diratime,nodiratime,relatime,norelatime,strictatime,"
			 "nostrictatime,lazytime,nolazytime,default_permissions",
		       "");
	mount_opts_are(true, U, "allow_other,suid,dev");
	mount_opts_are(true, L, "ro,allow_other,suid,dev");
	mount_opts_are(true, U ",allow_other,suid,dev", "allow_other,suid,dev");
	mount_opts_are(true, U ",nosuid,nodev", "allow_other,nosuid,nodev");
	mount_opts_are(true, U ",nosuid,suid", "allow_other,suid,dev");
	mount_opts_are(true, U ",allow_root", "allow_root,suid,dev");
	BAD(U ",allow_root,allow_other", "allow_other and allow_root");
}

static void suid_takes_root(void **state)
{
	struct un_options *o = GOOD(U ",suid,dev,exec");

	assert_string_equal(o->mount_opts->str, "exec");
	assert_int_equal(o->warnings->len, 2);
	assert_non_null(strstr(o->warnings->pdata[0], "'suid'"));
	assert_non_null(strstr(o->warnings->pdata[1], "'dev'"));
	un_options_free(o);
	/* mount.fuse3 has mounted, and tells us as well */
	o = GOOD_WORDS("/dev/fd/5", "-o", U ",suid,dev");
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);
}

static void silent(void **state)
{
	static const char *const words[] = {
		"nofail",
		"noauto",
		"auto",
		"user",
		"user=joe",
		"nouser",
		"users",
		"owner",
		"group",
		"_netdev",
		"defaults",
		"x-systemd.automount",
		"x-gvfs-name=a",
		"X-mount.mkdir",
		"comment=abc",
		"uhelper=x",
		"xattr_permissions=0",
		"static_nlink=0",
		"noacl=0",
		"fast_ino=0",
		"squash_to_root=0",
		"threaded=1",
		"override_creds",
		"kernel_cache",
		"ino32_t=0",
		"splice_read=0",
		"splice_read",
		"splice_write",
		"splice_move",
		"private",
		"no_splice_read",
		"nonempty",
		"default_permissions",
		"lazytime",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
		warned(words[i], NULL);
}

static void not_implemented(void **state)
{
	static const char *const words[] = {
		"nooverride_creds",
		"override_creds=off",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
		g_autofree char *says =
			g_strdup_printf("'%s' is not implemented and ignored", words[i]);
		warned(words[i], says);
	}
}

static void unknown_and_empty(void **state)
{
	struct un_options *o;

	warned("nonsense", "ignoring unknown option 'nonsense'");
	warned("nonsense=1", "ignoring unknown option 'nonsense=1'");
	warned("nonsense=a\\,b", "ignoring unknown option 'nonsense=a\\,b'");
	warned("nonsense=\"a,b\"", "ignoring unknown option 'nonsense=\"a,b\"'");
	warned("lowerdi=/x", "ignoring unknown option");
	warned("lowerdirs=/x", "ignoring unknown option");
	warned("=x", "ignoring unknown option '=x'");
	warned("x", "ignoring unknown option 'x'");
	warned("ro,,rw", "empty item");
	warned(",,ro,", "empty item");

	o = GOOD_WORDS("/m", "-o", ",", "-o", L ",");
	assert_int_equal(o->warnings->len, 2);
	un_options_free(o);
}

static void quotes(void **state)
{
	struct un_options *o;

	o = ROOT("context=\"a,b\"," U ",fsname=\"c,d\",noatime");
	assert_string_equal(o->upper, "/u");
	assert_string_equal(o->fsname, "c,d");
	assert_string_equal(o->mount_opts->str, "allow_other,suid,dev,noatime");
	un_options_free(o);
	/* not closed, or closed inside a word: only characters */
	o = GOOD(L ",fsname=\"a,noatime");
	assert_string_equal(o->fsname, "\"a");
	assert_string_equal(o->mount_opts->str, "ro,noatime");
	un_options_free(o);
	o = GOOD(L ",fsname=a\"b,noatime,subtype=c\"d");
	assert_string_equal(o->fsname, "a\"b");
	assert_string_equal(o->subtype, "c\"d");
	un_options_free(o);
	o = GOOD(L ",fsname=\"a\"b,c\",noatime");
	assert_string_equal(o->fsname, "a\"b,c");
	assert_string_equal(o->mount_opts->str, "ro,noatime");
	un_options_free(o);
	o = GOOD(L ",fsname=\"");
	assert_string_equal(o->fsname, "\"");
	un_options_free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),         cmocka_unit_test(words_and_letters),
		cmocka_unit_test(help_and_version), cmocka_unit_test(upper_and_work),
		cmocka_unit_test(sync_modes),       cmocka_unit_test(timeouts),
		cmocka_unit_test(booleans),         cmocka_unit_test(flags),
		cmocka_unit_test(numbers),          cmocka_unit_test(mount_options),
		cmocka_unit_test(suid_takes_root),  cmocka_unit_test(silent),
		cmocka_unit_test(not_implemented),  cmocka_unit_test(unknown_and_empty),
		cmocka_unit_test(quotes),           cmocka_unit_test(version_by_name),
		cmocka_unit_test(labels),           cmocka_unit_test(no_effect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
