/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diff_i.h"

#include "json_i.h"

#include <stdio.h>

static bool any;

void un_tool_diff_json_begin(void)
{
	fputs("{\"changes\":[", stdout);
}

static void put_number(JsonBuilder *b, const char *name, uint64_t value)
{
	json_builder_set_member_name(b, name);
	json_builder_add_int_value(b, (gint64)value);
}

static void put_side(JsonBuilder *b, const char *side, const struct un_found *f)
{
	const struct statx *st;
	char mode[8];

	if (!f)
		return;
	st = &f->hits[0].st;
	g_snprintf(mode, sizeof(mode), "%04o", st->stx_mode & 07777);
	json_builder_set_member_name(b, side);
	json_builder_begin_object(b);
	un_tool_json_text(b, "type", un_tool_type_word(f));
	un_tool_json_text(b, "mode", mode);
	put_number(b, "uid", st->stx_uid);
	put_number(b, "gid", st->stx_gid);
	if (S_ISREG(st->stx_mode))
		put_number(b, "size", st->stx_size);
	json_builder_end_object(b);
}

static void put_xattrs(JsonBuilder *b, const char *name, const GPtrArray *xattrs, char sign)
{
	json_builder_set_member_name(b, name);
	json_builder_begin_array(b);
	for (unsigned i = 0; i < xattrs->len; i++) {
		const char *x = xattrs->pdata[i];

		if (x[0] == sign)
			un_tool_json_item(b, x + 1);
	}
	json_builder_end_array(b);
}

static void put_what(JsonBuilder *b, const struct un_tool_change *c)
{
	const char *word;

	json_builder_set_member_name(b, "changed");
	json_builder_begin_array(b);
	for (unsigned i = 0; (word = un_tool_what_word(i)); i++)
		if (c->what & (1u << i))
			un_tool_json_item(b, word);
	json_builder_end_array(b);
	if (!c->xattrs)
		return;
	json_builder_set_member_name(b, "xattrs");
	json_builder_begin_object(b);
	put_xattrs(b, "added", c->xattrs, '+');
	put_xattrs(b, "removed", c->xattrs, '-');
	put_xattrs(b, "changed", c->xattrs, '~');
	json_builder_end_object(b);
}

void un_tool_diff_json(const struct un_tool_change *c)
{
	JsonBuilder *b = json_builder_new();

	json_builder_begin_object(b);
	un_tool_json_text(b, "kind", un_tool_kind_word(c->kind));
	un_tool_json_text(b, "path", c->path);
	if (c->from)
		un_tool_json_text(b, "from", c->from);
	put_side(b, "was", c->was);
	put_side(b, "now", c->now);
	if (c->now && c->was && c->kind != UN_TOOL_TYPE)
		put_what(b, c);
	json_builder_end_object(b);
	fputs(any ? ",\n" : "\n", stdout);
	any = true;
	un_tool_json_write(b);
}

void un_tool_diff_json_end(const uint64_t counts[UN_TOOL_N_KINDS])
{
	JsonBuilder *b = json_builder_new();

	json_builder_begin_object(b);
	for (unsigned k = 0; k < UN_TOOL_N_KINDS; k++)
		if (k != UN_TOOL_SAME)
			put_number(b, un_tool_kind_word(k), counts[k]);
	json_builder_end_object(b);
	fputs("\n],\n\"counts\":", stdout);
	un_tool_json_write(b);
	fputs("}\n", stdout);
	any = false;
}
