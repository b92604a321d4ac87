/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One log for the daemon: standard error in the foreground, syslog in the background. */
#pragma once

#include <stdbool.h>
#include <syslog.h>

/* What messages on stderr begin with, "fuse-unionfs" at first; kept, not copied. Before any thread. */
void un_log_set_name(const char *name);
/* Send messages to syslog from now on (daemon), instead of stderr. */
void un_log_to_syslog(void);
/* Messages up to this level are logged: LOG_INFO (at first) all but LOG_DEBUG. From any thread. */
void un_log_set_level(int level);
int un_log_level(void);
/* "error", "warning", "info", "debug"; -1 for another word. */
int un_log_level_of(const char *word);
const char *un_log_level_word(int level);
bool un_log_debugging(void);

/* One message, one line, no newline at the end. @level: LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG. */
void un_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define un_debug(...)                                                                              \
	do {                                                                                       \
		if (un_log_debugging())                                                            \
			un_log(LOG_DEBUG, __VA_ARGS__);                                            \
	} while (0)
