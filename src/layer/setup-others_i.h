/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/* A snapshot of who uses what. */
struct un_others;
struct un_others *un_others_new(void);
void un_others_free(struct un_others *o);
/* Where the mount is, as well as that can be told, whose upper or workdir this directory is; NULL: of none. */
char *un_others_at(const struct un_others *o, uint64_t dev, uint64_t ino);
