/* SPDX-License-Identifier: GPL-2.0-or-later */
/* More names for one object, while the upper fails; see fault-loop.h. */
#include <glib.h>

#include "../lib/fault-loop.h"

static const struct fault_case cases[] = {
	{ "link-upper", "u d/f = f\n1 d/x = 1", "link d/f d/n" },
	{ "link-upper-to-tar-name", "u d/f =\n1 d/x = 1", "link d/f d/.wh.x" },
	{ "link-over-tar-mark", "u d/f =\n1 d/x = 1\nu d/.wh.x =", "link d/f d/.wh.x" },
	{ "link-lower", RICH "1 a/b/x = 1\n", "link d/e/f a/b/n", .held = "d/e/f" },
	{ "link-copied", COPIED "1 e/x = 1", "link d/f e/n" },
	{ "link-over-whiteout", COPIED "1 e/w = 1\nu e/w whiteout", "link d/f e/w" },
	{ "link-lower-over-whiteout", PLAIN "1 e/w = 1\nu e/w whiteout", "link d/f e/w" },
	{ "link-symlink", RICH, "link d/e/l d/n" },
};

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
