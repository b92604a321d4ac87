/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command lines to be taken or refused. GOOD(), ROOT() and GOOD_WORDS() give the options, to be freed,
 * and fail the running test if there are none; BAD() and BAD_WORDS() fail it if there are, or if the
 * sentence does not contain @says.
 */
#pragma once

#include "cli/options.h"

#define L "lowerdir=/l"
#define U L ",upperdir=/u,workdir=/w"

/* The words after the program's name, ended by NULL. */
struct un_options *good_words(bool is_root, const char *const *words);
void bad_words(const char *says, const char *const *words);

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define GOOD_WORDS(...) good_words(false, WORDS(__VA_ARGS__))
#define GOOD(opts) good_words(false, WORDS("/m", "-o", opts))
#define ROOT(opts) good_words(true, WORDS("/m", "-o", opts))
#define BAD_WORDS(says, ...) bad_words(says, WORDS(__VA_ARGS__))
#define BAD(opts, says) bad_words(says, WORDS("/m", "-o", opts))

/* The list is exactly these words, ended by NULL. */
void list_is(const GPtrArray *list, const char *const *want);
/* @opts give these lowers, no data-only layers and no warning. */
void lowers_are(const char *opts, const char *const *want);

#define LOWERS(opts, ...) lowers_are(opts, WORDS(__VA_ARGS__))

/* L and @opts, as root. @says: part of the only warning, or NULL for none. */
void warned(const char *opts, const char *says);
