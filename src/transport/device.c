/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel keeps a request with the device (the clone) that read it; an answer written to another one is
 * lost and the caller hangs. So the device is a property of the thread.
 */
#include "device_i.h"

#include "transport/transport.h"
#include "transport/wire.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

#define DEV_IOC_CLONE _IOR(229, 0, uint32_t)
#define DEV_IOC_BACKING_OPEN _IOW(229, 1, struct un_wire_backing)
#define DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

static __thread int device_plus_1; /* 0: none */

/*
 * Devices that are kept for an answer that comes later (few, and never for long), by how many. Closing one ends the
 * requests that were read from it with an error.
 */
static struct {
	pthread_mutex_t lock;
	struct kept {
		int fd;
		unsigned n;
		bool close; /* its thread has ended */
	} * v;
	unsigned n;
} kept = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct kept *find_kept(int fd)
{
	for (unsigned i = 0; i < kept.n; i++)
		if (kept.v[i].fd == fd)
			return &kept.v[i];
	return NULL;
}

int un_device_of_thread(void)
{
	return device_plus_1 - 1;
}

int un_transport_keep_device(void)
{
	const int fd = un_device_of_thread();
	struct kept *k;

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&kept.lock);
	k = find_kept(fd);
	if (!k) {
		kept.v = g_renew(struct kept, kept.v, kept.n + 1);
		k = &kept.v[kept.n++];
		*k = (struct kept){ .fd = fd };
	}
	k->n++;
	pthread_mutex_unlock(&kept.lock);
	return fd;
}

void un_transport_drop_device(int device)
{
	struct kept *k;
	bool close = false;

	if (device < 0)
		return;
	pthread_mutex_lock(&kept.lock);
	k = find_kept(device);
	if (k && --k->n == 0) {
		close = k->close;
		*k = kept.v[--kept.n];
	}
	pthread_mutex_unlock(&kept.lock);
	if (close)
		un_close(device);
}

void un_device_close(int fd)
{
	struct kept *k;

	pthread_mutex_lock(&kept.lock);
	k = find_kept(fd);
	if (k)
		k->close = true;
	pthread_mutex_unlock(&kept.lock);
	if (!k)
		un_close(fd);
}

void un_transport_use_device(int device)
{
	device_plus_1 = device + 1;
}

void un_device_say(const struct iovec *iov, ssize_t r)
{
	const struct un_wire_out *out = iov[0].iov_base;
	const char *lost = r < 0 ? strerrordesc_np(errno) : NULL;

	if (!un_log_debugging())
		return;
	if (out->unique == 0)
		un_log(LOG_DEBUG, "notify %d%s%s", out->error, lost ? ": " : "", lost ? lost : "");
	else
		un_log(LOG_DEBUG, "  %" PRIu64 " -> %s, %u bytes%s%s", out->unique,
		       out->error ? strerrordesc_np(-out->error) : "ok", out->len,
		       lost ? "; not delivered: " : "", lost ? lost : "");
}

ssize_t un_device_writev(int fd, const struct iovec *iov, int count)
{
	ssize_t r;
	int saved;

	do
		r = writev(fd, iov, count);
	while (r < 0 && errno == EINTR);

	saved = errno;
	un_device_say(iov, r);
	errno = saved;
	return r;
}

int un_device_clone(int session_fd)
{
	g_autofree char *self_fd = g_strdup_printf("/proc/self/fd/%d", session_fd);
	uint32_t arg = (uint32_t)session_fd;
	un_autofd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	/* An inherited descriptor may come from another file than /dev/fuse. */
	if (fd < 0)
		fd = open(self_fd, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, DEV_IOC_CLONE, &arg) < 0)
		return -errno;
	return un_take_fd(&fd);
}

int un_device_backing_open(int session_fd, int file)
{
	struct un_wire_backing map = { .fd = file };
	int id = ioctl(session_fd, DEV_IOC_BACKING_OPEN, &map);

	return id < 0 ? -errno : id;
}

void un_device_backing_close(int session_fd, int id)
{
	uint32_t arg = (uint32_t)id;

	un_ignore(ioctl(session_fd, DEV_IOC_BACKING_CLOSE, &arg));
}
