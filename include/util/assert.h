/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What must hold, whatever layers and callers do. Checked in builds with -Dasserts=true. */
#pragma once

#include <glib.h>

#ifdef UN_ASSERTS_ON
#define UN_ASSERT(expr) g_assert(expr)
#else
/* Compiled, so that it stays true to the code, but not run. */
#define UN_ASSERT(expr) ((void)(0 && (expr)))
#endif
