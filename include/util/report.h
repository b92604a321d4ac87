/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A report that is told once and comes out in one of two forms: aligned lines for people, or JSON. Sections
 * nest; names are fixed words ([a-z_]), values any bytes.
 *
 *   struct un_report *r = un_report_new(json);
 *   un_report_begin(r, "daemon");
 *   un_report_number(r, "pid", getpid());
 *   un_report_end(r);
 *   char *text = un_report_finish(r);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct un_report;

struct un_report *un_report_new(bool json);
/* The text, with a newline at the end, owned by the caller (g_free). Frees @r; all sections were ended. */
char *un_report_finish(struct un_report *r);

/* A section with members: an object. */
void un_report_begin(struct un_report *r, const char *name);
/* A section with items: an array of objects. */
void un_report_begin_list(struct un_report *r, const char *name);
/*
 * An item of a list, whose members follow. For people it begins with one line of @kind and @value; in JSON
 * these are its first members, @value under the name @name.
 */
void un_report_begin_item(struct un_report *r, const char *kind, const char *name,
			  const char *value);
/* Of the innermost of any of these. */
void un_report_end(struct un_report *r);

void un_report_text(struct un_report *r, const char *name, const char *value);
void un_report_number(struct un_report *r, const char *name, uint64_t value);
void un_report_bool(struct un_report *r, const char *name, bool value);
/* An array of strings, or the words on one line. */
void un_report_words(struct un_report *r, const char *name, const char *const *words, size_t n);
