/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "transport/mount.h"

#include "transport_i.h"

#include "transport/outside.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/lock.h"
#include "util/log.h"

#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif

#define DEV_FUSE makedev(10, 229)

UN_ROLE(mount_role);

struct un_mount {
	char *path;
	int inherited; /* N of /dev/fd/N, or -1 */
	/*
	 * "0:42" of our superblock: the one name of a mount that nobody else gets while our
	 * connection lives. Mount ids are reused at once.
	 */
	char *dev;
	int id; /* together with dev it tells the mount itself from others of the same superblock */
	int fd; /* the session's device; -1: not mounted */
	struct un_mutex lock;
	bool unmounted UN_GUARDED_BY(mount_role);
};
UN_LOCKS(struct un_mount, lock, mount, mount_role);

/* libfuse's messages: into here while it is set, else to the log. */
static GString *captured;

static void log_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void log_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	g_autofree char *text = g_strdup_vprintf(fmt, ap);

	if (captured)
		g_string_append(captured, text);
	else
		un_log(MIN((int)level, LOG_DEBUG), "%s", g_strchomp(text));
}

/*
 * fusermount3, and libfuse here and there, write to standard error. Its text is wanted, and a
 * fusermount3 that stays (auto_unmount) must not hold the caller's stderr or stdout: so both are a
 * memory file for a while.
 */
struct diversion {
	int file, out, err;
};

static void divert(struct diversion *d)
{
	captured = g_string_new(NULL);
	fflush(stdout);
	d->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	d->err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	d->file = memfd_create("fuse messages", MFD_CLOEXEC);
	if (d->file < 0 || d->out < 0 || d->err < 0)
		return;
	dup2(d->file, STDOUT_FILENO);
	dup2(d->file, STDERR_FILENO);
}

/* All that was said. */
static char *restore(struct diversion *d)
{
	GString *text = captured;
	char buf[4096];
	ssize_t n;

	if (d->out >= 0)
		dup2(d->out, STDOUT_FILENO);
	if (d->err >= 0)
		dup2(d->err, STDERR_FILENO);
	n = d->file < 0 ? 0 : pread(d->file, buf, sizeof(buf), 0);
	if (n > 0)
		g_string_append_len(text, buf, n);
	un_close(d->file);
	un_close(d->out);
	un_close(d->err);
	captured = NULL;
	return g_string_free(text, FALSE);
}

/* The reason in what libfuse and fusermount3 have said: the last line, without who said it. */
static char *reason(const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	const char *last = "";
	const char *p;

	for (char **l = lines; *l; l++)
		if (*g_strstrip(*l))
			last = *l;
	while ((p = g_str_has_prefix(last, "fuse: ")          ? last + 6
		    : g_str_has_prefix(last, "fusermount3: ") ? last + 13
							      : NULL))
		last = p;
	/* As the versions of libfuse put it. */
	if (strstr(last, "exec fusermount3") || strstr(last, "of fusermount3 failed"))
		return g_strdup_printf(
			"it takes root or fusermount3 (package fuse3), which cannot be "
			"run:%s",
			strrchr(last, ':') ? strrchr(last, ':') + 1 : " unknown reason");
	return g_strdup(*last ? last : "libfuse gives no reason");
}

static int check_inherited(struct un_mount *m, const char *mountpoint, char **ret_err)
{
	struct stat st;

	if (fstat(m->inherited, &st) < 0) {
		*ret_err = g_strdup_printf("mountpoint '%s': descriptor %d is not open", mountpoint,
					   m->inherited);
		return -1;
	}
	if (!S_ISCHR(st.st_mode) || st.st_rdev != DEV_FUSE) {
		*ret_err =
			g_strdup_printf("mountpoint '%s': descriptor %d is not an open /dev/fuse",
					mountpoint, m->inherited);
		return -1;
	}
	/* fusermount3 has no use for it. */
	fcntl(m->inherited, F_SETFD, FD_CLOEXEC);
	m->path = g_strdup(mountpoint);
	return 0;
}

static int check_mountpoint(struct un_mount *m, const char *mountpoint, char **ret_err)
{
	char *path = realpath(mountpoint, NULL);
	struct stat st;
	int r = 0;

	if (!path || stat(path, &st) < 0)
		r = -errno;
	else if (!S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r < 0) {
		*ret_err = g_strdup_printf(
			"mountpoint '%s': %s%s", mountpoint, g_strerror(-r),
			r == -ENOTCONN ? " (a mount whose daemon is gone; unmount it first)" : "");
		free(path);
		return -1;
	}
	m->path = g_strdup(path);
	free(path);
	return 0;
}

static int check_device(char **ret_err)
{
	un_autofd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return 0;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		*ret_err =
			g_strdup_printf("/dev/fuse: %s (device not found: is FUSE in the kernel? "
					"try 'modprobe fuse')",
					g_strerror(errno));
	else
		*ret_err = g_strdup_printf("/dev/fuse: %s (it has to be readable and writable)",
					   g_strerror(errno));
	return -1;
}

struct un_mount *un_mount_new(const char *mountpoint, char **ret_err)
{
	struct un_mount *m = g_new0(struct un_mount, 1);
	int end = 0;
	int r;

	m->fd = -1;
	un_mutex_init(&m->lock);
	if (sscanf(mountpoint, "/dev/fd/%d%n", &m->inherited, &end) == 1 && !mountpoint[end]) {
		r = check_inherited(m, mountpoint, ret_err);
	} else {
		m->inherited = -1;
		r = check_mountpoint(m, mountpoint, ret_err);
		if (r == 0)
			r = check_device(ret_err);
	}
	if (r < 0) {
		un_mount_free(m);
		return NULL;
	}
	return m;
}

void un_mount_free(struct un_mount *m)
{
	if (!m)
		return;
	un_mutex_done(&m->lock);
	g_free(m->path);
	g_free(m->dev);
	g_free(m);
}

const char *un_mount_path(const struct un_mount *m)
{
	return m->path;
}

uint64_t un_mount_device(const struct un_mount *m)
{
	unsigned major, minor;

	if (!m->dev || sscanf(m->dev, "%u:%u", &major, &minor) != 2)
		return 0;
	return (uint64_t)major << 32 | minor;
}

void un_mount_read_ahead(const struct un_mount *m, unsigned bytes)
{
	g_autofree char *path =
		m->dev ? g_strdup_printf("/sys/class/bdi/%s/read_ahead_kb", m->dev) : NULL;
	g_autofree char *now = NULL;
	char text[16];
	un_autofd int fd = -1;
	int n = snprintf(text, sizeof(text), "%u", bytes >> 10);

	if (path && g_file_get_contents(path, &now, NULL, NULL) &&
	    g_ascii_strtoull(now, NULL, 10) >= bytes >> 10)
		return;
	if (path)
		fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, (size_t)n) == n)
		return;
	un_log(LOG_WARNING, "read_ahead=%u: the kernel reads ahead as far as it does by itself: %s",
	       bytes, path ? g_strerror(errno) : "the mount is not known");
}

bool un_mount_inherited(const struct un_mount *m)
{
	return m->inherited >= 0;
}

/* For one level of parsing by libfuse, which would take a comma or a backslash for its own. */
static void append_option(GString *opts, const char *name, const char *value)
{
	g_string_append_printf(opts, ",%s=", name);
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			g_string_append_c(opts, '\\');
		g_string_append_c(opts, *value);
	}
}

/* SELinux takes the quotes away, which protect commas from the kernel's own parser. */
static void append_labels(GString *opts, const char *const labels[UN_LABELS])
{
	static const char *const names[UN_LABELS] = {
		[UN_LABEL_CONTEXT] = "context",
		[UN_LABEL_FS] = "fscontext",
		[UN_LABEL_DEFAULT] = "defcontext",
		[UN_LABEL_ROOT] = "rootcontext",
	};

	for (int i = 0; i < UN_LABELS; i++) {
		g_autofree char *quoted = labels[i] ? g_strdup_printf("\"%s\"", labels[i]) : NULL;

		if (quoted)
			append_option(opts, names[i], quoted);
	}
}

struct fuse_session *un_mount_session(const struct un_session_request *req, char **ret_err)
{
	g_autoptr(GString) opts = g_string_new("default_permissions");
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se = NULL;
	struct diversion d;

	fuse_set_log_func(log_fuse);
	append_option(opts, "fsname", req->fsname);
	append_option(opts, "subtype", req->subtype);
	if (req->mount_opts && *req->mount_opts)
		g_string_append_printf(opts, ",%s", req->mount_opts);
	append_labels(opts, req->labels);
	if (req->auto_unmount)
		g_string_append(opts, ",auto_unmount");

	divert(&d);
	if (fuse_opt_add_arg(&args, "fuse-unionfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
	    fuse_opt_add_arg(&args, opts->str) == 0)
		se = fuse_session_new(&args, req->table, sizeof(*req->table), req->userdata);
	fuse_opt_free_args(&args);

	g_autofree char *text = restore(&d);

	if (!se) {
		g_autofree char *why = reason(text);

		*ret_err = g_strdup_printf("no FUSE session: %s", why);
	}
	return se;
}

/* One line of mountinfo. */
struct entry {
	int id;
	char dev[32]; /* "MAJOR:MINOR" */
	char *path;   /* owned; as escaped there */
};

/* The line with @id, and with @dev unless that is NULL. 1: found; 0: there is none; or -errno. */
static int find_entry(int id, const char *dev, struct entry *ret)
{
	g_autofree char *mounts = NULL;
	g_auto(GStrv) lines = NULL;

	if (!g_file_get_contents("/proc/self/mountinfo", &mounts, NULL, NULL))
		return -ENODATA;
	lines = g_strsplit(mounts, "\n", -1);
	for (char **l = lines; *l; l++) {
		g_auto(GStrv) fields = NULL;

		if (sscanf(*l, "%d %*d %31s", &ret->id, ret->dev) != 2 || ret->id != id)
			continue;
		fields = g_strsplit(*l, " ", 6);
		if ((dev && strcmp(dev, ret->dev) != 0) || g_strv_length(fields) < 6)
			continue;
		ret->path = g_strdup(fields[4]);
		return 1;
	}
	return 0;
}

/*
 * The mount on top at @path; returns as find_entry(). Sends no request: nobody may be serving yet.
 */
static int top_of(const char *path, struct entry *ret)
{
	/* O_PATH on the root of a mount asks nothing of its file system. */
	un_autofd int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	g_autofree char *fdinfo = g_strdup_printf("/proc/self/fdinfo/%d", fd);
	g_autofree char *text = NULL;
	const char *id;
	int mnt_id;

	if (fd < 0)
		return -errno;
	if (!g_file_get_contents(fdinfo, &text, NULL, NULL))
		return -ENODATA;
	id = strstr(text, "mnt_id:");
	if (!id || sscanf(id, "mnt_id: %d", &mnt_id) != 1)
		return -ENODATA;
	return find_entry(mnt_id, NULL, ret);
}

int un_mount(struct un_mount *m, struct fuse_session *se, char **ret_err)
{
	struct diversion d;
	int r;

	divert(&d);
	r = fuse_session_mount(se, m->path);

	g_autofree char *text = restore(&d);

	if (r) {
		g_autofree char *why = reason(text);

		*ret_err = g_strdup_printf("mountpoint '%s': cannot mount: %s", m->path, why);
		return -1;
	}
	if (*g_strstrip(text))
		un_log(LOG_WARNING, "%s", text);
	m->fd = fuse_session_fd(se);
	if (m->inherited < 0) {
		struct entry top = { 0 };

		if (top_of(m->path, &top) == 1) {
			m->dev = g_strdup(top.dev);
			m->id = top.id;
		}
		g_free(top.path);
	}
	return 0;
}

/* In a child, since it asks our own mount; so does sync(2). */
static int flush_path(const void *arg)
{
	int fd = open(arg, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}

static int flush_all(const void *arg)
{
	(void)arg;
	sync();
	return 0;
}

/* What the kernel still has to write to us. @path: NULL: no path leads to ours, so all there is. */
static void flush_mount(const char *path)
{
	int r = path ? un_outside(flush_path, path) : un_outside(flush_all, NULL);

	if (r < 0)
		un_log(LOG_ERR, "flushing '%s': %s", path ? path : "all mounts", g_strerror(-r));
}

static int run_fusermount(const char *path)
{
	char *argv[] = { (char[]){ "fusermount3" },
			 (char[]){ "-u" },
			 (char[]){ "-z" },
			 (char[]){ "-q" },
			 (char[]){ "--" },
			 (char *)(uintptr_t)path, /* not written to */
			 NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int status;
	int r;

	/* Our threads have the signals blocked that end a program. */
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	/* The program may be in our own mount: it must not hold the connection (transport/outside.h). */
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	r = -posix_spawnp(&pid, "fusermount3", &actions, &attr, argv, environ);
	if (r < 0)
		r = -posix_spawn(&pid, "/usr/bin/fusermount3", &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* The connection has ended: what is at the mountpoint now, if anything, is not ours. */
static bool is_dead(const struct un_mount *m)
{
	struct pollfd p = { .fd = m->fd };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

static bool is_on_top(const struct un_mount *m, const char *path)
{
	struct entry top = { 0 };
	bool ours = top_of(path, &top) == 1 && strcmp(top.dev, m->dev) == 0;

	g_free(top.path);
	return ours;
}

/*
 * Where our mount can be unmounted: where it was made, or where it came to since (moved, or a directory
 * above it was renamed). 1: in *ret_path; 0: it is not in the tree any more; -EBUSY: it is below
 * another mount, where no path leads; or another -errno: that cannot be found out.
 */
static int find_mount(const struct un_mount *m, char **ret_path)
{
	struct entry now = { 0 };
	int r;

	if (is_dead(m))
		return 0;
	if (!m->dev)
		return -ENODATA;
	if (is_on_top(m, m->path)) {
		*ret_path = g_strdup(m->path);
		return 1;
	}
	/* Perhaps unmounted by somebody, and covered by our successor: that is not ours to touch. */
	r = find_entry(m->id, m->dev, &now);
	if (r <= 0)
		return r;
	*ret_path = g_strcompress(now.path);
	g_free(now.path);
	return is_on_top(m, *ret_path) ? 1 : -EBUSY;
}

static int unmount_at(const char *path)
{
	int r = un_errno(umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW));

	if (r == -EPERM)
		r = run_fusermount(path);
	return r == -EINVAL || r == -ENOENT ? 0 : r;
}

/* 0: our mount is not in the tree any more. -errno: it is, and cannot be unmounted by us. */
static int unmount(struct un_mount *m, bool flush)
{
	g_autofree char *path = NULL;
	int r = find_mount(m, &path);

	if (flush && r != 0)
		flush_mount(r == 1 ? path : NULL);
	return r == 1 ? unmount_at(path) : r;
}

void un_unmount(struct un_mount *m, struct un_transport *t, bool flush)
{
	bool first;
	int r;

	if (!m)
		return;
	mount_lock(m);
	first = m->fd >= 0 && !m->unmounted;
	m->unmounted = true;
	mount_unlock(m);
	if (!first)
		return;

	if (m->inherited >= 0) {
		if (t)
			un_transport_stop(t);
		return;
	}
	r = unmount(m, flush);
	if (r == 0)
		return;
	un_log(LOG_ERR, "'%s' cannot be unmounted: %s%s", m->path, g_strerror(-r),
	       r == -EBUSY ? " (another mount covers it; what is below that is not served any more)"
			   : "");
	if (t)
		un_transport_stop(t);
}

void un_mount_end(struct un_mount *m, struct fuse_session *se)
{
	un_unmount(m, NULL, false);
	/*
	 * libfuse unmounts by path whatever is there, unless the connection is dead: then it only
	 * closes the device and forgets the path. While it lives (a lazy unmount of a mount still in
	 * use, an inherited descriptor), closing is all we want.
	 */
	if (m->fd >= 0 && is_dead(m))
		fuse_session_unmount(se);
	m->fd = -1;
	fuse_session_destroy(se);
}
