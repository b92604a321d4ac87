/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names that go, while the upper fails; see fault-loop.h. */
#include <glib.h>

#include "../lib/fault-loop.h"

static const struct fault_case cases[] = {
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
};

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
