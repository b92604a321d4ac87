/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON a piece at a time: a list that is longer than memory is written as it comes. */
#pragma once

#include <json-glib/json-glib.h>

/*
 * A member NAME with the text; and, if that is not UTF-8, as a file name need not be, its bytes in NAME_base64, while
 * NAME has replacement characters.
 */
void un_tool_json_text(JsonBuilder *b, const char *name, const char *text);
/* An item of a list of texts. */
void un_tool_json_item(JsonBuilder *b, const char *text);

/* Writes what was built on one line, and frees the builder. */
void un_tool_json_write(JsonBuilder *b);
