/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors of /dev/fuse. For one that outlives its thread see un_transport_keep_device(). */
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

/* Close it as soon as nobody keeps it for an answer. */
void un_device_close(int fd);

/* That of the calling thread, or -1. */
int un_device_of_thread(void);

/*
 * A number by which the kernel knows the regular file @file, which may then be closed; or -errno, as of
 * un_transport_backing_open(). The kernel opens it once more, as the calling thread could, for each file that is answered with it.
 */
int un_device_backing_open(int session_fd, int file);
void un_device_backing_close(int session_fd, int id);
