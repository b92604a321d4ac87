/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rows of rename's table, while the upper fails; see fault-loop.h. */
#include <glib.h>

#include "../lib/fault-loop.h"

static const struct fault_case cases[] = {
	{ "rename-upper", "u d/f = upper\n1 d/g = l", "rename d/f d/n", .held = "d/f" },
	{ "rename-upper-to-tar-name", "u d/f =\n1 d/g = l", "rename d/f d/.wh.g", .held = "d/f" },
	{ "rename-over-tar-mark", "u d/f =\n1 d/g = l\nu d/.wh.g =", "rename d/f d/.wh.g",
	  .held = "d/f" },
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
};

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
