/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/* A snapshot of which mounts use which directories. */
struct un_others;
struct un_others *un_others_new(void);
void un_others_free(struct un_others *o);
/*
 * This directory is the upper or workdir of another mount: where that is, as far as known. NULL: it
 * is not.
 */
char *un_others_at(const struct un_others *o, uint64_t dev, uint64_t ino);
