/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "command-line.h"

/* The words after the program's name, ended by NULL. */
static struct un_options *parse_words(bool is_root, char **ret_err, const char *const *words)
{
	char *argv[16] = { g_strdup("fuse-unionfs") };
	struct un_options *o;
	int argc = 1;

	while (*words)
		argv[argc++] = g_strdup(*words++);
	o = un_options_parse(argc, argv, is_root, ret_err);
	for (int i = 0; i < argc; i++)
		g_free(argv[i]);
	return o;
}

struct un_options *good_words(bool is_root, const char *const *words)
{
	char *err = NULL;
	struct un_options *o = parse_words(is_root, &err, words);

	if (!o)
		print_error("refused: %s\n", err);
	assert_non_null(o);
	assert_null(err);
	return o;
}

void bad_words(const char *says, const char *const *words)
{
	char *err = NULL;
	struct un_options *o = parse_words(false, &err, words);

	assert_null(o);
	assert_non_null(err);
	if (!strstr(err, says))
		fail_msg("'%s' does not say '%s'", err, says);
	assert_null(strchr(err, '\n'));
	g_free(err);
}

void list_is(const GPtrArray *list, const char *const *want)
{
	guint n = 0;

	for (; want[n]; n++) {
		assert_true(n < list->len);
		assert_string_equal(list->pdata[n], want[n]);
	}
	assert_int_equal(list->len, n);
}

void lowers_are(const char *opts, const char *const *want)
{
	struct un_options *o = GOOD(opts);

	list_is(o->lowers, want);
	assert_int_equal(o->datadirs->len, 0);
	assert_int_equal(o->warnings->len, 0);
	un_options_free(o);
}

void warned(const char *opts, const char *says)
{
	g_autofree char *all = g_strconcat(L ",", opts, NULL);
	struct un_options *o = ROOT(all);

	if (o->warnings->len != (says ? 1 : 0))
		fail_msg("'%s': %u warnings, the first: %s", opts, o->warnings->len,
			 o->warnings->len ? (char *)o->warnings->pdata[0] : "-");
	if (says && !strstr(o->warnings->pdata[0], says))
		fail_msg("'%s' does not say '%s'", (char *)o->warnings->pdata[0], says);
	un_options_free(o);
}
