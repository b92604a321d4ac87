/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors of /dev/fuse. For that of the calling thread see un_transport_keep_device(). */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

/*
 * As writev(2), and logged with debug. ENOENT: nobody waits for the answer any more, which is no
 * error.
 */
ssize_t un_device_writev(int fd, const struct iovec *iov, int count);

/* Log an answer with debug; @r: what writing it gave, errno is set if that is negative. */
void un_device_say(const struct iovec *iov, ssize_t r);

/*
 * A new descriptor of the session's connection, from which a worker reads its own requests; or
 * -errno.
 */
int un_device_clone(int session_fd);
