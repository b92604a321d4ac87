/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_bool to_syslog;
static atomic_bool debugging;

void un_log_to_syslog(void)
{
	openlog("fuse-unionfs", LOG_PID, LOG_DAEMON);
	to_syslog = true;
}

void un_log_set_debug(bool debug)
{
	debugging = debug;
}

bool un_log_debugging(void)
{
	return atomic_load_explicit(&debugging, memory_order_relaxed);
}

void un_log(int level, const char *fmt, ...)
{
	va_list ap;

	if (level == LOG_DEBUG && !un_log_debugging())
		return;
	va_start(ap, fmt);
	if (to_syslog) {
		vsyslog(level, fmt, ap);
	} else {
		char line[1024];

		vsnprintf(line, sizeof(line), fmt, ap);
		fprintf(stderr, "fuse-unionfs: %s%s\n", level == LOG_WARNING ? "warning: " : "",
			line);
	}
	va_end(ap);
}
