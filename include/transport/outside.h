/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking our own mount something. No thread of the daemon may do that: once a request has been read the kernel lets who
 * waits for its answer not even be killed, so a daemon that is killed meanwhile keeps itself, the connection and all
 * callers for ever (seen with 2 of 300 mounts that were killed just after they had been made). A child has no part
 * in the connection, and gets ENOTCONN when the daemon is gone.
 */
#pragma once

/*
 * Run @fn in a child of ours that has no descriptor but 0 to 2, and wait for it. Other threads may hold any lock, the
 * heap's too: @fn makes system calls and no more. What it returns, 0 or -errno (down to -254), is returned; so is why it could
 * not be asked: -EAGAIN or -ENOMEM where there can be no child, -ECHILD where that was ended. Any thread; as long as
 * the mount needs to answer.
 */
int un_outside(int (*fn)(const void *arg), const void *arg);
