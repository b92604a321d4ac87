/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of layers and of the format on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "command-line.h"

static void lowerdir(void **state)
{
	LOWERS("lowerdir=/a", "/a");
	LOWERS("lowerdir=a:../b:/c", "a", "../b", "/c");
	LOWERS("lowerdir=a\\:b:c\\,d:e\\\\f:\\g", "a:b", "c,d", "e\\f", "g");
	LOWERS("lowerdir=a\\\\:b", "a\\", "b");
	LOWERS("lowerdir=a\\", "a");
	LOWERS("lowerdir=a=b\"c", "a=b\"c");
	LOWERS("lowerdir=a,lowerdir=b:c", "b", "c");
	LOWERS("lowerdir=a,lowerdir=,lowerdir=b", "b");
	/* A quote that opens nothing swallows nothing. */
	LOWERS("lowerdir=\"a,ro", "\"a");

	BAD("lowerdir=", "no lower directory");
	BAD("lowerdir=a,lowerdir=", "no lower directory");
	BAD("ro", "no lower directory");
	BAD("lowerdir", "needs a value");
	BAD("lowerdir=:a", "lowerdir=:a': a path is empty");
	BAD("lowerdir=a:", "lowerdir=a:': a path is empty");
	BAD("lowerdir=:", "a path is empty");
	BAD("lowerdir=a:\\", "a path is empty");
	BAD("lowerdir=\\", "a path is empty");
	BAD("lowerdir=:a,lowerdir=b", "a path is empty");
}

static void lowerdir_plus(void **state)
{
	LOWERS("lowerdir+=/a,lowerdir+=b:c\\:d\\\\e\\,f", "/a", "b:c\\:d\\\\e,f");
	LOWERS("lowerdir+=a,lowerdir=b", "b");
	LOWERS("lowerdir=a,lowerdir=,lowerdir+=b", "b");
	BAD("lowerdir+=a,lowerdir=", "no lower directory");
	BAD("lowerdir=a,lowerdir+=b", "lowerdir+=b': cannot add");
	BAD("lowerdir+=a,lowerdir=b,lowerdir+=c", "cannot add");
	BAD("lowerdir+=", "path is empty");
	BAD("lowerdir+", "needs a value");
}

static void layers_are(const char *opts, const char *const *lowers, const char *const *datadirs)
{
	struct un_options *o = GOOD(opts);

	list_is(o->lowers, lowers);
	list_is(o->datadirs, datadirs);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);
}

#define LAYERS(opts, lowers, ...) layers_are(opts, lowers, WORDS(__VA_ARGS__))

static void data_only(void **state)
{
	LAYERS("lowerdir=a::b", WORDS("a"), "b");
	LAYERS("lowerdir=a:b::../c::/d", WORDS("a", "b"), "../c", "/d");
	LAYERS("lowerdir=a\\:\\:b::c\\:\\:d\\,e::f\\\\", WORDS("a::b"), "c::d,e", "f\\");
	LAYERS("lowerdir=a::b\\", WORDS("a"), "b");
	LAYERS("lowerdir=a::b,userxattr,metacopy=off", WORDS("a"), "b");
	LOWERS("lowerdir=a::b,lowerdir=c", "c");
	LAYERS("lowerdir=a::b,lowerdir=,lowerdir=c::d", WORDS("c"), "d");
	LOWERS("lowerdir=a::b,lowerdir=,lowerdir+=c", "c");

	BAD("lowerdir=a::b:c", "a::b:c': a single ':' after '::'");
	BAD("lowerdir=a::b:", "a single ':' after '::'");
	BAD("lowerdir=::b", "::b': layers for data only, those after '::', need a lower");
	BAD("lowerdir=::", "need a lower");
	BAD("lowerdir=:::b", "need a lower");
	BAD("lowerdir=a:::b", "a:::b': a path is empty");
	BAD("lowerdir=a::::b", "a path is empty");
	BAD("lowerdir=a::", "a path is empty");
	BAD("lowerdir=a::b::", "a path is empty");
	BAD("lowerdir=a::\\", "a path is empty");
	BAD("lowerdir=:a::b", "a path is empty");
	BAD("lowerdir=a::b,lowerdir=", "no lower directory");
}

static void datadir_plus(void **state)
{
	LAYERS("lowerdir+=a,datadir+=b", WORDS("a"), "b");
	LAYERS("lowerdir+=a,lowerdir+=b,datadir+=c::d\\:e,datadir+=/f\\,g", WORDS("a", "b"),
	       "c::d\\:e", "/f,g");
	LAYERS("lowerdir=a,lowerdir=,lowerdir+=b,datadir+=c", WORDS("b"), "c");
	LOWERS("lowerdir+=a,datadir+=b,lowerdir=c", "c");
	LOWERS("lowerdir+=a,datadir+=b,lowerdir=,lowerdir+=c", "c");

	BAD("lowerdir+=a,datadir+=b,lowerdir+=c", "lowerdir+=c': cannot follow datadir+=");
	BAD("datadir+=b,lowerdir+=a", "cannot follow datadir+=");
	BAD("lowerdir=a,datadir+=b", "datadir+=b': cannot add to a list given with lowerdir=");
	BAD("lowerdir=a::b,datadir+=c", "cannot add");
	BAD("datadir+=b", "need a lower directory above them");
	BAD("datadir+=", "datadir+=': the path is empty");
	BAD("datadir+", "'datadir+' needs a value");
}

static void number_of_lowers(void **state)
{
	for (int n = UN_MAX_LOWERS; n <= UN_MAX_LOWERS + 1; n++) {
		for (int plus = 0; plus < 2; plus++) {
			g_autoptr(GString) s = g_string_new(plus ? "lowerdir+=/0" : "lowerdir=/0");

			for (int i = 1; i < n; i++)
				g_string_append_printf(s, "%s/%d", plus ? ",lowerdir+=" : ":", i);
			if (n <= UN_MAX_LOWERS) {
				struct un_options *o = GOOD(s->str);

				assert_int_equal(o->lowers->len, n);
				assert_string_equal(o->lowers->pdata[n - 1], "/499");
				un_options_free(o);
			} else {
				BAD(s->str, "501 lower directories given, at most 500");
			}
		}
	}
}

static void number_of_data_layers(void **state)
{
	g_autoptr(GString) s = g_string_new("lowerdir=/0:/1");
	struct un_options *o;

	for (int i = 2; i < UN_MAX_LOWERS; i++)
		g_string_append_printf(s, "::/%d", i);
	o = GOOD(s->str);
	assert_int_equal(o->lowers->len, 2);
	assert_int_equal(o->datadirs->len, UN_MAX_LOWERS - 2);
	assert_string_equal(o->datadirs->pdata[UN_MAX_LOWERS - 3], "/499");
	un_options_free(o);
	g_string_append(s, "::/500");
	BAD(s->str, "501 lower directories given, at most 500");
}

static void format_defaults(void **state)
{
	static const char *const opts[] = { U, U ",userxattr", U ",ro" };

	for (size_t i = 0; i < G_N_ELEMENTS(opts); i++) {
		struct un_options *o = GOOD(opts[i]);

		assert_int_equal(o->redirect_dir, UN_REDIRECT_ON);
		assert_true(o->metacopy && o->index);
		assert_false(o->metacopy_set || o->index_set);
		assert_int_equal(o->xino, UN_XINO_AUTO);
		assert_int_equal(o->verity, UN_VERITY_OFF);
		assert_int_equal(o->uuid, UN_UUID_AUTO);
		assert_int_equal(o->datadirs->len, 0);
		assert_int_equal(o->warnings->len, 0);
		un_options_free(o);
	}
}

struct value {
	const char *opt; /* NAME=VALUE */
	size_t at;
	unsigned want;
};

#define V(opt, field, want)                                                                        \
	{                                                                                          \
		opt, offsetof(struct un_options, field), want                                      \
	}

static void enums(void **state)
{
	static const struct value t[] = {
		V("redirect_dir=on", redirect_dir, UN_REDIRECT_ON),
		V("redirect_dir=follow", redirect_dir, UN_REDIRECT_FOLLOW),
		V("redirect_dir=nofollow", redirect_dir, UN_REDIRECT_NOFOLLOW),
		V("redirect_dir=off", redirect_dir, UN_REDIRECT_OFF),
		V("redirect_dir=off,redirect_dir=on", redirect_dir, UN_REDIRECT_ON),
		V("xino=on", xino, UN_XINO_ON),
		V("xino=off", xino, UN_XINO_OFF),
		V("xino=auto", xino, UN_XINO_AUTO),
		V("xino=on,xino=auto", xino, UN_XINO_AUTO),
		V("verity=on", verity, UN_VERITY_ON),
		V("verity=off", verity, UN_VERITY_OFF),
		V("verity=require", verity, UN_VERITY_REQUIRE),
		V("verity=require,verity=off", verity, UN_VERITY_OFF),
		V("uuid=on", uuid, UN_UUID_ON),
		V("uuid=off", uuid, UN_UUID_OFF),
		V("uuid=null", uuid, UN_UUID_NULL),
		V("uuid=auto", uuid, UN_UUID_AUTO),
		V("uuid=null,uuid=auto", uuid, UN_UUID_AUTO),
	};

	for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
		g_autofree char *opts = g_strconcat(U ",userxattr,", t[i].opt, NULL);
		struct un_options *o = GOOD(opts);

		if (*(unsigned *)((char *)o + t[i].at) != t[i].want)
			fail_msg("%s: %u", t[i].opt, *(unsigned *)((char *)o + t[i].at));
		assert_false(o->metacopy_set || o->index_set);
		assert_int_equal(o->warnings->len, 0);
		un_options_free(o);
	}
}

static void on_and_off(void **state)
{
	struct un_options *o = GOOD(U ",metacopy=on,index=on,userxattr");

	assert_true(o->metacopy && o->metacopy_set && o->index && o->index_set);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);

	o = GOOD(U ",metacopy=on,index=on,metacopy=off,index=off");
	assert_false(o->metacopy || o->index);
	assert_true(o->metacopy_set && o->index_set);
	un_options_free(o);

	o = GOOD(U ",index=\"off\"");
	assert_false(o->index);
	assert_false(o->metacopy_set);
	un_options_free(o);
}

static void bad_values(void **state)
{
	static const struct {
		const char *name, *values;
	} t[] = {
		{ "redirect_dir", "on, follow, nofollow or off" },
		{ "metacopy", "on or off" },
		{ "index", "on or off" },
		{ "xino", "auto, on or off" },
		{ "verity", "off, on or require" },
		{ "uuid", "auto, on, off or null" },
		{ "nfs_export", "on or off" },
	};
	static const char *const bad[] = { "", "1", "0", "maybe", "ON", "on ", "on|off", "|" };

	for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
		g_autofree char *bare = g_strconcat(U ",", t[i].name, NULL);
		g_autofree char *needs =
			g_strdup_printf("'%s' needs a value: %s", t[i].name, t[i].values);

		BAD(bare, needs);
		for (size_t k = 0; k < G_N_ELEMENTS(bad); k++) {
			g_autofree char *opts = g_strconcat(bare, "=", bad[k], NULL);
			g_autofree char *says = g_strdup_printf("'%s=%s': the value must be %s",
								t[i].name, bad[k], t[i].values);

			BAD(opts, says);
		}
	}
	/* A bad value is one even if a good one follows. */
	BAD(U ",xino=x,xino=on", "'xino=x'");
}

/* 1 or 0: metacopy after @opts; and it is known who asked for it. */
static void metacopy_is(int want, const char *opts)
{
	struct un_options *o = GOOD(opts);

	if (o->metacopy != want)
		fail_msg("'%s': metacopy=%d", opts, o->metacopy);
	assert_int_equal(o->metacopy_set, strstr(opts, "metacopy=") != NULL);
	assert_int_equal(o->warnings->len, strstr(opts, "nfs_export=on") != NULL);
	un_options_free(o);
}

static void metacopy_and_redirect(void **state)
{
	static const char *const not_on[] = { "off", "follow", "nofollow" };

	metacopy_is(1, U ",redirect_dir=on");
	metacopy_is(1, U ",redirect_dir=on,metacopy=on");
	metacopy_is(1, U ",redirect_dir=off,metacopy=on,redirect_dir=on");
	for (size_t i = 0; i < G_N_ELEMENTS(not_on); i++) {
		g_autofree char *redirect = g_strconcat(U ",redirect_dir=", not_on[i], NULL);
		g_autofree char *off = g_strconcat(redirect, ",metacopy=off", NULL);
		g_autofree char *on = g_strconcat(redirect, ",metacopy=on", NULL);
		g_autofree char *before =
			g_strconcat(U ",metacopy=on,redirect_dir=", not_on[i], NULL);
		g_autofree char *says =
			g_strconcat("metacopy=on excludes redirect_dir=", not_on[i], ":", NULL);

		metacopy_is(0, redirect);
		metacopy_is(0, off);
		BAD(on, says);
		BAD(before, says);
	}
	/* nothing is written without an upper; what is there may be read */
	metacopy_is(1, L ",redirect_dir=follow");
	metacopy_is(1, L ",redirect_dir=off");
	metacopy_is(0, L ",redirect_dir=nofollow");
	metacopy_is(1, L ",redirect_dir=follow,metacopy=on");
	metacopy_is(0, L ",redirect_dir=follow,metacopy=off");
	BAD(L ",redirect_dir=off,metacopy=on", "excludes redirect_dir=off");
	BAD(L ",redirect_dir=nofollow,metacopy=on", "excludes redirect_dir=nofollow");
}

static void verity_and_metacopy(void **state)
{
	metacopy_is(1, U ",verity=on");
	metacopy_is(0, U ",verity=on,metacopy=off");
	metacopy_is(0, U ",verity=on,redirect_dir=off");
	metacopy_is(1, U ",verity=require,metacopy=on");
	metacopy_is(1, L ",verity=require,redirect_dir=follow");
	metacopy_is(0, U ",verity=require,metacopy=off,verity=on");
	BAD(U ",verity=require,metacopy=off", "verity=require excludes metacopy=off:");
	BAD(L ",metacopy=off,verity=require", "verity=require excludes metacopy=off:");
	BAD(U ",verity=require,redirect_dir=off", "verity=require excludes redirect_dir=off:");
}

static void nfs_export(void **state)
{
	warned("nfs_export=off", NULL);
	warned("nfs_export=on,nfs_export=off", NULL);
	warned("nfs_export=on", "'nfs_export=on': file handles through the mount are not offered");
	warned("nfs_export=on,metacopy=on", "not offered");
	metacopy_is(0, U ",nfs_export=on,index=on");
	metacopy_is(0, U ",nfs_export=on,metacopy=off");
	metacopy_is(1, U ",nfs_export=on,verity=on");
	metacopy_is(1, U ",nfs_export=off,index=off,metacopy=on");
	metacopy_is(1, L ",nfs_export=on,index=off");
	BAD(U ",nfs_export=on,index=off", "nfs_export=on excludes index=off");
	BAD(U ",metacopy=on,nfs_export=on", "nfs_export=on excludes metacopy=on");
	BAD(L ",index=off,nfs_export=on,redirect_dir=nofollow", "excludes index=off");
}

static void without_upper(void **state)
{
	struct un_options *o = GOOD(L ",index=on,uuid=on,xino=on");

	assert_false(o->index || o->index_set);
	assert_int_equal(o->uuid, UN_UUID_NULL);
	assert_int_equal(o->xino, UN_XINO_ON);
	assert_int_equal(o->redirect_dir, UN_REDIRECT_ON);
	assert_true(o->metacopy);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);
}

static void owners(void **state)
{
	struct un_options *o = GOOD("lowerdir=/l,uidmapping=:0:1000:5000,gidmapping=0:1:7001:7001:0:1");

	assert_int_equal(o->uidmap.n, 1);
	assert_int_equal(o->uidmap.v[0].shown, 1000);
	assert_int_equal(o->gidmap.n, 2);
	assert_int_equal(o->gidmap.v[1].stored, 7001);
	assert_false(o->squash_uid_set || o->squash_gid_set);
	assert_int_equal(o->xattr_permissions, UN_OVERRIDE_NONE);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);

	/* The last one counts; the more special one wins whatever the order. */
	o = GOOD("lowerdir=/l,uidmapping=0:1:2,uidmapping=,squash_to_uid=5,squash_to_root,"
		 "xattr_permissions=2");
	assert_int_equal(o->uidmap.n, 0);
	assert_true(o->squash_uid_set && o->squash_gid_set);
	assert_int_equal(o->squash_uid, 5);
	assert_int_equal(o->squash_gid, 0);
	assert_int_equal(o->xattr_permissions, UN_OVERRIDE_USER);
	un_options_free(o);

	BAD("lowerdir=/l,uidmapping", "needs a value");
	BAD("lowerdir=/l,uidmapping=1", "'uidmapping=1': the value must be triples");
	BAD("lowerdir=/l,gidmapping=0:0:2:1:5:1", "overlap");
	BAD("lowerdir=/l,squash_to_uid=-1", "squash_to_uid=-1': the value must be an id");
	BAD("lowerdir=/l,xattr_permissions", "needs a value: 0, 1 or 2");
	BAD("lowerdir=/l,xattr_permissions=3", "must be 0, 1 or 2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lowerdir),
		cmocka_unit_test(lowerdir_plus),
		cmocka_unit_test(data_only),
		cmocka_unit_test(datadir_plus),
		cmocka_unit_test(number_of_lowers),
		cmocka_unit_test(number_of_data_layers),
		cmocka_unit_test(format_defaults),
		cmocka_unit_test(enums),
		cmocka_unit_test(on_and_off),
		cmocka_unit_test(bad_values),
		cmocka_unit_test(metacopy_and_redirect),
		cmocka_unit_test(verity_and_metacopy),
		cmocka_unit_test(nfs_export),
		cmocka_unit_test(without_upper),
		cmocka_unit_test(owners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
