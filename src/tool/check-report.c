/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "check_i.h"

#include "json_i.h"
#include "tool_i.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static const char *const words[UN_TOOL_N_FAULTS] = {
	[UN_TOOL_REDIRECT_INVALID] = "redirect-invalid",
	[UN_TOOL_REDIRECT_DANGLING] = "redirect-dangling",
	[UN_TOOL_REDIRECT_LOOP] = "redirect-loop",
	[UN_TOOL_REDIRECT_TWICE] = "redirect-twice",
	[UN_TOOL_METACOPY_INVALID] = "metacopy-invalid",
	[UN_TOOL_METACOPY_NO_DATA] = "metacopy-no-data",
	[UN_TOOL_METACOPY_SIZE] = "metacopy-size",
	[UN_TOOL_ORIGIN_INVALID] = "origin-invalid",
	[UN_TOOL_ORIGIN_LIES] = "origin-lies",
	[UN_TOOL_IMPURE_MISSING] = "impure-missing",
	[UN_TOOL_WHITEOUT_NOTHING] = "whiteout-of-nothing",
	[UN_TOOL_WHITEOUT_UNANNOUNCED] = "whiteout-unannounced",
	[UN_TOOL_DIALECT] = "other-dialect",
	[UN_TOOL_MARK_UNKNOWN] = "mark-unknown",
	[UN_TOOL_UNREACHABLE] = "unreachable",
	[UN_TOOL_WORK_LEFTOVER] = "work-leftover",
	[UN_TOOL_WORK_VOLATILE] = "work-volatile",
	[UN_TOOL_WORK_INCOMPAT] = "work-incompat",
	[UN_TOOL_INDEX_FOREIGN] = "index-foreign",
	[UN_TOOL_INDEX_NAME] = "index-name",
	[UN_TOOL_INDEX_LEFTOVER] = "index-leftover",
	[UN_TOOL_INDEX_ORPHAN] = "index-orphan",
	[UN_TOOL_LINK_COUNT] = "link-count",
};

static const char *outcome(const struct un_tool_checker *c, const struct un_tool_finding *f, int r)
{
	if (f->mend == UN_TOOL_LEAVE)
		return NULL;
	if (!c->repair)
		return "can be mended";
	return r < 0 ? "could not be mended" : "mended";
}

static void put_json(const struct un_tool_checker *c, const struct un_tool_finding *f,
		     const char *text, const char *state, int r)
{
	JsonBuilder *b = json_builder_new();

	json_builder_begin_object(b);
	un_tool_json_text(b, "kind", words[f->fault]);
	un_tool_json_text(b, "place", f->place);
	un_tool_json_text(b, "path", f->path);
	un_tool_json_text(b, "text", text);
	json_builder_set_member_name(b, "mendable");
	json_builder_add_boolean_value(b, f->mend != UN_TOOL_LEAVE);
	json_builder_set_member_name(b, "mended");
	json_builder_add_boolean_value(b, state && c->repair && r == 0);
	if (r < 0)
		un_tool_json_text(b, "error", g_strerror(-r));
	json_builder_end_object(b);
	fputs(c->found > 1 ? ",\n" : "\n", stdout);
	un_tool_json_write(b);
}

static void put_line(const struct un_tool_finding *f, const char *text, const char *state, int r)
{
	printf("%s: %s/", words[f->fault], f->place);
	un_tool_put_path(stdout, strcmp(f->path, ".") == 0 ? "" : f->path);
	fputs(": ", stdout);
	un_tool_put_path(stdout, text);
	if (state)
		printf(" (%s%s%s)", state, r < 0 ? ": " : "", r < 0 ? g_strerror(-r) : "");
	putchar('\n');
}

void un_tool_find(struct un_tool_checker *c, const struct un_tool_finding *f, const char *fmt, ...)
{
	g_autofree char *text = NULL;
	const char *state;
	va_list ap;
	int r = 0;

	va_start(ap, fmt);
	text = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	c->found++;
	if (c->repair && f->mend != UN_TOOL_LEAVE) {
		r = un_tool_mend(f);
		c->mended += r == 0;
	}
	state = outcome(c, f, r);
	un_tool_progress_clear();
	if (c->json)
		put_json(c, f, text, state, r);
	else
		put_line(f, text, state, r);
}

void un_tool_check_trouble(struct un_tool_checker *c, const char *place, const char *path, int err)
{
	c->trouble = true;
	un_tool_complain("%s/%s: %s", place, path, g_strerror(-err));
}

void un_tool_check_begin(const struct un_tool_checker *c)
{
	if (c->json)
		fputs("{\"findings\":[", stdout);
}

void un_tool_check_end(const struct un_tool_checker *c)
{
	un_tool_progress_clear();
	if (c->json)
		printf("\n],\n\"found\":%" PRIu64 ",\"mended\":%" PRIu64 "}\n", c->found,
		       c->mended);
	else if (c->found)
		printf("%" PRIu64 " found, %" PRIu64 " mended\n", c->found, c->mended);
}
