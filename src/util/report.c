/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/report.h"

#include <glib.h>
#include <inttypes.h>
#include <string.h>

/* For people: where values begin, in a section that is not nested. */
#define COLUMN 18
#define DEPTH 8

struct un_report {
	GString *out;
	bool json;
	unsigned depth;   /* sections begun */
	bool list[DEPTH]; /* by depth: it has items, not members */
	bool any[DEPTH];  /* ... something is in it already */
};

struct un_report *un_report_new(bool json)
{
	struct un_report *r = g_new0(struct un_report, 1);

	r->out = g_string_new(json ? "{" : NULL);
	r->json = json;
	return r;
}

char *un_report_finish(struct un_report *r)
{
	char *text;

	g_assert(r->depth == 0);
	if (r->json)
		g_string_append(r->out, "\n}\n");
	text = g_string_free(r->out, FALSE);
	g_free(r);
	return text;
}

/*
 * A byte that belongs to no character of UTF-8 becomes the lone surrogate U+DC80..DCFF, which is what Python
 * makes of such names, so there the path that was meant comes out; other readers show a replacement.
 */
static void append_json(GString *out, const char *s)
{
	g_string_append_c(out, '"');
	while (*s) {
		const unsigned char c = (unsigned char)*s;
		gunichar u = c < 0x80 ? c : g_utf8_get_char_validated(s, -1);
		const char *next;

		if (u == (gunichar)-1 || u == (gunichar)-2) {
			g_string_append_printf(out, "\\udc%02x", c);
			s++;
			continue;
		}
		next = s + g_utf8_skip[c];
		if (c == '"' || c == '\\')
			g_string_append_printf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			g_string_append_printf(out, "\\u%04x", c);
		else
			g_string_append_len(out, s, next - s);
		s = next;
	}
	g_string_append_c(out, '"');
}

/* A value stays on its line, and moves no cursor: control characters as in /proc/mounts. */
static void append_plain(GString *out, const char *s)
{
	for (; *s; s++) {
		const unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c == 0x7f)
			g_string_append_printf(out, "\\%03o", c);
		else
			g_string_append_c(out, *s);
	}
}

static void indent(struct un_report *r)
{
	for (unsigned i = 0; i < r->depth; i++)
		g_string_append(r->out, "  ");
}

/* In JSON all but the value; for people up to the column of values. */
static void begin_line(struct un_report *r, const char *name)
{
	int width = COLUMN - 2 * (int)r->depth;

	if (!r->json) {
		indent(r);
		g_string_append_printf(r->out, "%-*s ", MAX(width, 0), name);
		return;
	}
	g_string_append(r->out, r->any[r->depth] ? ",\n" : "\n");
	r->any[r->depth] = true;
	r->depth++;
	indent(r);
	r->depth--;
	if (name)
		g_string_append_printf(r->out, "\"%s\": ", name);
}

static void end_line(struct un_report *r)
{
	if (!r->json)
		g_string_append_c(r->out, '\n');
}

static void begin(struct un_report *r, const char *name, bool list)
{
	g_assert(r->depth + 1 < DEPTH);
	if (r->json) {
		begin_line(r, name);
		g_string_append_c(r->out, list ? '[' : '{');
	} else if (name) {
		indent(r);
		g_string_append_printf(r->out, "%s\n", name);
	}
	r->depth++;
	r->list[r->depth] = list;
	r->any[r->depth] = false;
}

void un_report_begin(struct un_report *r, const char *name)
{
	begin(r, name, false);
}

void un_report_begin_list(struct un_report *r, const char *name)
{
	begin(r, name, true);
}

void un_report_begin_item(struct un_report *r, const char *kind, const char *name,
			  const char *value)
{
	g_assert(r->list[r->depth]);
	if (!r->json)
		un_report_text(r, kind, value);
	begin(r, NULL, false);
	if (r->json) {
		un_report_text(r, "kind", kind);
		un_report_text(r, name, value);
	}
}

void un_report_end(struct un_report *r)
{
	bool list = r->list[r->depth], any = r->any[r->depth];

	g_assert(r->depth > 0);
	r->depth--;
	if (!r->json)
		return;
	if (any) {
		g_string_append_c(r->out, '\n');
		r->depth++;
		indent(r);
		r->depth--;
	}
	g_string_append_c(r->out, list ? ']' : '}');
}

void un_report_text(struct un_report *r, const char *name, const char *value)
{
	begin_line(r, name);
	if (r->json)
		append_json(r->out, value);
	else
		append_plain(r->out, value);
	end_line(r);
}

void un_report_number(struct un_report *r, const char *name, uint64_t value)
{
	begin_line(r, name);
	g_string_append_printf(r->out, "%" PRIu64, value);
	end_line(r);
}

void un_report_bool(struct un_report *r, const char *name, bool value)
{
	begin_line(r, name);
	if (r->json)
		g_string_append(r->out, value ? "true" : "false");
	else
		g_string_append(r->out, value ? "yes" : "no");
	end_line(r);
}

void un_report_words(struct un_report *r, const char *name, const char *const *words, size_t n)
{
	/* A line with nothing on it tells a person nothing. */
	if (!r->json && n == 0)
		return;
	begin_line(r, name);
	if (r->json)
		g_string_append_c(r->out, '[');
	for (size_t i = 0; i < n; i++) {
		if (i)
			g_string_append(r->out, r->json ? ", " : " ");
		if (r->json)
			append_json(r->out, words[i]);
		else
			append_plain(r->out, words[i]);
	}
	if (r->json)
		g_string_append_c(r->out, ']');
	end_line(r);
}
