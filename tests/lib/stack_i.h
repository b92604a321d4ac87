/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the stack share with each other. */
#pragma once

#include "stack.h"

#include <glib.h>

/* The value of an ACL xattr from "UID:PERMS": version 2; user, one named user, group, mask, other. */
size_t stack_make_acl(const char *text, uint8_t ret[64]);
/* As they are if short and printable, else their number and a checksum. */
void stack_show_bytes(GString *out, const char *p, size_t n);
/* For sorting an array of strings. */
int stack_by_string(gconstpointer a, gconstpointer b);
