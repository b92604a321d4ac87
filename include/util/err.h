/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Results and their handling. Functions that can fail in more than one way return 0 (or a count or
 * a descriptor) or a negative errno; `int r` is only ever such a status.
 */
#pragma once

#include <errno.h>

/* A result nobody can act on, said so in a way that can be searched for. */
#define un_ignore(expr)                                                                            \
	do {                                                                                       \
		__typeof__(expr) un_ignored_ = (expr);                                             \
		(void)un_ignored_;                                                                 \
	} while (0)

/* Result of a system call in the libc convention, as 0/count or -errno. */
#define un_errno(expr)                                                                             \
	({                                                                                         \
		__typeof__(expr) un_r_ = (expr);                                                   \
		un_r_ < 0 ? (__typeof__(expr))-errno : un_r_;                                      \
	})
