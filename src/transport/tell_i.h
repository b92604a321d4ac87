/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notifications, by threads that have no part in anything but a device of their own. In a notification the kernel may wait
 * for a lock or a page of a client that waits for an answer of ours, and not even SIGKILL ends that. Were it a thread with
 * the descriptors of all others, a daemon that is killed in that moment would keep the devices open whose requests
 * nobody answers any more, and it, the connection and the callers would hang for ever. As it is they are closed; then
 * the kernel gives up the requests that were read from them (fuse_dev_release()), and the notification ends.
 *
 * Not so over io_uring, whose requests end with the connection only; nor where a device cannot be cloned or descriptors
 * not closed at once (before Linux 5.9): there the caller itself tells the kernel.
 */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

/* Once, before the first notification: @session_fd stays open. Threads are started when they are needed. */
void un_tell_begin(int session_fd);
/* After the last one; waits for those that are under way. */
void un_tell_end(void);
/* As un_device_writev() of a notification to the session, or to @fd; waits until it has been taken. Any thread. */
ssize_t un_tell(int fd, const struct iovec *iov, int count);
