/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer/setup.h"

#include <fcntl.h>
#include <glib.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "layer/choices.h"
#include "setup_i.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/* ------------------------------------------------------------------------------------------------
 * The user's paths
 */

/* The kernel resolves the path, as it would for mount(2). */
int un_setup_open_root(struct un_setup *s, struct un_layer *l, const char *option, const char *path)
{
	struct statx st;
	int r;

	l->path = g_strdup(path);
	l->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (l->root < 0)
		return un_setup_fail(s, -errno, option, path);
	r = l->ops->stat(l, l->root, "", &st);
	if (r < 0)
		return un_setup_fail(s, r, option, path);
	l->dev = un_stx_dev(&st);
	return 0;
}

/* Asked of the kernel, not read from mode bits: it knows capabilities, ACLs, read-only mounts. */
static int check_writable(struct un_setup *s, int fd, const char *option, const char *path)
{
	int r = un_errno(faccessat(fd, ".", W_OK | X_OK, AT_EACCESS));

	/* Not read-only instead: that it cannot be written would be found out by whoever needs it. */
	if (r == -EROFS || r == -EPERM)
		return un_setup_refuse(s, r, option, path,
				       "cannot be written; to read only, give upperdir's path as the "
				       "first lowerdir instead");
	return r < 0 ? un_setup_fail(s, r, option, path) : 0;
}

static int open_roots(struct un_setup *s)
{
	const struct un_setup_request *req = s->req;
	struct un_layers *ls = s->ls;
	int r;

	for (unsigned i = 0; i < req->n_lowers; i++) {
		r = un_setup_open_root(s, &ls->v[i + 1], "lowerdir", req->lowers[i]);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < req->n_data; i++) {
		struct un_layer *l = &ls->v[ls->n + 1 + i];

		l->data_only = true;
		r = un_setup_open_root(s, l, "lowerdir (data only)", req->data[i]);
		if (r < 0)
			return r;
	}
	if (!req->upper)
		return 0;
	r = un_setup_open_root(s, &ls->v[0], "upperdir", req->upper);
	if (r < 0 || !req->work)
		return r;
	s->work_parent = open(req->work, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->work_parent < 0)
		return un_setup_fail(s, -errno, "workdir", req->work);
	return 0;
}

static int check_request(struct un_setup *s)
{
	const struct un_setup_request *req = s->req;

	if (req->n_lowers == 0 && !req->look) {
		*s->ret_err = g_strdup_printf("lowerdir: no layer given: %s", g_strerror(EINVAL));
		return -EINVAL;
	}
	if (req->n_lowers + req->n_data > UN_MAX_LOWERS) {
		*s->ret_err = g_strdup_printf("lowerdir: %u layers given, at most %d can be: %s",
					      req->n_lowers + req->n_data, UN_MAX_LOWERS,
					      g_strerror(EINVAL));
		return -EINVAL;
	}
	if (req->upper && !req->work && !req->look)
		return un_setup_refuse(s, -EINVAL, "upperdir", req->upper, "needs a workdir");
	return 0;
}

/* ------------------------------------------------------------------------------------------------
 * Private clones. A layer seen through a detached copy of its mount has no sub-mounts, so neither
 * our own mount nor somebody else's is ever met in it.
 */

/* A detached mount of what @fd is, -1 if we may not have one, or -errno. */
static int clone_mount(int fd)
{
	int clone = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (clone >= 0)
		return clone;
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
		return -errno;
	un_debug("open_tree: %s: layers are used where they are", g_strerror(errno));
	return -1;
}

/* Private, or a mount made at the original might appear in the clone too. */
static int set_attr(int clone, uint64_t set, uint64_t clr)
{
	struct mount_attr attr = { .attr_set = set, .attr_clr = clr, .propagation = MS_PRIVATE };

	return un_errno(mount_setattr(clone, "", AT_EMPTY_PATH, &attr, sizeof(attr)));
}

int un_setup_clone_lower(struct un_setup *s, struct un_layer *l)
{
	un_autofd int clone = clone_mount(l->root);

	if (clone == -1)
		return 0;
	if (clone < 0)
		return un_setup_fail(s, clone, "lowerdir", l->path);

	/* The atime flags may be locked in a user namespace. */
	if (set_attr(clone, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME) < 0 &&
	    set_attr(clone, MOUNT_ATTR_RDONLY, 0) < 0)
		return 0;

	/* The clone's descriptor is its root, O_PATH; the mount goes when it is closed. */
	un_close(l->root);
	l->root = l->clone = un_take_fd(&clone);
	return 0;
}

/* Where the kernel says @fd is; only a hint, which the caller verifies. */
static char *fd_path(int fd)
{
	g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
	char *path = g_file_read_link(link, NULL);

	if (path && path[0] != '/')
		g_clear_pointer(&path, g_free);
	return path;
}

/* Length of the deepest directory common to two absolute paths; 1 for "/". */
static size_t common_dir(const char *a, const char *b)
{
	size_t last = 0, i;

	for (i = 0; a[i] && a[i] == b[i]; i++)
		if (a[i] == '/')
			last = i;
	return last ? last : 1;
}

/* Opens @rel in the clone if it is what @fd is. */
static int open_in_clone(int clone, const char *rel, int fd)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	un_autofd int found = -1;
	struct stat want, have;

	while (*rel == '/')
		rel++;
	found = (int)syscall(SYS_openat2, clone, *rel ? rel : ".", &how, sizeof(how));
	if (found < 0 || fstat(fd, &want) < 0 || fstat(found, &have) < 0)
		return -1;
	if (want.st_dev != have.st_dev || want.st_ino != have.st_ino)
		return -1;
	return un_take_fd(&found);
}

static uint64_t mount_id(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0 || !(st.stx_mask & STATX_MNT_ID))
		return 0;
	return st.stx_mnt_id;
}

/*
 * Upper and work must come from one clone: rename between two mounts is refused. So what is cloned
 * is their deepest common directory, and both are looked up in it again. Whatever is odd about the
 * paths (deleted, moved, beyond our root) shows in another inode found, and then there is no clone.
 */
static int clone_upper(struct un_setup *s)
{
	struct un_layer *u = &s->ls->v[0];
	g_autofree char *upath = fd_path(u->root), *wpath = fd_path(s->work_parent);
	g_autofree char *dir = NULL;
	un_autofd int dirfd = -1, clone = -1, upper = -1, work = -1;
	size_t n;

	if (!upath || !wpath)
		return 0;
	n = common_dir(upath, wpath);
	dir = g_strndup(upath, n);
	dirfd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0 || mount_id(dirfd) == 0 || mount_id(dirfd) != mount_id(u->root))
		return 0;
	clone = clone_mount(dirfd);
	if (clone == -1)
		return 0;
	if (clone < 0)
		return un_setup_fail(s, clone, "upperdir", u->path);
	upper = open_in_clone(clone, upath + n, u->root);
	work = open_in_clone(clone, wpath + n, s->work_parent);
	if (upper < 0 || work < 0)
		return 0;
	/* In a user namespace the atime flags may be locked: then see find_noatime(). */
	if ((!s->req->noatime || set_attr(clone, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME) < 0) &&
	    set_attr(clone, 0, 0) < 0)
		return 0;

	un_close(u->root);
	u->root = un_take_fd(&upper);
	un_close(s->work_parent);
	s->work_parent = un_take_fd(&work);
	u->clone = un_take_fd(&clone);
	return 0;
}

static int clone_layers(struct un_setup *s)
{
	int r = 0;

	if (s->req->no_clone)
		return 0;
	for (unsigned i = 1; i <= s->ls->n + s->ls->n_data && r == 0; i++)
		r = un_setup_clone_lower(s, &s->ls->v[i]);
	if (r == 0 && s->ls->has_upper && !s->req->look)
		r = clone_upper(s);
	else if (r == 0 && s->ls->has_upper && !s->req->mend)
		r = un_setup_clone_lower(s, &s->ls->v[0]);
	return r;
}

/* Does the upper's mount leave times of access alone, or are we to? */
static void find_noatime(struct un_setup *s)
{
	struct un_layer *u = &s->ls->v[0];
	struct statvfs st;

	u->noatime = fstatvfs(u->root, &st) == 0 && (st.f_flag & ST_NOATIME);
	u->noatime_by_open = s->req->noatime && !u->noatime;
	u->noatime |= s->req->noatime;
}

/* ------------------------------------------------------------------------------------------------
 * All together
 */

static int prepare_upper(struct un_setup *s)
{
	int r;

	find_noatime(s);
	r = un_setup_work_open(s);
	if (r < 0)
		return r;
	r = un_setup_probe_upper(s);
	if (r < 0)
		return r;
	if (s->req->is_volatile) {
		r = un_setup_work_volatile(s);
		if (r < 0)
			return r;
	}
	un_setup_probe_report(s);
	return s->req->index ? un_setup_index(s) : 0;
}

static int open_all(struct un_setup *s)
{
	const struct un_setup_request *req = s->req;
	int r;

	r = check_request(s);
	if (r < 0)
		return r;
	r = open_roots(s);
	if (r < 0)
		return r;
	r = un_setup_check(s);
	if (r < 0)
		return r;
	if (req->upper && (!req->look || req->mend)) {
		r = check_writable(s, s->ls->v[0].root, "upperdir", req->upper);
		if (r < 0)
			return r;
		if (req->work)
			r = check_writable(s, s->work_parent, "workdir", req->work);
		if (r < 0)
			return r;
	}
	r = clone_layers(s);
	if (r < 0)
		return r;
	r = un_setup_probe_lowers(s);
	if (r < 0)
		return r;
	if (req->upper)
		return req->look ? un_setup_look(s) : prepare_upper(s);
	un_setup_dialect(s, !req->userxattr && un_setup_privileged() ? UN_DIALECT_TRUSTED
								     : UN_DIALECT_USER);
	return 0;
}

struct un_layers *un_layers_open(const struct un_setup_request *req, char **ret_err)
{
	struct un_layers *ls = g_new0(struct un_layers, 1);
	struct un_setup s = { .req = req, .ls = ls, .work_parent = -1, .ret_err = ret_err };
	int r;

	*ret_err = NULL;
	ls->n = req->n_lowers;
	ls->n_data = req->n_data;
	ls->has_upper = req->upper;
	ls->work = -1;
	ls->index = -1;
	ls->stage_lock = -1;
	ls->upper_lock = -1;
	/* Memory that nobody touches is none. */
	ls->v = g_new0(struct un_layer, UN_LAYERS_EVER);
	ls->used = ls->n + ls->n_data + 1;
	for (unsigned i = 0; i < ls->used; i++)
		un_setup_layer_init(&ls->v[i], i * UN_LAYER_STEP);
	ls->lowest = ls->n * UN_LAYER_STEP;
	ls->no_uuid = req->no_uuid;
	ls->no_clone = req->no_clone;

	r = open_all(&s);
	un_close(s.work_parent);
	g_free(s.sharer);
	if (r < 0)
		g_clear_pointer(&ls, un_layers_close);
	return ls;
}

static void layer_done(struct un_layer *l)
{
	/* Decorators: their data begins with the layer as it was before (layer-trace.c). */
	while (l->ops_data) {
		struct un_layer *inner = l->ops_data;

		l->ops = inner->ops;
		l->ops_data = inner->ops_data;
		if (inner->handle_fd > 0 && inner->handle_fd != l->handle_fd)
			un_close(inner->handle_fd);
		g_free(inner);
	}
	un_setup_layer_close(l);
	g_free(l->path);
}

void un_layers_close(struct un_layers *ls)
{
	if (!ls)
		return;
	un_setup_work_close(ls);
	un_close(ls->work);
	un_close(ls->index);
	un_close(ls->stage_lock);
	un_close(ls->upper_lock);
	g_free(ls->stage_id);
	for (unsigned i = 0; i < ls->used; i++)
		layer_done(&ls->v[i]);
	g_free(ls->v);
	g_clear_pointer(&ls->roots, g_ptr_array_unref);
	g_free(ls);
}
