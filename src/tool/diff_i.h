/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The forms in which `diff` says what changed. */
#pragma once

#include "change_i.h"

/* Words for what differs. */
const char *un_tool_kind_word(enum un_tool_kind kind);
const char *un_tool_type_word(const struct un_found *f);
/* The word of the bit @i of enum un_tool_what, or NULL: there are no more. */
const char *un_tool_what_word(unsigned i);

/* One line. */
void un_tool_diff_line(const struct un_tool_change *c);
/* Behind it what differs in the data, if both sides have text, by diff(1). 0; or -errno: it was said. */
int un_tool_diff_content(struct un_layers *layers, const struct un_tool_change *c);

/* JSON: one object for each change, a line each. */
void un_tool_diff_json_begin(void);
void un_tool_diff_json(const struct un_tool_change *c);
/* @counts: by kind. */
void un_tool_diff_json_end(const uint64_t counts[UN_TOOL_N_KINDS]);
