/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "setup_i.h"

#include <glib.h>

int un_setup_fail(struct un_setup *s, int r, const char *option, const char *path)
{
	g_free(*s->ret_err);
	*s->ret_err = g_strdup_printf("%s: %s: %s", option, path, g_strerror(-r));
	return r;
}

int un_setup_refuse(struct un_setup *s, int r, const char *option, const char *path,
		    const char *fmt, ...)
{
	g_autofree char *reason = NULL;
	va_list ap;

	va_start(ap, fmt);
	reason = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	g_free(*s->ret_err);
	*s->ret_err = g_strdup_printf("%s: %s: %s: %s", option, path, reason, g_strerror(-r));
	return r;
}
