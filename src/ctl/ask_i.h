/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>

struct un_ctl_result {
	int status;    /* to exit with */
	GString *text; /* 0: for standard output; else one sentence */
};

/* Ask the daemon whose mount @path is; @words: the command and its arguments, NULL at the end. */
void un_ctl_ask(const char *path, const char *const *words, struct un_ctl_result *ret);
