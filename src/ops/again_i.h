/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that are told to the kernel more than once (notify.c). Who asks again for a name that he knows takes no lock of
 * the directory's in the kernel. He may have an older answer already, and not have run since: then he makes it good for
 * as long as it says, after the kernel was told that it is not. Nothing says when he has run. So a name in a directory in
 * which somebody looks things up is told at once, and again, later and later.
 *
 * Only one thread uses it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct un_again;

struct un_again *un_again_new(void);
/* Accepts NULL. */
void un_again_free(struct un_again *a);
/* @name in the directory @dir was told just now. */
void un_again_add(struct un_again *a, uint64_t dir, const char *name);
/* Milliseconds until there is something to tell; -1: there is nothing. */
int un_again_wait(struct un_again *a);
/* @fn for each whose time has come; @dir 0: they were too many to be remembered, so it is for all names. */
void un_again_tell(struct un_again *a, bool (*fn)(void *data, uint64_t dir, const char *name),
		   void *data);
/* A mark for un_again_is_told(): all that was added so far was told once more. */
uint64_t un_again_mark(const struct un_again *a);
bool un_again_is_told(struct un_again *a, uint64_t mark);
