/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool_i.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

void un_tool_put_path(FILE *out, const char *path)
{
	for (; *path; path++) {
		const unsigned char c = (unsigned char)*path;

		if (c < 0x20 || c == 0x7f || c == '\\')
			fprintf(out, "\\%03o", c);
		else
			fputc(c, out);
	}
}

static bool progress_shown;

void un_tool_progress(void *data, uint64_t names)
{
	static gint64 next;
	gint64 now = g_get_monotonic_time();

	(void)data;
	/* Nobody waits for what is done at once. */
	if (!next)
		next = now + G_USEC_PER_SEC;
	if (now < next || !isatty(STDERR_FILENO))
		return;
	next = now + G_USEC_PER_SEC / 4;
	fprintf(stderr, "\r%" PRIu64 " names ...", names);
	progress_shown = true;
}

void un_tool_progress_clear(void)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	progress_shown = false;
}

void un_tool_complain(const char *fmt, ...)
{
	va_list ap;

	un_tool_progress_clear();
	fflush(stdout);
	fputs(UN_TOOL ": ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int un_tool_finish(int status)
{
	un_tool_progress_clear();
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	un_tool_complain("standard output: %s", g_strerror(errno));
	return UN_TOOL_TROUBLE;
}
