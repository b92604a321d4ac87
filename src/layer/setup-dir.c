/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "setup-dir_i.h"

#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>

#include "util/err.h"
#include "util/fd.h"

int un_setup_names(struct un_layer *l, int fd, GPtrArray **ret)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	char buf[16384] __attribute__((aligned(8)));
	ssize_t n;

	while ((n = l->ops->getdents(l, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			at += d->d_reclen;
			if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
				g_ptr_array_add(names, g_strdup(d->d_name));
		}
	}
	if (n < 0)
		return (int)n;
	*ret = g_steal_pointer(&names);
	return 0;
}

/*
 * 0 or -errno, -EACCES: not as it is. Where a server judges (sshfs) its kernel says yes to everything, and
 * only trying tells; what is closed to its owner altogether, as work/ is made, is found by looking a name up that
 * nobody has and no cache knows.
 */
static int may_use(struct un_layer *l, int fd)
{
	struct statx st;

	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return -errno;
	return l->ops->stat(l, fd, "#", &st) == -EACCES ? -EACCES : 0;
}

int un_setup_enter(struct un_layer *l, int dirfd, const char *name, int *ret_old_mode)
{
	un_autofd int fd = -1;
	struct statx st;
	int r;

	*ret_old_mode = -1;
	fd = l->ops->open(l, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	r = fd < 0 ? fd : may_use(l, fd);
	if (r == 0)
		return un_take_fd(&fd);
	if (r != -EACCES)
		return r;

	r = l->ops->stat(l, dirfd, name, &st);
	if (r < 0)
		return r;
	r = l->ops->chmod(l, dirfd, name, 0700);
	if (r < 0)
		return r == -EPERM ? -EACCES : r;
	*ret_old_mode = st.stx_mode & 07777;
	un_close(fd);
	fd = l->ops->open(l, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	return un_take_fd(&fd);
}

void un_setup_restore_mode(struct un_layer *l, int dirfd, const char *name, int old_mode)
{
	if (old_mode >= 0)
		un_ignore(l->ops->chmod(l, dirfd, name, (mode_t)old_mode));
}

int un_setup_make_new(struct un_layer *l, int dirfd, const char *name)
{
	int old_mode, r;

	r = l->ops->mkdir(l, dirfd, name, 0);
	if (r < 0)
		return r;
	return un_setup_enter(l, dirfd, name, &old_mode);
}

int un_setup_make_dir(struct un_layer *l, int dirfd, const char *name)
{
	int old_mode, fd = un_setup_enter(l, dirfd, name, &old_mode);

	if (fd == -ENOENT)
		fd = un_setup_make_new(l, dirfd, name);
	if (fd == -EEXIST) /* another first mount was faster */
		fd = un_setup_enter(l, dirfd, name, &old_mode);
	return fd;
}
