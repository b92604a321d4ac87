/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names that are made, while the upper fails; see fault-loop.h. */
#include <glib.h>

#include "../lib/fault-loop.h"

static const struct fault_case cases[] = {
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

	{ "create-tar-name", "1 d/a = x", "create d/.wh.a 0640" },
	{ "create-tar-name-over-mark", "1 d/a = x\nu d/.wh.a =", "create d/.wh.a 0640" },
	{ "create-tar-opaque-over-mark", "1 d/a = x\nu d/.wh..wh..opq =\nu d/b = b",
	  "create d/.wh..wh..opq 0640" },
	{ "mkdir-tar-name-over-mark", "1 d/a/x = x\nu d/.wh.a =\nu d/a/y = y",
	  "mkdir d/.wh.a 0750" },
	{ "create-over-whiteout-revalidate", "1 d/w = lower\nu d/w whiteout", "create d/w 0600",
	  REVALIDATE },
};

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
