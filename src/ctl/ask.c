/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One question to a daemon, and its answer or why there is none. */
#include "ask_i.h"

#include "util/ctl-wire.h"
#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* FUSE_SUPER_MAGIC, which no header had at first. */
#define MAGIC_FUSE 0x65735546

static int fail(struct un_ctl_result *ret, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct un_ctl_result *ret, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	g_string_vprintf(ret->text, fmt, ap);
	va_end(ap);
	ret->status = status;
	return -1;
}

static int fail_errno(struct un_ctl_result *ret, const char *path, int err)
{
	switch (err) {
	case EPERM:
		return fail(ret, 1,
			    "'%s': only root and the user whom its daemon runs as may control it",
			    path);
	case EACCES:
		return fail(ret, 1,
			    "'%s': %s: a user's mount lets nobody else in without allow_root or "
			    "allow_other, not even root",
			    path, g_strerror(err));
	case ENOTTY:
	case EINVAL:
	case ENOSYS:
	case EOPNOTSUPP:
		return fail(ret, 1,
			    "'%s' is no mount of fuse-unionfs, or of one that is older than 'ctl'",
			    path);
	case ENOTCONN:
	case ECONNABORTED:
	case ENODEV:
		return fail(ret, 1, "'%s': its daemon has ended: %s", path, g_strerror(err));
	default:
		return fail(ret, 1, "'%s': %s", path, g_strerror(err));
	}
}

/* Other file systems must not see the ioctl: the number may mean something there. */
static int open_root(const char *path, struct un_ctl_result *ret)
{
	un_autofd int fd = -1;
	struct statfs fs;
	struct statx st;

	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(ret, path, errno);
	if (fstatfs(fd, &fs) < 0)
		return fail_errno(ret, path, errno);
	if (fs.f_type != MAGIC_FUSE)
		return fail(ret, 1,
			    "'%s' is no mount of fuse-unionfs: it is on another file system", path);
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) == 0 &&
	    (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) &&
	    !(st.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return fail(ret, 1, "'%s' is a directory in a mount: the mountpoint is wanted",
			    path);
	return un_take_fd(&fd);
}

static int exchange(int fd, const char *path, struct un_ctl *c, struct un_ctl_result *ret)
{
	int r;

	do
		r = un_errno(ioctl(fd, UN_CTL_IOCTL, c));
	while (r == -EINTR);
	if (r < 0)
		return fail_errno(ret, path, -r);
	if (c->status == UN_CTL_VERSIONS || c->version != UN_CTL_VERSION)
		return fail(ret, 1,
			    "'%s': its daemon (version %.*s) and this program (version %s) do not "
			    "understand each other",
			    path, (int)strnlen(c->text, MIN(c->size, 64)), c->text, UN_VERSION);
	if (c->status == UN_CTL_LOST)
		return fail(ret, 1, "'%s': the rest of the answer was lost: try again", path);
	return 0;
}

static int fetch(int fd, const char *path, struct un_ctl *c, struct un_ctl_result *ret)
{
	for (;;) {
		const uint64_t token = c->token;
		bool more;

		if (!un_ctl_append(c, ret->text, &more)) {
			g_string_truncate(ret->text, 0);
			return fail(ret, 1, "'%s': the answer cannot be understood", path);
		}
		if (!more)
			return 0;
		un_ctl_request_part(c, token, ret->text->len);
		if (exchange(fd, path, c, ret) < 0)
			return -1;
	}
}

/* An answer that says no, as a sentence that says whose. */
static void finish(const char *path, const char *command, uint32_t status,
		   struct un_ctl_result *ret)
{
	g_autofree char *said = NULL;

	if (status == UN_CTL_DONE)
		return;
	said = g_string_free(g_steal_pointer(&ret->text), FALSE);
	ret->text = g_string_new(NULL);
	if (status == UN_CTL_UNKNOWN)
		fail(ret, 1, "'%s': its daemon (version %s) does not know the command '%s'", path,
		     said, command);
	else if (status == UN_CTL_MISUSED)
		fail(ret, 2, "%s", said);
	else
		fail(ret, 1, "'%s': %s", path, said);
}

void un_ctl_ask(const char *path, const char *const *words, struct un_ctl_result *ret)
{
	un_autofd int fd = -1;
	struct un_ctl c;
	uint32_t status;

	if (!un_ctl_request(&c, words)) {
		fail(ret, 2, "%s: the words are too long", words[0]);
		return;
	}
	fd = open_root(path, ret);
	if (fd < 0 || exchange(fd, path, &c, ret) < 0)
		return;
	status = c.status;
	if (fetch(fd, path, &c, ret) == 0)
		finish(path, words[0], status, ret);
}
