/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What depends on who asks. If the kernel has not told, /proc does, at the price of reading a file: ask
 * only where the answer matters. Nobody is root, or in a group, by not being known.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct un_cred;

/*
 * Somebody whose ids the layers cannot hold, and who makes nothing. The kernel refuses that by itself; if one
 * does not, the object must not come to belong to the daemon.
 */
bool un_is_nobody(const struct un_cred *cred);
bool un_is_root(const struct un_cred *cred);
/* May @cred give a file of the group set-gid? Root may; others if they are in it, by any way. */
bool un_in_group(const struct un_cred *cred, gid_t gid);
