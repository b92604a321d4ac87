/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `ctl` and the daemon say to each other, and the report that status is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/ctl-wire.h"
#include "util/log.h"
#include "util/report.h"

#include <glib.h>
#include <string.h>

static void words_arrive(void **state)
{
	const char *const words[] = { "log", "", "two words\n\xff", NULL };
	g_auto(GStrv) got = NULL;
	struct un_ctl c;

	assert_true(un_ctl_request(&c, words));
	assert_int_equal(c.version, UN_CTL_VERSION);
	assert_true(c.token == 0);
	got = un_ctl_words(&c, sizeof(c));
	assert_non_null(got);
	assert_int_equal(g_strv_length(got), 3);
	for (int i = 0; i < 3; i++)
		assert_string_equal(got[i], words[i]);
}

static void words_that_do_not_fit(void **state)
{
	g_autofree char *fits = g_strnfill(UN_CTL_TEXT - 1, 'x');
	g_autofree char *longer = g_strnfill(UN_CTL_TEXT, 'x');
	const char *const one[] = { fits, NULL }, *const two[] = { fits, "", NULL };
	const char *const more[] = { longer, NULL }, *const none[] = { NULL };
	struct un_ctl c;

	assert_true(un_ctl_request(&c, one));
	assert_false(un_ctl_request(&c, two));
	assert_false(un_ctl_request(&c, more));
	assert_false(un_ctl_request(&c, none));
}

static void malformed_words(void **state)
{
	const char *const words[] = { "status", NULL };
	struct un_ctl c;

	assert_true(un_ctl_request(&c, words));
	assert_null(un_ctl_words(&c, sizeof(c) - 1));
	c.size = 0;
	assert_null(un_ctl_words(&c, sizeof(c)));
	c.size = UN_CTL_TEXT + 1;
	assert_null(un_ctl_words(&c, sizeof(c)));
	c.size = 6; /* without its NUL */
	assert_null(un_ctl_words(&c, sizeof(c)));
}

static void parts(void **state)
{
	const size_t sizes[] = { 0, 1, UN_CTL_TEXT, UN_CTL_TEXT + 1, 5 * UN_CTL_TEXT };

	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		g_autofree char *text = g_malloc(sizes[i] + 1);
		g_autoptr(GString) got = g_string_new(NULL);
		struct un_ctl c;
		size_t calls = 0;
		bool more;

		for (size_t n = 0; n < sizes[i]; n++)
			text[n] = (char)(n * 7 + n / 256);
		do {
			un_ctl_answer(&c, UN_CTL_DONE, 77, text, sizes[i], got->len);
			assert_true(un_ctl_append(&c, got, &more));
			assert_int_equal(c.token, more ? 77 : 0);
			calls++;
		} while (more);
		assert_int_equal(calls, MAX((sizes[i] + UN_CTL_TEXT - 1) / UN_CTL_TEXT, 1));
		assert_int_equal(got->len, sizes[i]);
		assert_memory_equal(got->str, text, sizes[i]);
	}
}

static void parts_that_do_not_follow(void **state)
{
	g_autoptr(GString) got = g_string_new("abc");
	struct un_ctl c;
	bool more;

	un_ctl_answer(&c, UN_CTL_DONE, 1, "abcdef", 6, 2);
	assert_false(un_ctl_append(&c, got, &more));
	un_ctl_answer(&c, UN_CTL_DONE, 1, "abcdef", 6, 3);
	c.size = UN_CTL_TEXT + 1;
	assert_false(un_ctl_append(&c, got, &more));
	c.size = 4;
	assert_false(un_ctl_append(&c, got, &more));
	c.size = 0; /* would be asked for again and again */
	assert_false(un_ctl_append(&c, got, &more));
	c.size = 3;
	assert_true(un_ctl_append(&c, got, &more));
	assert_false(more);
	assert_string_equal(got->str, "abcdef");
}

static char *report(bool json)
{
	static const char *const words[] = { "one", "t\"wo" };
	struct un_report *r = un_report_new(json);

	un_report_begin(r, "daemon");
	un_report_number(r, "pid", 18446744073709551615ull);
	un_report_bool(r, "on", true);
	un_report_end(r);
	un_report_begin_list(r, "layers");
	un_report_begin_item(r, "upper", "path", "/a\n\\\"\xc3\xa4\xff\xc3");
	un_report_words(r, "has", words, 2);
	un_report_words(r, "lacks", NULL, 0);
	un_report_end(r);
	un_report_begin_item(r, "lower", "path", "");
	un_report_end(r);
	un_report_end(r);
	un_report_begin(r, "empty");
	un_report_end(r);
	un_report_text(r, "last", "\x7f");
	return un_report_finish(r);
}

static void report_for_people(void **state)
{
	g_autofree char *text = report(false);

	assert_string_equal(text, "daemon\n"
				  "  pid              18446744073709551615\n"
				  "  on               yes\n"
				  "layers\n"
				  "  upper            /a\\012\\\"\xc3\xa4\xff\xc3\n"
				  "    has            one t\"wo\n"
				  "  lower            \n"
				  "empty\n"
				  "last               \\177\n");
}

static void report_in_json(void **state)
{
	g_autofree char *text = report(true);

	assert_string_equal(text, "{\n"
				  "  \"daemon\": {\n"
				  "    \"pid\": 18446744073709551615,\n"
				  "    \"on\": true\n"
				  "  },\n"
				  "  \"layers\": [\n"
				  "    {\n"
				  "      \"kind\": \"upper\",\n"
				  "      \"path\": \"/a\\u000a\\\\\\\"\xc3\xa4\\udcff\\udcc3\",\n"
				  "      \"has\": [\"one\", \"t\\\"wo\"],\n"
				  "      \"lacks\": []\n"
				  "    },\n"
				  "    {\n"
				  "      \"kind\": \"lower\",\n"
				  "      \"path\": \"\"\n"
				  "    }\n"
				  "  ],\n"
				  "  \"empty\": {},\n"
				  "  \"last\": \"\\u007f\"\n"
				  "}\n");
}

static void levels_of_the_log(void **state)
{
	static const char *const words[] = { "error", "warning", "info", "debug" };

	for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
		assert_string_equal(un_log_level_word(un_log_level_of(words[i])), words[i]);
	assert_int_equal(un_log_level_of("Info"), -1);
	assert_int_equal(un_log_level_of(""), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_arrive),
		cmocka_unit_test(words_that_do_not_fit),
		cmocka_unit_test(malformed_words),
		cmocka_unit_test(parts),
		cmocka_unit_test(parts_that_do_not_follow),
		cmocka_unit_test(report_for_people),
		cmocka_unit_test(report_in_json),
		cmocka_unit_test(levels_of_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
