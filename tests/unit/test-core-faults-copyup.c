/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes of an object, which is copy-up and then the change, while the upper fails; see fault-loop.h. */
#include <glib.h>

#include "../lib/fault-loop.h"

#define BIG "1 d/e/f2 = more size=1200000 user.a=1 mode=0640 time=900000003\n"

static const struct fault_case cases[] = {
	{ "write", RICH, "write d/e/f XXX 2", .held = "d/e/f" },
	{ "write-tar-name", "1 d/.wh.f = f overlay.ordinary=y\n2 d/f = x", "write d/.wh.f XXX 2",
	  .held = "d/.wh.f" },
	{ "truncate-tar-name", "u d/.wh.f = f\n1 d/f = x", "truncate d/.wh.f 0" },
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

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
