/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers that are not to be mounted but looked at, and maybe mended: the same roots, checks, clones and
 * questions to file systems as for a mount, without the ones that are asked by trying.
 */
#include "setup-others_i.h"
#include "setup_i.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/file.h>

#include "util/err.h"
#include "util/fd.h"

/* A directory of WORK, or -1 if there is none. Closed to us it is opened by path only. */
static int open_part(struct un_setup *s, const char *name, int *ret)
{
	struct un_layer *l = &s->ls->v[0];
	int fd = l->ops->open(l, s->work_parent, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -EACCES)
		fd = l->ops->open(l, s->work_parent, name, O_PATH | O_DIRECTORY, 0);
	*ret = fd < 0 ? -1 : fd;
	if (fd >= 0 || fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0;
	return un_setup_refuse(s, fd, "workdir", s->req->work, "%s/ cannot be opened", name);
}

int un_setup_look(struct un_setup *s)
{
	int r;

	un_setup_probe_look(s);
	if (s->work_parent < 0)
		return 0;
	r = open_part(s, "work", &s->ls->work);
	return r < 0 ? r : open_part(s, "index", &s->ls->index);
}

/* ---- alone? ---------------------------------------------------------------------------------------- */

static char *user_of(struct un_layers *ls, const struct un_others *o, int fd)
{
	struct un_layer *u = &ls->v[0];
	struct statx st;

	if (fd < 0 || u->ops->stat(u, fd, "", &st) < 0)
		return NULL;
	return un_others_at(o, un_stx_dev(&st), st.stx_ino);
}

char *un_layers_in_use(struct un_layers *ls)
{
	struct un_others *o = un_others_new();
	char *who = user_of(ls, o, ls->v[0].root);

	if (!who)
		who = user_of(ls, o, ls->work);
	un_others_free(o);
	return who;
}

/* As a mount does, which asks for both of these locks (setup-work.c). */
static int lock_alone(struct un_layer *u, int dirfd, int *ret)
{
	un_autofd int fd = u->ops->open(u, dirfd, "", O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : un_errno(flock(fd, LOCK_EX | LOCK_NB));

	if (r < 0)
		return r == -EWOULDBLOCK ? -EBUSY : r;
	*ret = un_take_fd(&fd);
	return 0;
}

int un_layers_claim(struct un_layers *ls, char **ret_who)
{
	struct un_layer *u = &ls->v[0];
	int r;

	*ret_who = un_layers_in_use(ls);
	if (*ret_who)
		return -EBUSY;
	r = lock_alone(u, u->root, &ls->upper_lock);
	if (r == 0 && ls->work >= 0)
		r = lock_alone(u, ls->work, &ls->stage_lock);
	if (r == -EBUSY)
		*ret_who = g_strdup("unknown where");
	return r;
}
