/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions about the caller of a request. Where the kernel has not told the caller's ids, /proc
 * tells them, at the price of reading a file: ask only where the answer matters. A caller who
 * cannot be found out about is not root, and in no group.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct un_cred;

/*
 * Is the caller one whose ids the layers cannot hold? Such a caller makes nothing. The kernel
 * refuses that by itself; if one does not, the new object must not come to belong to the daemon.
 */
bool un_is_nobody(const struct un_cred *cred);
/* Is it this user, by the id that counts for files? */
bool un_is_user(const struct un_cred *cred, uid_t uid);
bool un_is_root(const struct un_cred *cred);
/* May @cred give a file of the group set-gid? Root may; others if they are in it, by any way. */
bool un_in_group(const struct un_cred *cred, gid_t gid);
