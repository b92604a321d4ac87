/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of opening layers stand on. Whatever does not come out as said fails the running test. */
#pragma once

#include "layer/setup.h"

#include <glib.h>
#include <stdbool.h>

/* Every test stands in an empty directory of its own that has lower, upper and work. */
struct fixture {
	char dir[64];
};

int setup_begin(void **state);
int setup_end(void **state);
#define T(test) cmocka_unit_test_setup_teardown(test, setup_begin, setup_end)

/* With these three. */
extern const struct un_setup_request usual;

struct un_layers *must_open(const struct un_setup_request *req);
/* Opening fails with a sentence that begins with @start and ends with the text of @errnum. */
void must_refuse(const struct un_setup_request *req, const char *start, int errnum);

void put(const char *path, const char *text);
void make_dirs(const char *path);
bool exists(const char *path);
unsigned count_entries(const char *path);
unsigned count_fds(void);
/* In a mount namespace of its own the process may mount what it likes. */
void need_mounts(struct fixture *f);

#define REQ(...) (&(const struct un_setup_request){ __VA_ARGS__ })
#define LOWERS(...)                                                                                \
	.lowers = (const char *const[]){ __VA_ARGS__ },                                            \
	.n_lowers = G_N_ELEMENTS(((const char *const[]){ __VA_ARGS__ }))
