/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static atomic_bool to_syslog;
static atomic_int level_shown = LOG_INFO;
static const char *own_name = "fuse-unionfs";

void un_log_set_name(const char *name)
{
	own_name = name;
}

void un_log_to_syslog(void)
{
	openlog("fuse-unionfs", LOG_PID, LOG_DAEMON);
	to_syslog = true;
}

void un_log_set_level(int level)
{
	atomic_store_explicit(&level_shown, level, memory_order_relaxed);
}

int un_log_level(void)
{
	return atomic_load_explicit(&level_shown, memory_order_relaxed);
}

bool un_log_debugging(void)
{
	return un_log_level() >= LOG_DEBUG;
}

static const struct {
	const char *word;
	int level;
} levels[] = {
	{ "error", LOG_ERR },
	{ "warning", LOG_WARNING },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
};

int un_log_level_of(const char *word)
{
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(levels[i].word, word) == 0)
			return levels[i].level;
	return -1;
}

const char *un_log_level_word(int level)
{
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (levels[i].level >= level)
			return levels[i].word;
	return "debug";
}

void un_log(int level, const char *fmt, ...)
{
	va_list ap;

	if (level > un_log_level())
		return;
	va_start(ap, fmt);
	if (to_syslog) {
		vsyslog(level, fmt, ap);
	} else {
		char line[1024];

		vsnprintf(line, sizeof(line), fmt, ap);
		fprintf(stderr, "%s: %s%s\n", own_name, level == LOG_WARNING ? "warning: " : "",
			line);
	}
	va_end(ap);
}
