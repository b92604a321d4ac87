/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities that are refused after the probe found them: sandboxes judge each thread, and each call. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>

#include "layer/layer.h"
#include "util/fd.h"
#include "util/log.h"

bool un_cap_refused(struct un_layer *l, atomic_bool *cap, const char *what, ssize_t r)
{
	unsigned bit = 1u << (cap - &l->caps.xattr);

	switch (-r) {
	case ENOSYS:
	case EOPNOTSUPP:
	case EINVAL:
		atomic_store(cap, false);
		break;
	case EPERM:
		break;
	default:
		return false;
	}
	if (!(atomic_fetch_or(&l->refusals, bit) & bit))
		un_log(LOG_WARNING,
		       "upperdir: %s: %s was refused (%s) though the mount had found it: "
		       "it is done in another way",
		       l->path, what, g_strerror((int)-r));
	return true;
}

int un_layer_rename_new(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
			const char *name)
{
	if (l->caps.rename_new) {
		int r = l->ops->rename(l, from_dirfd, from, dirfd, name, RENAME_NOREPLACE);

		/* Not so, if it may not be done there at all: the other way says the same. */
		if (!un_cap_refused(l, &l->caps.rename_new, "RENAME_NOREPLACE", r))
			return r;
	}
	return l->ops->rename(l, from_dirfd, from, dirfd, name, 0);
}

int un_layer_make_file(struct un_layer *l, int dirfd, const char *name, mode_t mode)
{
	int fd = l->ops->open(l, dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			      mode);

	if (fd < 0)
		return fd;
	un_close(fd);
	return 0;
}
