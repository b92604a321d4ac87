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

/*
 * A new descriptor of the session's connection, from which a worker reads its own requests; or
 * -errno.
 */
int un_device_clone(int session_fd);
