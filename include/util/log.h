/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One log for the daemon: standard error in the foreground, syslog in the background. */
#pragma once

#include <stdbool.h>
#include <syslog.h>

/* Send messages to syslog from now on (daemon), instead of stderr. @debug: LOG_DEBUG ones too. */
void un_log_to_syslog(void);
void un_log_set_debug(bool debug);
bool un_log_debugging(void);

/* One message, one line, no newline at the end. @level: LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG. */
void un_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define un_debug(...)                                                                              \
	do {                                                                                       \
		if (un_log_debugging())                                                            \
			un_log(LOG_DEBUG, __VA_ARGS__);                                            \
	} while (0)
