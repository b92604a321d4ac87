/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities of a thread, see capabilities(7). */
#pragma once

#include <stdbool.h>

/*
 * The calling thread, and those it starts from now on, keep of what they have no more than a server
 * of files needs. Gone is above all CAP_SYS_RESOURCE, with which no quota would bind and blocks
 * reserved for the system would be given to anybody, as the kernel does (fs/overlayfs/super.c,
 * ovl_fill_super()). 0 or -errno; a thread without any keeps none.
 */
int un_caps_reduce(void);

/* Has the calling thread CAP_SYS_ADMIN, and in the initial user namespace, so that the kernel means it? Where /proc is missing: no. */
bool un_caps_rule(void);
