/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the build found (meson.build). */
#pragma once

#ifndef UN_HAVE_LIBATTR
#define UN_HAVE_LIBATTR 0
#endif
