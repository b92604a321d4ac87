/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdarg.h>

#include "options_i.h"

int un_parse_fail(struct un_parse *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!p->err)
		p->err = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	return -EINVAL;
}

void un_parse_warn(struct un_parse *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	g_ptr_array_add(p->o->warnings, g_strdup_vprintf(fmt, ap));
	va_end(ap);
}
