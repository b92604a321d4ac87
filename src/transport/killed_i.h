/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Has a thread been killed that the kernel keeps waiting? For the files of transport/ only. */
#pragma once

#include <stdint.h>

/*
 * The thread @pid, as a request names it: 1 if a fatal signal waits to be delivered to it, 0 if not, -errno if
 * that cannot be known: -ESRCH where it has no number here (@pid 0), or none that /proc shows.
 */
int un_killed(uint32_t pid);
/* The same, told from the line @stat of /proc/PID/stat; -EBADMSG: it is none. */
int un_killed_by_stat(const char *stat);
