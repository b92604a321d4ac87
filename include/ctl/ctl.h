/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `fuse-unionfs ctl MOUNTPOINT COMMAND [ARG...]`: asks the daemon of a mount. */
#pragma once

#include <stdbool.h>

/*
 * Is it that, and not a mount whose SOURCE is "ctl" (mount.fuse3 runs `PROG SOURCE MOUNTPOINT -o LIST`)?
 */
bool un_ctl_asked(int argc, char **argv);

/* The exit status: 0, 1 for a failure, 2 for a wrong command line. Says all that is to be said. */
int un_ctl_main(int argc, char **argv);
