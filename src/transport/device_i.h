/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors of /dev/fuse. That of the thread at hand: un_transport_keep_device(), _use_device(). */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

/* With errno as writev(2): libfuse takes ENOENT (nobody waits any more) in silence, and so do we. */
ssize_t un_device_writev(int fd, const struct iovec *iov, int count);

/* A view of its own of the session's connection, or -errno. */
int un_device_clone(int session_fd);
