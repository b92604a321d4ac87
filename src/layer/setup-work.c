/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WORK/work: where changes are staged.
 *
 * Several mounts may use it at once, if only because an old daemon is still ending while its
 * successor starts. Each has a random ID that begins all its names: "#ID-N", and "#ID" and "#ID.N" for
 * whiteouts. Who lives is told by flock(2) on the directory itself, which leaves no name in it and ends
 * with the process however that ends. Invariants:
 *
 *   (1) A mount has names here only while it holds the lock shared, by an open description of its own
 *       (stage_lock). That is given up by closing alone: a forked daemon's parent ends too.
 *   (2) Names of others are removed only by who holds it exclusively. So no other mount has any that
 *       it needs: what is there belongs to dead ones, or is none of ours (the kernel's "#1a2f").
 *   (3) From exclusive to shared is not one step: the lock is given up in between, and another mount
 *       may empty the directory once more. So nothing is made before the lock is held shared.
 *   (4) Exclusive is only tried, and held no longer than emptying takes: to wait for shared ends.
 *   (5) Who does not get it exclusively removes nothing. Leftovers cost space, until the next mount
 *       that is alone; removing what a living mount stages costs data.
 *   (6) Nor does who cannot lock at all. Where the file system knows no flock this holds for every
 *       mount, so none of them needs the protection of the lock that it does not have.
 */
#include "setup-dir_i.h"
#include "setup-others_i.h"
#include "setup_i.h"

#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>

#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#define WORK_NAME "work"

/* ------------------------------------------------------------------------------------------------
 * The marks of mounts that another mount must not follow
 */

/* 0, or -EINVAL with the sentence. Not being able to look is a reason to refuse too. */
static int check_incompat(struct un_setup *s, int work)
{
	struct un_layer *l = &s->ls->v[0];
	g_autoptr(GPtrArray) names = NULL;
	un_autofd int fd = -1;
	int old_mode, r;

	fd = un_setup_enter(l, work, "incompat", &old_mode);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0;
	r = fd < 0 ? fd : un_setup_names(l, fd, &names);
	un_setup_restore_mode(l, work, "incompat", old_mode);
	if (r < 0)
		return un_setup_refuse(s, r, "workdir", s->req->work,
				       "cannot look into work/incompat");
	for (unsigned i = 0; i < names->len; i++)
		if (strcmp(names->pdata[i], "volatile") == 0)
			return un_setup_refuse(
				s, -EINVAL, "workdir", s->req->work,
				"was used by a volatile mount (work/incompat/volatile): its upper may be "
				"incomplete; remove work/incompat/volatile to use it anyway");
	if (names->len)
		return un_setup_refuse(s, -EINVAL, "workdir", s->req->work,
				       "was used with a feature unknown here (work/incompat/%s)",
				       (const char *)names->pdata[0]);
	return 0;
}

int un_setup_work_volatile(struct un_setup *s)
{
	struct un_layer *l = &s->ls->v[0];
	un_autofd int incompat = -1, dir = -1, dirty = -1;

	incompat = un_setup_make_new(l, s->ls->work, "incompat");
	if (incompat < 0)
		return un_setup_refuse(s, incompat, "workdir", s->req->work,
				       "cannot make work/incompat");
	dir = un_setup_make_new(l, incompat, "volatile");
	if (dir >= 0)
		dirty = l->ops->open(l, dir, "dirty", O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (dirty < 0)
		return un_setup_refuse(s, dir < 0 ? dir : dirty, "workdir", s->req->work,
				       "cannot make work/incompat/volatile/dirty");
	return 0;
}

/* ------------------------------------------------------------------------------------------------
 * Emptying
 */

struct cleaner {
	struct un_layer *l;
	int work;
	const char *id;
	unsigned seq;
	GQueue pending; /* directories of work/ that are not empty; owned names */
};

/*
 * One entry of @dirfd. A directory that is not empty is moved up into work/ and queued, so depth
 * costs neither stack nor descriptors.
 */
static int remove_entry(struct cleaner *c, int dirfd, const char *name)
{
	struct un_layer *l = c->l;
	g_autofree char *up = NULL;
	int r;

	r = l->ops->unlink(l, dirfd, name, 0);
	if (r != -EISDIR)
		return r == -ENOENT ? 0 : r;
	r = l->ops->unlink(l, dirfd, name, AT_REMOVEDIR);
	if (r != -ENOTEMPTY && r != -EEXIST)
		return r == -ENOENT ? 0 : r;
	if (dirfd == c->work) {
		g_queue_push_tail(&c->pending, g_strdup(name));
		return 0;
	}
	up = g_strdup_printf("#%s-rm%u", c->id, c->seq++);
	r = l->ops->rename(l, dirfd, name, c->work, up, 0);
	if (r == -EACCES && l->ops->chmod(l, dirfd, name, 0700) == 0)
		r = l->ops->rename(l, dirfd, name, c->work, up, 0);
	if (r == 0)
		g_queue_push_tail(&c->pending, g_steal_pointer(&up));
	return r;
}

static int remove_dir(struct cleaner *c, const char *name)
{
	struct un_layer *l = c->l;
	g_autoptr(GPtrArray) names = NULL;
	un_autofd int fd = -1;
	int old_mode, r, err = 0;

	fd = un_setup_enter(l, c->work, name, &old_mode);
	if (fd < 0)
		return fd;
	r = un_setup_names(l, fd, &names);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < names->len; i++) {
		r = remove_entry(c, fd, names->pdata[i]);
		if (r < 0)
			err = r;
	}
	return err ?: l->ops->unlink(l, c->work, name, AT_REMOVEDIR);
}

/* An entry that cannot be removed stays: it is not in the way of new names. */
static void remove_all(struct cleaner *c, const char *path, GPtrArray *names)
{
	for (unsigned i = 0; i < names->len; i++) {
		const char *name = names->pdata[i];
		int err = remove_entry(c, c->work, name);
		char *dir;

		while ((dir = g_queue_pop_head(&c->pending))) {
			int r = remove_dir(c, dir);

			if (r < 0)
				err = r;
			g_free(dir);
		}
		if (err < 0)
			un_log(LOG_WARNING, "workdir: %s: work/%s cannot be removed: %s", path,
			       name, g_strerror(-err));
	}
}

/* Removes from work/ every name (who holds it exclusively), or with @own_only this mount's. */
static int clean(struct un_layers *ls, const char *path, bool own_only)
{
	struct un_layer *l = &ls->v[0];
	struct cleaner c = {
		.l = l, .work = ls->work, .id = ls->stage_id, .pending = G_QUEUE_INIT
	};
	g_autoptr(GPtrArray) names = NULL, doomed = g_ptr_array_new();
	g_autofree char *own = g_strdup_printf("#%s", ls->stage_id);
	un_autofd int fd = l->ops->open(l, ls->work, "", O_RDONLY | O_DIRECTORY, 0);
	int r;

	r = fd < 0 ? fd : un_setup_names(l, fd, &names);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < names->len; i++) {
		const char *name = names->pdata[i];

		/* It was empty; if it is no more, that is a mount in the making. */
		if (!own_only && strcmp(name, "incompat") == 0 &&
		    l->ops->unlink(l, ls->work, name, AT_REMOVEDIR) != -ENOTDIR)
			continue;
		if (!own_only || g_str_has_prefix(name, own))
			g_ptr_array_add(doomed, names->pdata[i]);
	}
	remove_all(&c, path, doomed);
	return 0;
}

/* ------------------------------------------------------------------------------------------------
 * Who lives
 */

static int choose_id(struct un_layers *ls)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	ls->stage_id = g_strdup_printf("%016" PRIx64, random);
	return 0;
}

/* @tried: what came of trying to have it exclusively. */
static int lock_shared(struct un_setup *s, int tried)
{
	bool works = tried == 0 || tried == -EWOULDBLOCK;
	int r;

	if (tried == -EWOULDBLOCK)
		un_debug("workdir: %s: in use by other mounts: what dead ones left in work/ stays",
			 s->req->work);
	do
		r = un_errno(flock(s->ls->stage_lock, LOCK_SH));
	while (r == -EINTR);
	/* Others can lock, and would take what we stage for a dead one's. */
	if (r < 0 && (works || r == -ENOMEM))
		return un_setup_refuse(s, r, "workdir", s->req->work, "work/ cannot be locked");
	if (!works)
		un_log(LOG_INFO,
		       "workdir: %s: work/ cannot be locked (%s): what dead mounts left in it stays",
		       s->req->work, g_strerror(-tried));
	return 0;
}

/*
 * 0: alone; -EWOULDBLOCK: not; or another -errno of locking. A daemon that was just unmounted may take a
 * moment to end, and is given it.
 */
static int try_exclusive(const struct un_setup *s, int fd)
{
	unsigned tries = s->sharer ? 0 : s->req->patience / 20;
	int r;

	for (unsigned i = 0;; i++) {
		r = un_errno(flock(fd, LOCK_EX | LOCK_NB));
		if (r != -EWOULDBLOCK || i == tries)
			return r;
		g_usleep(20 * 1000);
	}
}

/*
 * Another mount that lives has it, too. An index does not share its upper with anybody, as in the kernel;
 * without one, what is changed in one mount is only not seen in the other, or seen late.
 */
static int note_sharer(struct un_setup *s, int fd, const char *option, const char *path)
{
	struct un_layer *u = &s->ls->v[0];
	struct un_others *o;
	struct statx st;

	if (s->sharer || !s->req->patience)
		return 0;
	o = un_others_new();
	if (u->ops->stat(u, fd, "", &st) == 0)
		s->sharer = un_others_at(o, un_stx_dev(&st), st.stx_ino);
	if (!s->sharer)
		s->sharer = g_strdup("unknown where");
	un_others_free(o);
	if (s->req->alone)
		return un_setup_refuse(s, -EBUSY, option, path,
				       "is used by another mount, %s, and an index of hard links "
				       "needs it alone (index=off does not)",
				       s->sharer);
	un_log(LOG_WARNING,
	       "%s: %s: is used by another mount, %s: what is changed in one of them may be seen "
	       "wrongly in the other",
	       option, path, s->sharer);
	return 0;
}

/*
 * That the upper is in use, whichever the workdir. Who cannot say so (it may not be read, or somebody
 * else has it locked) goes on.
 */
static int lock_upper(struct un_setup *s)
{
	struct un_layers *ls = s->ls;
	struct un_layer *u = &ls->v[0];
	int r = 0;

	ls->upper_lock = u->ops->open(u, u->root, "", O_RDONLY | O_DIRECTORY, 0);
	if (ls->upper_lock < 0)
		return 0;
	if (try_exclusive(s, ls->upper_lock) == -EWOULDBLOCK)
		r = note_sharer(s, ls->upper_lock, "upperdir", s->req->upper);
	un_ignore(flock(ls->upper_lock, LOCK_SH | LOCK_NB));
	return r;
}

/* A lock that cannot be had keeps nobody out, and nobody says by it that he is there. */
static bool sole(int fd)
{
	return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

bool un_layers_alone(struct un_layers *ls, bool hold)
{
	bool alone = !hold || sole(ls->upper_lock);

	/* Not held: whoever comes now only asks, and would go on without. */
	un_ignore(flock(ls->upper_lock, LOCK_SH | LOCK_NB));
	alone = alone && (!hold || sole(ls->stage_lock));
	if (!hold || !alone)
		un_ignore(flock(ls->stage_lock, LOCK_SH | LOCK_NB));
	return alone;
}

/* Sees to it that nobody removes what is staged here, and that nothing of the dead is left. */
static int join(struct un_setup *s)
{
	struct un_layers *ls = s->ls;
	struct un_layer *l = &ls->v[0];
	int fd, r;

	fd = l->ops->open(l, ls->work, "", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return un_setup_refuse(s, fd, "workdir", s->req->work, "cannot open work/");
	ls->stage_lock = fd;
	r = try_exclusive(s, ls->stage_lock);
	if (r == -EWOULDBLOCK) {
		int err = note_sharer(s, ls->stage_lock, "workdir", s->req->work);

		if (err < 0)
			return err;
	}
	if (r == 0) {
		int err = clean(ls, s->req->work, false);

		if (err < 0)
			return un_setup_refuse(s, err, "workdir", s->req->work,
					       "cannot list work/");
	}
	return lock_shared(s, r);
}

/* ------------------------------------------------------------------------------------------------
 * The directory itself
 */

/*
 * Objects staged in work/ would inherit what work/ has inherited from WORK: default ACL, set-gid.
 */
static void disinherit(struct un_layer *l, int work)
{
	struct statx st;

	un_ignore(l->ops->removexattr(l, work, "", "system.posix_acl_default"));
	un_ignore(l->ops->removexattr(l, work, "", "system.posix_acl_access"));
	if (l->ops->stat(l, work, "", &st) == 0 && (st.stx_mode & S_ISGID))
		un_ignore(l->ops->chmod(l, work, "", st.stx_mode & 07777 & ~S_ISGID));
}

static int open_work_dir(struct un_setup *s)
{
	struct un_layer *l = &s->ls->v[0];
	int fd, old_mode, r;

	fd = un_setup_enter(l, s->work_parent, WORK_NAME, &old_mode);
	if (fd == -ENOTDIR || fd == -ELOOP) {
		r = l->ops->unlink(l, s->work_parent, WORK_NAME, 0);
		fd = r < 0 ? r : -ENOENT;
	}
	if (fd == -ENOENT)
		fd = un_setup_make_new(l, s->work_parent, WORK_NAME);
	if (fd == -EEXIST) /* another first mount was faster */
		fd = un_setup_enter(l, s->work_parent, WORK_NAME, &old_mode);
	if (fd < 0)
		return un_setup_refuse(s, fd, "workdir", s->req->work, "work/ cannot be used");

	r = check_incompat(s, fd);
	if (r < 0) {
		un_setup_restore_mode(l, s->work_parent, WORK_NAME, old_mode);
		un_close(fd);
		return r;
	}
	disinherit(l, fd);
	s->ls->work = fd;
	return 0;
}

int un_setup_work_open(struct un_setup *s)
{
	int r;

	/* First, since it changes nothing. */
	r = lock_upper(s);
	if (r < 0)
		return r;
	r = open_work_dir(s);
	if (r < 0)
		return r;
	r = choose_id(s->ls);
	if (r < 0)
		return un_setup_refuse(s, r, "workdir", s->req->work, "no random numbers");
	return join(s);
}

void un_setup_work_close(struct un_layers *ls)
{
	struct un_layer *l = &ls->v[0];
	g_autofree char *master = NULL;

	if (ls->work < 0 || !ls->stage_id)
		return;
	un_ignore(clean(ls, l->path, true));
	if (ls->index < 0)
		return;
	/* The only name that may be there (whiteout.h). */
	master = g_strdup_printf("#%s", ls->stage_id);
	un_ignore(l->ops->unlink(l, ls->index, master, 0));
}
