/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fault loop. For each changing operation and N = 1, 2, 3...: the Nth call on the upper fails once,
 * until the operation succeeds without having met the fault. Each time
 *
 *   - the operation returned the injected errno (or one that is documented for it), or succeeded;
 *   - the merged tree, as the living union shows it and as another one opened on the same layers shows
 *     it, is that of before or that of after, never something between;
 *   - what was held open is still there;
 *   - nothing staged is left in the work directory, and nothing at all when the union is closed;
 *   - the operation, done again, succeeds with the right result;
 *   - no descriptor is left open, and the lowers are untouched.
 *
 * Everything runs as root and, in a child, as a plain user, where the daemon has harder ways to go.
 * With arguments only the cases whose names contain one of them run; UN_FAULTS_VERBOSE tells of each
 * fault.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/layer-fault.h"
#include "../lib/stack.h"
#include "util/err.h"

/* ------------------------------------------------------------------------------------------------
 * A decorator around the one that fails: which call was it?
 */

struct recorder {
	struct un_layer inner;
	struct un_fault *f;
	char op[16];
	char what[600];
};

static struct un_layer *inner(struct un_layer *l)
{
	return &((struct recorder *)l->ops_data)->inner;
}

static bool armed(struct un_layer *l)
{
	return !((struct recorder *)l->ops_data)->f->hit;
}

static void hit(struct un_layer *l, bool was_armed, const char *op, const char *a, const char *b,
		unsigned flags)
{
	struct recorder *rec = l->ops_data;

	if (!was_armed || !rec->f->hit)
		return;
	g_strlcpy(rec->op, op, sizeof(rec->op));
	/* A stage name without the mount's id, which is another each time. */
	if (*a == '#')
		a = strchr(a, '-') ? "#staged" : "#";
	if (*b == '#')
		b = strchr(b, '-') ? "#staged" : "#";
	snprintf(rec->what, sizeof(rec->what), "%s(%s%s%s%s%.0x)", op, a, *b ? ", " : "", b,
		 flags ? ", flags " : "", flags);
}

#define RECORD(type, op, a, b, flags, params, args)                                                \
	static type rec_##op params                                                                \
	{                                                                                          \
		bool was = armed(l);                                                               \
		type r = inner(l)->ops->op args;                                                   \
                                                                                                   \
		hit(l, was, #op, a, b, flags);                                                     \
		return r;                                                                          \
	}

RECORD(int, open, name, "", (unsigned)how,
       (struct un_layer * l, int dirfd, const char *name, int how, mode_t mode),
       (inner(l), dirfd, name, how, mode))
RECORD(int, stat, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, struct statx *ret),
       (inner(l), dirfd, name, ret))
RECORD(ssize_t, readlink, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, char *buf, size_t size),
       (inner(l), dirfd, name, buf, size))
RECORD(ssize_t, getxattr, name, xattr, 0,
       (struct un_layer * l, int dirfd, const char *name, const char *xattr, void *buf,
	size_t size),
       (inner(l), dirfd, name, xattr, buf, size))
RECORD(ssize_t, listxattr, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, char *buf, size_t size),
       (inner(l), dirfd, name, buf, size))
RECORD(ssize_t, getdents, "", "", 0, (struct un_layer * l, int fd, void *buf, size_t size),
       (inner(l), fd, buf, size))
RECORD(ssize_t, pread, "", "", 0, (struct un_layer * l, int fd, void *buf, size_t size, off_t off),
       (inner(l), fd, buf, size, off))
RECORD(int, setxattr, name, xattr, 0,
       (struct un_layer * l, int dirfd, const char *name, const char *xattr, const void *value,
	size_t size, int how),
       (inner(l), dirfd, name, xattr, value, size, how))
RECORD(int, removexattr, name, xattr, 0,
       (struct un_layer * l, int dirfd, const char *name, const char *xattr),
       (inner(l), dirfd, name, xattr))
RECORD(int, mkdir, name, "", 0, (struct un_layer * l, int dirfd, const char *name, mode_t mode),
       (inner(l), dirfd, name, mode))
RECORD(int, mknod, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, mode_t mode, dev_t rdev),
       (inner(l), dirfd, name, mode, rdev))
RECORD(int, symlink, target, name, 0,
       (struct un_layer * l, const char *target, int dirfd, const char *name),
       (inner(l), target, dirfd, name))
RECORD(int, link, from, name, 0,
       (struct un_layer * l, int from_dirfd, const char *from, int dirfd, const char *name),
       (inner(l), from_dirfd, from, dirfd, name))
RECORD(int, rename, from, name, how,
       (struct un_layer * l, int from_dirfd, const char *from, int dirfd, const char *name,
	unsigned how),
       (inner(l), from_dirfd, from, dirfd, name, how))
RECORD(int, unlink, name, "", (unsigned)how,
       (struct un_layer * l, int dirfd, const char *name, int how), (inner(l), dirfd, name, how))
RECORD(int, chown, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, uid_t uid, gid_t gid),
       (inner(l), dirfd, name, uid, gid))
RECORD(int, chmod, name, "", 0, (struct un_layer * l, int dirfd, const char *name, mode_t mode),
       (inner(l), dirfd, name, mode))
RECORD(int, utimens, name, "", 0,
       (struct un_layer * l, int dirfd, const char *name, const struct timespec ts[2]),
       (inner(l), dirfd, name, ts))
RECORD(int, truncate, "", "", 0, (struct un_layer * l, int fd, off_t size), (inner(l), fd, size))
RECORD(ssize_t, pwrite, "", "", 0,
       (struct un_layer * l, int fd, const void *buf, size_t size, off_t off),
       (inner(l), fd, buf, size, off))
RECORD(int, clone, "", "", 0, (struct un_layer * l, int fd, int from), (inner(l), fd, from))
RECORD(ssize_t, copy_range, "", "", 0,
       (struct un_layer * l, int from, off_t from_off, int fd, off_t off, size_t size),
       (inner(l), from, from_off, fd, off, size))
RECORD(int, fallocate, "", "", 0, (struct un_layer * l, int fd, int mode, off_t off, off_t len),
       (inner(l), fd, mode, off, len))
RECORD(int, fsync, "", "", 0, (struct un_layer * l, int fd, bool data_only),
       (inner(l), fd, data_only))

static const struct un_layer_ops recorder_ops = {
	.open = rec_open,
	.stat = rec_stat,
	.readlink = rec_readlink,
	.getxattr = rec_getxattr,
	.listxattr = rec_listxattr,
	.getdents = rec_getdents,
	.pread = rec_pread,
	.setxattr = rec_setxattr,
	.removexattr = rec_removexattr,
	.mkdir = rec_mkdir,
	.mknod = rec_mknod,
	.symlink = rec_symlink,
	.link = rec_link,
	.rename = rec_rename,
	.unlink = rec_unlink,
	.chown = rec_chown,
	.chmod = rec_chmod,
	.utimens = rec_utimens,
	.truncate = rec_truncate,
	.pwrite = rec_pwrite,
	.clone = rec_clone,
	.copy_range = rec_copy_range,
	.fallocate = rec_fallocate,
	.fsync = rec_fsync,
};

static void un_layer_record(struct un_layer *l, struct recorder *rec, struct un_fault *f)
{
	rec->op[0] = rec->what[0] = '\0';
	rec->inner = *l;
	rec->f = f;
	l->ops = &recorder_ops;
	l->ops_data = rec;
}

static void un_layer_unrecord(struct un_layer *l, const struct recorder *rec)
{
	l->ops = rec->inner.ops;
	l->ops_data = rec->inner.ops_data;
}

/* ------------------------------------------------------------------------------------------------
 * Cases
 */

enum {
	ROOT = 1 << 0,        /* needs root: owners, devices */
	USER = 1 << 1,        /* is of interest without it only */
	OR_XDEV = 1 << 2,     /* EXDEV is documented: the caller copies */
	NO_TMPFILE = 1 << 3,  /* on an upper that lacks it */
	NO_WHITEOUT = 1 << 4, /* RENAME_WHITEOUT */
	NO_EXCHANGE = 1 << 5, /* RENAME_EXCHANGE and NOREPLACE */
	SYNC = 1 << 6,
	CLONE = 1 << 7,       /* layers that are private clones of their mounts */
	IN_TWO = 1 << 8,      /* two steps, the state between is documented */
	REVALIDATE = 1 << 10, /* timeout=0 */
	CLEARS = 1 << 9,      /* an empty target directory is prepared first */
};

struct fault_case {
	const char *name;
	const char *stack;
	const char *op;
	unsigned flags;
	const char *held; /* an object that somebody has open meanwhile */
};

/* A lower file and directory that have all that can be copied. */
#define RICH                                                                                       \
	"1 d/ mode=0750 own=3:4 user.dir=attr acl=7:5 time=900000000\n"                            \
	"1 d/e/ mode=0711 own=3:4 user.deep=attr defacl=8:7 time=900000001\n"                      \
	"1 d/e/f = some-data mode=04751 own=5:6 user.a=1 user.b=22 acl=1000:6 time=900000002\n"    \
	"1 d/e/l -> target own=5:6 time=900000004\n"                                               \
	"1 d/e/p fifo mode=0620 own=5:6 time=900000005\n"

#define BIG "1 d/e/f2 = more size=1200000 user.a=1 mode=0640 time=900000003\n"

#define PLAIN "1 d/f = lower time=900000000\nu d/g = upper time=900000001\n"
#define COPIED "1 d/f = lower\nu d/f = changed overlay.origin= user.x=y\n"

static const struct fault_case cases[] = {
	/* names that are made */
	{ "create", "1 a = x", "create new 0640" },
	{ "create-in-lower", RICH, "create d/e/new 0640" },
	{ "create-over-whiteout", "1 d/w = lower\nu d/w whiteout", "create d/w 0600" },
	{ "create-over-whiteout-sgid", "1 d/w = lower\nu d/ mode=02775 own=0:50\nu d/w whiteout",
	  "create d/w 02755", ROOT },
	{ "create-over-whiteout-acl", "1 d/w = lower\nu d/ defacl=9:7\nu d/w whiteout",
	  "create d/w 0666" },
	{ "create-over-lower-whiteout", "2 d/w = low\n1 d/w whiteout\nu d/", "create d/w 0600" },
	{ "create-acl", "u d/ defacl=9:7", "create d/w 0666" },
	{ "create-as-stranger", "u d/ mode=0700", "create d/w 0604 as=1000:1000", ROOT },
	{ "create-as-stranger-acl", "u d/ mode=0700 defacl=9:7", "create d/w 0604 as=1000:1000",
	  ROOT },
	{ "create-over-whiteout-no-exchange", "1 d/w = lower\nu d/w whiteout", "create d/w 0600",
	  NO_EXCHANGE | NO_TMPFILE },
	{ "create-in-readonly", "1 d/x = 1\nu d/ mode=0555", "create d/new 0444", ROOT },
	{ "create-in-clone", "1 d/x = 1", "create d/new 0444", CLONE },
	{ "mkdir", "1 a = x", "mkdir new 0750" },
	{ "mkdir-in-lower", RICH, "mkdir d/e/new 0750" },
	{ "mkdir-over-whiteout", "1 d/w/x = lower\nu d/w whiteout", "mkdir d/w 0700" },
	{ "mkdir-over-whiteout-readonly", "1 d/w/x = lower\nu d/w whiteout", "mkdir d/w 0555" },
	{ "mkdir-over-whiteout-acl", "1 d/w/x = lower\nu d/ defacl=9:7\nu d/w whiteout",
	  "mkdir d/w 0777" },
	{ "mkdir-over-whiteout-no-exchange", "1 d/w/x = lower\nu d/w whiteout", "mkdir d/w 0700",
	  NO_EXCHANGE | NO_TMPFILE },
	{ "mkdir-as-stranger", "u d/ mode=02700 own=0:50", "mkdir d/w 0705 as=1000:1000", ROOT },
	{ "symlink", "1 d/a = x", "symlink d/new to/somewhere" },
	{ "symlink-over-whiteout", "1 d/w = lower\nu d/w whiteout", "symlink d/w to/somewhere" },
	{ "fifo", "1 d/a = x", "fifo d/new 0622" },
	{ "fifo-over-whiteout", "1 d/w = lower\nu d/w whiteout", "fifo d/w 0622" },
	{ "mknod", "1 d/a = x", "mknod d/new 0622 1:3", ROOT },
	{ "mknod-over-whiteout", "1 d/w = lower\nu d/w whiteout", "mknod d/w 0622 1:3", ROOT },
	{ "tmpfile-link", "1 d/a = x", "tmpfile d text d/new" },
	{ "tmpfile-link-over-whiteout", "1 d/w = x\nu d/w whiteout", "tmpfile d text d/w" },

	{ "create-over-whiteout-revalidate", "1 d/w = lower\nu d/w whiteout", "create d/w 0600",
	  REVALIDATE },

	/* names that go */
	{ "unlink-upper", "u d/f = upper\n1 d/g = lower", "unlink d/f", .held = "d/f" },
	{ "unlink-lower", PLAIN, "unlink d/f", .held = "d/f" },
	{ "unlink-lower-deep", RICH, "unlink d/e/f", .held = "d/e/f" },
	{ "unlink-lower-in-clone", PLAIN, "unlink d/f", CLONE, .held = "d/f" },
	{ "unlink-copied", COPIED, "unlink d/f", .held = "d/f" },
	{ "unlink-link", "u d/f = upper\nu d/g == d/f", "unlink d/f", .held = "d/f" },
	{ "unlink-copied-link", "1 d/f = x\nu d/f = upper\nu d/g == d/f", "unlink d/f",
	  .held = "d/g" },
	{ "unlink-symlink", RICH, "unlink d/e/l", .held = "d/e/l" },
	{ "unlink-fifo", RICH, "unlink d/e/p", .held = "d/e/p" },
	{ "unlink-in-readonly", COPIED "u d/ mode=0555", "unlink d/f", .held = "d/f" },
	{ "unlink-over-lower-whiteout", "2 d/f = 2\n1 d/f whiteout\nu d/f = upper", "unlink d/f",
	  .held = "d/f" },
	{ "unlink-copied-revalidate", COPIED, "unlink d/f", REVALIDATE, .held = "d/f" },
	{ "rmdir-upper", "u d/x/ user.a=b", "rmdir d/x", .held = "d/x" },
	{ "rmdir-lower", "1 d/x/ user.a=b", "rmdir d/x", .held = "d/x" },
	{ "rmdir-merged", "1 d/x/ user.a=b\nu d/x/ user.c=d", "rmdir d/x", .held = "d/x" },
	{ "rmdir-merged-whiteouts",
	  "1 d/x/f = x\n1 d/x/g = y\nu d/x/ user.a=b\nu d/x/f whiteout\nu d/x/g whiteout",
	  "rmdir d/x", .held = "d/x" },
	{ "rmdir-merged-whiteouts-no-exchange", "1 d/x/f = x\nu d/x/ user.a=b\nu d/x/f whiteout",
	  "rmdir d/x", NO_EXCHANGE | IN_TWO, .held = "d/x" },
	{ "rmdir-merged-readonly", "1 d/x/f = x\nu d/x/f whiteout\nu d/x/ mode=0555", "rmdir d/x",
	  .held = "d/x" },
	{ "rmdir-pure-whiteouts", "u d/x/\nu d/x/f whiteout\nu d/x/g whiteout", "rmdir d/x",
	  .held = "d/x" },
	{ "rmdir-opaque", "1 d/x/f = x\nu d/x/ overlay.opaque=y", "rmdir d/x", .held = "d/x" },
	{ "rmdir-opaque-whiteouts", "1 d/x/f = x\nu d/x/ overlay.opaque=y\nu d/x/f whiteout",
	  "rmdir d/x", .held = "d/x" },
	{ "rmdir-lower-whiteouts", "2 d/x/f = x\n1 d/x/f whiteout", "rmdir d/x", .held = "d/x" },

	/* the rows of rename's table */
	{ "rename-upper", "u d/f = upper\n1 d/g = l", "rename d/f d/n", .held = "d/f" },
	{ "rename-upper-noreplace", "u d/f = upper\n1 d/g = l", "rename d/f d/n noreplace" },
	{ "rename-upper-over-upper", "u d/f = f\nu d/g = g", "rename d/f d/g", .held = "d/g" },
	{ "rename-upper-over-lower", PLAIN, "rename d/g d/f", .held = "d/f" },
	{ "rename-upper-over-copied", COPIED "u d/g = g", "rename d/g d/f", .held = "d/f" },
	{ "rename-upper-over-whiteout", PLAIN "1 d/w = x\nu d/w whiteout", "rename d/g d/w" },
	{ "rename-lower", PLAIN, "rename d/f d/n", .held = "d/f" },
	{ "rename-lower-deep", RICH "1 a/b/c/x = 1\n", "rename d/e/f a/b/c/n", .held = "d/e/f" },
	{ "rename-lower-symlink", RICH, "rename d/e/l d/n", .held = "d/e/l" },
	{ "rename-lower-fifo", RICH, "rename d/e/p d/n", .held = "d/e/p" },
	{ "rename-lower-over-upper", PLAIN, "rename d/f d/g", .held = "d/g" },
	{ "rename-lower-over-lower", PLAIN "1 d/h = h", "rename d/f d/h", .held = "d/h" },
	{ "rename-lower-over-whiteout", PLAIN "1 d/w = x\nu d/w whiteout", "rename d/f d/w" },
	{ "rename-copied", COPIED, "rename d/f n", .held = "d/f" },
	{ "rename-copied-over-whiteout", COPIED "1 d/w = x\nu d/w whiteout", "rename d/f d/w" },
	{ "rename-copied-over-copied", COPIED "1 h = l\nu h = u", "rename d/f h", .held = "h" },
	{ "rename-link-over", "u d/f = f\nu d/g = g\nu d/h == d/g", "rename d/f d/g",
	  .held = "d/g" },
	{ "rename-lower-no-whiteout", PLAIN, "rename d/f d/n", NO_WHITEOUT | IN_TWO,
	  .held = "d/f" },
	{ "rename-lower-over-upper-no-whiteout", PLAIN, "rename d/f d/g", NO_WHITEOUT | IN_TWO,
	  .held = "d/g" },
	{ "rename-copied-no-tmpfile", COPIED, "rename d/f n", NO_TMPFILE },
	{ "rename-lower-no-tmpfile", RICH, "rename d/e/f n", NO_TMPFILE },
	{ "rename-in-readonly", PLAIN "u d/ mode=0555\n1 r/x = 1\nu r/ mode=0555",
	  "rename d/f r/n" },
	{ "rename-dir", "1 d/x = 1\nu d/s/f = f", "rename d/s d/t", OR_XDEV, .held = "d/s" },
	{ "rename-dir-across", "1 d/x = 1\nu d/s/f = f\n1 e/x = 1", "rename d/s e/t", OR_XDEV,
	  .held = "d/s/f" },
	{ "rename-dir-readonly", "1 d/x = 1\nu d/s/f = f\nu d/s/ mode=0555\n1 e/x = 1",
	  "rename d/s e/t", OR_XDEV },
	{ "rename-dir-over-whiteout", "1 d/w = 1\nu d/w whiteout\nu d/s/f = f", "rename d/s d/w",
	  OR_XDEV },
	{ "rename-dir-opaque", "1 d/s/g = 1\nu d/s/f = f\nu d/s/ overlay.opaque=y",
	  "rename d/s d/t", .held = "d/s" },
	{ "rename-dir-opaque-over-whiteout",
	  "1 d/w = 1\nu d/w whiteout\n1 d/s/g = 1\nu d/s/f = f\nu d/s/ overlay.opaque=y",
	  "rename d/s d/w" },
	{ "rename-dir-over-upper-empty", "1 d/x = 1\nu d/s/f = f\nu d/t/", "rename d/s d/t",
	  OR_XDEV, .held = "d/t" },
	{ "rename-dir-over-lower-empty",
	  "1 d/t/ user.a=b acl=5:7 mode=0751 own=3:4 time=900000000\nu d/s/f = f", "rename d/s d/t",
	  OR_XDEV, .held = "d/t" },
	{ "rename-dir-over-merged-empty",
	  "1 d/t/f = l\nu d/t/ user.a=b acl=5:7 mode=0751 own=3:4 time=900000000\nu d/t/f whiteout\n"
	  "u d/s/f = f",
	  "rename d/s d/t", OR_XDEV | CLEARS, .held = "d/t" },
	{ "rename-dir-over-pure-whiteouts", "u d/t/ user.a=b\nu d/t/f whiteout\nu d/s/f = f",
	  "rename d/s d/t", OR_XDEV | CLEARS, .held = "d/t" },
	{ "rename-dir-over-opaque-empty",
	  "1 d/t/f = 1\nu d/t/ overlay.opaque=y user.a=b\nu d/s/f = f", "rename d/s d/t",
	  OR_XDEV | CLEARS, .held = "d/t" },
	{ "rename-opaque-over-merged-empty",
	  "1 d/t/f = l\nu d/t/ user.a=b\nu d/t/f whiteout\n1 d/s/g = l\nu d/s/ overlay.opaque=y\n"
	  "u d/s/f = f",
	  "rename d/s d/t", OR_XDEV | CLEARS, .held = "d/t" },
	{ "exchange-lower", PLAIN "1 e/h = h", "rename d/f e/h exchange", .held = "e/h" },
	{ "exchange-upper", "u d/f = f\nu d/g = g", "rename d/f d/g exchange" },
	{ "exchange-copied-upper", COPIED "u d/g = g", "rename d/f d/g exchange" },
	{ "exchange-file-dir", "1 d/x = 1\nu d/f = f\nu e/s/g = g\n1 e/x = 1",
	  "rename d/f e/s exchange", OR_XDEV },
	{ "exchange-dir-dir", "1 d/x = 1\nu d/s/f = f\nu e/s/g = g\n1 e/x = 1",
	  "rename d/s e/s exchange", OR_XDEV },
	{ "exchange-lower-symlink-fifo", RICH, "rename d/e/l d/e/p exchange" },

	{ "rename-lower-revalidate", PLAIN, "rename d/f d/n", REVALIDATE, .held = "d/f" },
	{ "exchange-revalidate", PLAIN "1 e/h = h", "rename d/f e/h exchange", REVALIDATE },

	/* more names for one object */
	{ "link-upper", "u d/f = f\n1 d/x = 1", "link d/f d/n" },
	{ "link-lower", RICH "1 a/b/x = 1\n", "link d/e/f a/b/n", .held = "d/e/f" },
	{ "link-copied", COPIED "1 e/x = 1", "link d/f e/n" },
	{ "link-over-whiteout", COPIED "1 e/w = 1\nu e/w whiteout", "link d/f e/w" },
	{ "link-lower-over-whiteout", PLAIN "1 e/w = 1\nu e/w whiteout", "link d/f e/w" },
	{ "link-symlink", RICH, "link d/e/l d/n" },

	/* changes of an object: copy-up, then the change */
	{ "write", RICH, "write d/e/f XXX 2", .held = "d/e/f" },
	{ "write-in-clone", RICH, "write d/e/f XXX 2", CLONE, .held = "d/e/f" },
	{ "write-big", BIG, "write d/e/f2 XXX 1100000", .held = "d/e/f2" },
	{ "write-sync", RICH, "write d/e/f XXX", SYNC },
	{ "write-no-tmpfile", RICH, "write d/e/f XXX", NO_TMPFILE, .held = "d/e/f" },
	{ "write-no-exchange", RICH, "write d/e/f XXX", NO_TMPFILE | NO_EXCHANGE },
	{ "write-upper", "u d/f = text", "write d/f XXX" },
	/* Between copy-up and writing it is a file of its own. */
	{ "write-hard-link", "1 d/f = text\n1 d/g == d/f", "write d/f XXX", IN_TWO },
	{ "truncate-0", RICH, "truncate d/e/f 0", .held = "d/e/f" },
	{ "truncate-some", BIG, "truncate d/e/f2 1100000" },
	{ "truncate-up", RICH, "truncate d/e/f 100" },
	{ "fallocate", RICH, "fallocate d/e/f 5000" },
	{ "chmod", RICH, "chmod d/e/f 0600", .held = "d/e/f" },
	{ "chmod-to-nothing", RICH, "chmod d/e/f 0" },
	{ "chmod-dir", RICH, "chmod d/e 0700", .held = "d/e" },
	{ "chmod-fifo", RICH, "chmod d/e/p 0600", .held = "d/e/p" },
	{ "chown", RICH, "chown d/e/f 7:8", ROOT },
	{ "chown-symlink", RICH, "chown d/e/l 7:8", ROOT },
	{ "chown-dir", RICH, "chown d/e 7:8", ROOT },
	{ "utime", RICH, "utime d/e/f 950000000" },
	{ "utime-symlink", RICH, "utime d/e/l 950000000", .held = "d/e/l" },
	{ "utime-dir", RICH, "utime d/e 950000000" },
	{ "setxattr", RICH, "setxattr d/e/f user.new value" },
	{ "setxattr-dir", RICH, "setxattr d/e user.new value" },
	{ "setxattr-nested", RICH, "setxattr d/e/f trusted.overlay.opaque z", ROOT },
	{ "setacl", RICH, "setacl d/e/f 77:7" },
	{ "rmxattr", RICH, "rmxattr d/e/f user.a" },
	{ "rmacl", RICH, "rmxattr d/e/f system.posix_acl_access" },
	{ "deep-parents",
	  "1 a/b/c/d/e/f/g/h/ user.a=b mode=0711\n1 a/b/c/d/e/f/g/h/i = x\n"
	  "1 a/b/c/ mode=0750 time=900000000\n2 a/b/c/d/e/y = 2\nu a/b/z = z",
	  "write a/b/c/d/e/f/g/h/i YY" },
	{ "readonly-parents",
	  "1 a/b/c/f = x mode=0444\n1 a/b/c/ mode=0555 time=900000000\n"
	  "1 a/b/ mode=0555\n1 a/ mode=0555",
	  "utime a/b/c/f 950000000" },
};

/* ------------------------------------------------------------------------------------------------
 * The loop
 */

struct mode {
	const char *name;
	int err;
	bool changes_only;
	bool primed;   /* everything has been looked up and listed before, and is remembered */
	bool for_user; /* worth doing without privilege too */
};

static const struct mode modes[] = {
	{ "EIO, any call", EIO, false, false, false },
	{ "EIO, any call, primed", EIO, false, true, true },
	{ "ENOSPC", ENOSPC, true, false, true },
	{ "EDQUOT, primed", EDQUOT, true, true, false },
};

struct run {
	const struct fault_case *c;
	const struct mode *m;
	struct stack s;
	char *names;
	char *before, *after;
	char *held_before;
	int n;
	GString *complaints;
	GHashTable *told;
	unsigned faults, errors_after;

	struct un_layers *ls;
	struct un_fs *fs;
	struct un_layer *upper;
	struct un_fault fault;
	struct recorder rec;
	unsigned fds;
	struct un_inode *held;
};

static void complain(struct run *v, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void complain(struct run *v, const char *fmt, ...)
{
	g_autofree char *what = NULL, *key = NULL;
	va_list ap;

	va_start(ap, fmt);
	what = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	key = g_strconcat(v->rec.what, what, NULL);
	if (!g_hash_table_add(v->told, g_steal_pointer(&key)))
		return;
	g_string_append_printf(v->complaints, "  %s [%s] N=%d, failing %s: %s\n", v->c->op,
			       v->m ? v->m->name : "no fault", v->n,
			       *v->rec.what ? v->rec.what : "nothing", what);
}

/* The lines in which two views differ. */
static char *diff(const char *want, const char *got)
{
	g_auto(GStrv) a = g_strsplit(want, "\n", -1), b = g_strsplit(got, "\n", -1);
	GString *out = g_string_new("");

	for (char **p = a; *p; p++)
		if (**p && !g_strv_contains((const char *const *)b, *p))
			g_string_append_printf(out, "\n    - %s", *p);
	for (char **p = b; *p; p++)
		if (**p && !g_strv_contains((const char *const *)a, *p))
			g_string_append_printf(out, "\n    + %s", *p);
	return g_string_free(out, FALSE);
}

static char *replace(const char *view, const char *pattern, const char *by)
{
	g_autoptr(GRegex) re = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL);

	return g_regex_replace(re, view, -1, 0, by, 0, NULL);
}

/* What may differ after this fault. */
static char *normal(const struct run *v, const char *view)
{
	char *text = g_strdup(view), *old;

#define REPLACE(pattern, by) (old = text, text = replace(old, pattern, by), g_free(old))
	/* Best effort, as in the kernel: giving a directory its times back. */
	if (strcmp(v->rec.op, "utimens") == 0)
		REPLACE("^(\\S* d\\d+ \\S+) \\S+", "\\1 T");
	/* What was made and cannot be looked at is removed again. */
	if (strcmp(v->rec.op, "stat") == 0)
		REPLACE("^(\\S* d\\d+ \\S+) \\S+", "\\1 T");
	/* An empty target is replaced by a really empty one first, which its directory's time tells. */
	if (v->c->flags & CLEARS)
		REPLACE("^(d d\\d+ \\S+) \\S+", "\\1 T");
	/* A plain user's read-only directory stays open when it cannot be closed again (un_lifted). */
	if (strcmp(v->rec.op, "chmod") == 0 && geteuid() != 0 && !strstr(v->rec.what, "#staged"))
		REPLACE("^(\\S*) d\\d+", "\\1 d");
#undef REPLACE
	return text;
}

static bool same(struct run *v, const char *a, const char *b)
{
	g_autofree char *x = NULL, *y = NULL;

	if (strcmp(a, b) == 0)
		return true;
	x = normal(v, a);
	y = normal(v, b);
	return strcmp(x, y) == 0;
}

static void set_caps(struct run *v)
{
	struct un_layer_caps *caps = &v->ls->v[0].caps;

	if (v->c->flags & NO_TMPFILE)
		caps->tmpfile = false;
	if (v->c->flags & NO_WHITEOUT)
		caps->rename_whiteout = false;
	if (v->c->flags & NO_EXCHANGE)
		caps->rename_exchange = false;
}

static void open_union(struct run *v)
{
	v->fds = stack_count_fds();
	v->ls = stack_layers(&v->s);
	set_caps(v);
	v->upper = &v->ls->v[0];
	v->fault = (struct un_fault){ .countdown = -1, .hit = true };
	un_layer_fault(v->upper, &v->fault);
	un_layer_record(v->upper, &v->rec, &v->fault);
	v->fs = stack_fs_on(&v->s, v->ls);
}

static void close_union(struct run *v)
{
	g_autofree char *work = NULL;

	un_inode_put(v->fs, v->held);
	v->held = NULL;
	un_layer_unrecord(v->upper, &v->rec);
	un_layer_unfault(v->upper);
	un_fs_free(v->fs);
	work = stack_ls(&v->s, "work/work");
	if (*work)
		complain(v, "left in work/work after un_fs_free: %s", work);
	if (stack_count_fds() != v->fds)
		complain(v, "descriptors leaked: %u before, %u after", v->fds, stack_count_fds());
}

static int run_op(struct run *v, int countdown)
{
	int r;

	v->fault = (struct un_fault){ .countdown = countdown,
				      .err = v->m ? v->m->err : 0,
				      .changes_only = v->m && v->m->changes_only };
	r = stack_do(v->fs, v->c->op);
	v->fault.countdown = -1;
	return r;
}

/*
 * Staged things that live on, but for the lock and the whiteouts' master. If it was their removal that
 * failed, this is made good when the union is closed: no reason for the operation to fail.
 */
static void check_work(struct run *v, int r)
{
	g_autofree char *all = stack_ls(&v->s, "work/work");
	g_auto(GStrv) names = g_strsplit(all, " ", -1);

	for (char **p = names; *p; p++) {
		if (!**p || g_str_has_suffix(*p, ".lock") || g_str_has_suffix(*p, "-wh"))
			continue;
		if (v->fault.hit && (r >= 0 || strcmp(v->rec.op, "unlink") == 0))
			continue;
		complain(v, "left in work/work: %s", *p);
	}
}

static char *view_of_held(struct run *v)
{
	struct statx st;
	char buf[256];
	ssize_t n = 0;
	int r;

	if (!v->held)
		return g_strdup("");
	r = un_getattr(v->fs, v->held, &st);
	if (r < 0)
		return g_strdup_printf("getattr: %s", g_strerror(-r));
	if (S_ISREG(st.stx_mode))
		n = un_read(v->fs, v->held, buf, sizeof(buf), 0);
	if (S_ISLNK(st.stx_mode))
		n = un_readlink(v->fs, v->held, buf, sizeof(buf));
	if (n < 0)
		return g_strdup_printf("read: %s", g_strerror((int)-n));
	return g_strdup_printf("type %o size %llu ino %llu: %.*s", st.stx_mode & S_IFMT,
			       S_ISDIR(st.stx_mode) ? 0ull : (unsigned long long)st.stx_size,
			       (unsigned long long)st.stx_ino, (int)MIN(n, 40), buf);
}

static void open_held(struct run *v)
{
	int r;

	if (v->c->held) {
		v->held = stack_find(v->fs, v->c->held, &r);
		assert_int_equal(r, 0);
	}
	v->held_before = view_of_held(v);
}

/* Changes of data and attributes show in what is held; otherwise it stays what it was. */
static void check_held(struct run *v, bool done)
{
	g_autofree char *now = view_of_held(v);
	bool changes = !g_str_has_prefix(v->c->op, "unlink") &&
		       !g_str_has_prefix(v->c->op, "rmdir") &&
		       !g_str_has_prefix(v->c->op, "rename");

	if (g_str_has_prefix(now, "getattr:") || g_str_has_prefix(now, "read:"))
		complain(v, "what was held open is lost: %s", now);
	else if (!(done && changes) && strcmp(now, v->held_before) != 0)
		complain(v, "what was held open was \"%s\", is \"%s\"", v->held_before, now);
	g_clear_pointer(&v->held_before, g_free);
}

/* v->before, v->after or, complaining, NULL. */
static const char *which(struct run *v, int r, const char *who, const char *view)
{
	g_autofree char *a = NULL, *b = NULL;

	if (r >= 0 && same(v, view, v->after))
		return v->after;
	if (same(v, view, v->before))
		return v->before;
	if (same(v, view, v->after))
		return v->after;
	a = diff(v->before, view);
	b = diff(v->after, view);
	if (!(v->c->flags & IN_TWO) || strstr(view, " !"))
		complain(v, "%s sees something between;\n   before -> it:%s\n   after -> it:%s",
			 who, a, b);
	return NULL;
}

static char *view_from_outside(struct run *v)
{
	struct un_fs *fs = stack_fs(&v->s);
	char *view = stack_view(fs, 0, NULL);

	un_fs_free(fs);
	return view;
}

static void check_errno(struct run *v, int r)
{
	if (r >= 0 || r == -v->m->err)
		return;
	if (r == -EXDEV && (v->c->flags & OR_XDEV))
		return;
	complain(v, "returned %s", g_strerror(-r));
}

/* The operation once more, with nothing in its way. */
static void repeat(struct run *v, const char *state)
{
	g_autofree char *view = NULL;
	int r = run_op(v, -1);

	/* It has happened although it said no: then there is nothing left to do for some. */
	if (state == v->after) {
		v->errors_after++;
		if (r == -EEXIST || r == -ENOENT || r == -ENODATA)
			r = 0;
	}
	if (r < 0) {
		complain(v, "done again: %s", g_strerror(-r));
		return;
	}
	view = stack_view(v->fs, STACK_VIEW_NAMES, v->names);
	if (!same(v, view, v->after)) {
		g_autofree char *d = diff(v->after, view);

		complain(v, "done again, it sees not the result:%s", d);
	}
}

static void check_after(struct run *v, int r)
{
	g_autofree char *living = stack_view(v->fs, STACK_VIEW_NAMES, v->names);
	g_autofree char *outside = view_from_outside(v);
	const char *state = which(v, r, "the living union", living);
	const char *state2 = which(v, r, "another union", outside);

	if (state && state2 && state != state2)
		complain(v, "the living union sees the state %s, another one that %s",
			 state == v->before ? "before" : "after",
			 state2 == v->before ? "before" : "after");
	if (r >= 0 && state == v->before)
		complain(v, "succeeded, but nothing happened");
	check_work(v, r);
	check_held(v, r >= 0 || state == v->after);
	if (r < 0)
		repeat(v, state);
}

/* Returns false when the operation does not come as far as the fault. */
static bool one_fault(struct run *v)
{
	bool was_hit;
	int r;

	stack_reset_upper(&v->s);
	open_union(v);
	if (v->m->primed)
		g_free(stack_view(v->fs, STACK_VIEW_KEEP, NULL));
	open_held(v);
	r = run_op(v, v->n);
	was_hit = v->fault.hit;
	if (getenv("UN_FAULTS_VERBOSE"))
		print_message("%s [%s] N=%d %s: %s\n", v->c->op, v->m->name, v->n, v->rec.what,
			      g_strerror(-MIN(r, 0)));
	if (!was_hit && r < 0)
		complain(v, "failed without a fault: %s", g_strerror(-r));
	check_errno(v, r);
	check_after(v, r);
	close_union(v);
	if (!v->m->primed) {
		g_autofree char *outside = view_from_outside(v);

		if (!same(v, outside, v->after) && !(v->c->flags & IN_TWO)) {
			g_autofree char *d = diff(v->after, outside);

			complain(v, "closed and opened again, not the result:%s", d);
		}
	}
	return was_hit;
}

/* What the tree looks like before, and after an operation without a fault. */
static void learn(struct run *v)
{
	g_autofree char *outside = NULL, *names = stack_names(&v->s);
	g_auto(GStrv) words = g_strsplit_set(v->c->op, " /", -1);
	GString *all = g_string_new(names);
	int r;

	for (char **p = words; *p; p++)
		if (strlen(*p) < 64)
			g_string_append_printf(all, "%s ", *p);
	v->names = g_string_free(all, FALSE);
	v->before = view_from_outside(v);
	stack_reset_upper(&v->s);
	open_union(v);
	r = run_op(v, -1);
	if (r < 0)
		fail_msg("%s: %s", v->c->op, g_strerror(-r));
	v->after = stack_view(v->fs, STACK_VIEW_NAMES, v->names);
	check_work(v, r);
	close_union(v);
	outside = view_from_outside(v);
	if (strcmp(outside, v->after) != 0) {
		g_autofree char *d = diff(v->after, outside);

		fail_msg("%s: a union opened later sees:%s", v->c->op, d);
	}
	if (strcmp(v->before, v->after) == 0 || strstr(v->before, " !") || strstr(v->after, " !"))
		fail_msg("%s: no good case:\n%s->\n%s", v->c->op, v->before, v->after);
}

static void fault_loop(void **state)
{
	const struct fault_case *c = *state;
	char *lower, *lower_after;
	struct run v = { .c = c };
	unsigned fds = stack_count_fds();
	bool bad;

	if ((c->flags & ROOT) && geteuid() != 0)
		skip();
	stack_init(&v.s, c->stack);
	if ((c->flags & ROOT) && !v.s.root) {
		stack_done(&v.s);
		skip(); /* a user namespace with one id in it */
	}
	v.s.no_clone = !(c->flags & CLONE);
	v.s.sync = c->flags & SYNC;
	v.s.revalidate = c->flags & REVALIDATE;
	v.complaints = g_string_new("");
	v.told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	lower = stack_disk(&v.s, "1");
	learn(&v);
	for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
		v.m = &modes[i];
		if (geteuid() != 0 && !v.m->for_user)
			continue;
		for (v.n = 1; one_fault(&v); v.n++) {
			v.faults++;
			assert_true(v.n < 500);
		}
	}
	lower_after = stack_disk(&v.s, "1");
	if (strcmp(lower, lower_after) != 0)
		g_string_append_printf(v.complaints, "  the lower changed:\n%s->\n%s", lower,
				       lower_after);
	stack_done(&v.s);
	assert_int_equal(stack_count_fds(), fds);
	if (getenv("UN_FAULTS_VERBOSE"))
		print_message("%s: %u faults, %u errors though it was done\n", c->name, v.faults,
			      v.errors_after);
	/* cmocka's messages are cut off at 1 KiB. */
	printf("%s", v.complaints->str);
	(void)fflush(stdout);
	bad = v.complaints->len > 0;
	g_string_free(v.complaints, TRUE);
	g_hash_table_destroy(v.told);
	g_free(lower);
	g_free(lower_after);
	g_free(v.names);
	g_free(v.before);
	g_free(v.after);
	assert_true(v.faults > 0);
	assert_false(bad);
}

/* ------------------------------------------------------------------------------------------------ */

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return true;
	return argc < 2;
}

static int run_all(const struct fault_case *c, size_t n_cases, int argc, char **argv)
{
	g_autofree struct CMUnitTest *tests = g_new0(struct CMUnitTest, n_cases);
	size_t n = 0;

	for (size_t i = 0; i < n_cases; i++)
		if (wanted(c[i].name, argc, argv))
			tests[n++] = (struct CMUnitTest){
				.name = c[i].name,
				.test_func = fault_loop,
				.initial_state = (void *)(uintptr_t)&c[i],
			};
	return _cmocka_run_group_tests(geteuid() == 0 ? "faults as root" : "faults as a plain user",
				       tests, n, NULL, NULL);
}

/* The same at once in a process that gave its privilege up; what it says waits in @out. */
static pid_t start_as_user(const struct fault_case *c, size_t n_cases, int argc, char **argv,
			   FILE *out)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	dup2(fileno(out), STDOUT_FILENO);
	dup2(fileno(out), STDERR_FILENO);
	if (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 ||
	    setresuid(1000, 1000, 1000) < 0) {
		print_message("no other user here: %s\n", g_strerror(errno));
		_exit(0);
	}
	/* The leak checker attaches to the process. */
	un_ignore(prctl(PR_SET_DUMPABLE, 1));
	exit(run_all(c, n_cases, argc, argv));
}

static int finish_as_user(pid_t pid, FILE *out)
{
	char buf[4096];
	size_t n;
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	rewind(out);
	while ((n = fread(buf, 1, sizeof(buf), out)) > 0)
		un_ignore(fwrite(buf, 1, n, stdout));
	(void)fclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int fault_main(const struct fault_case *c, size_t n_cases, int argc, char **argv)
{
	FILE *out = NULL;
	pid_t pid = -1;
	int failed;

	if (geteuid() == 0 && (out = tmpfile()))
		pid = start_as_user(c, n_cases, argc, argv, out);
	failed = run_all(c, n_cases, argc, argv);
	return (out && finish_as_user(pid, out)) || failed;
}

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
