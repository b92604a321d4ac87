/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json_i.h"

#include <stdio.h>
#include <string.h>

void un_tool_json_item(JsonBuilder *b, const char *text)
{
	g_autofree char *valid = g_utf8_make_valid(text, -1);

	json_builder_add_string_value(b, valid);
}

void un_tool_json_text(JsonBuilder *b, const char *name, const char *text)
{
	json_builder_set_member_name(b, name);
	un_tool_json_item(b, text);
	if (!g_utf8_validate(text, -1, NULL)) {
		g_autofree char *more = g_strconcat(name, "_base64", NULL);
		g_autofree char *bytes = g_base64_encode((const guchar *)text, strlen(text));

		json_builder_set_member_name(b, more);
		json_builder_add_string_value(b, bytes);
	}
}

void un_tool_json_write(JsonBuilder *b)
{
	g_autoptr(JsonGenerator) gen = json_generator_new();
	g_autofree char *text = NULL;
	JsonNode *root = json_builder_get_root(b);

	json_generator_set_root(gen, root);
	text = json_generator_to_data(gen, NULL);
	fputs(text, stdout);
	json_node_unref(root);
	g_object_unref(b);
}
