/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Redirects, metadata-only copy-up and the index, while the upper fails; see fault-loop.h. A copy-up of
 * metadata does not show, so most of these are before or after as any other change.
 */
#include <glib.h>

#include "../lib/fault-loop.h"

#define LINKS "1 a/x = text user.a=1 time=900000000\n1 b/y == a/x\n1 b/z == a/x\n1 c/\n"
#define META                                                                                       \
	"1 d/f = lower-text time=900000000\n"                                                      \
	"u d/f = overlay.metacopy= overlay.origin= size=10 user.x=y mode=0600 time=900000001\n"
#define TREE "1 d/e/f = text\n1 d/g = text\n2 d/e/h = text\n2 x/y = text\n1 t/\n"

static const struct fault_case cases[] = {
	{ "meta-chmod", RICH, "chmod d/e/f 0600", FORMAT, .held = "d/e/f" },
	{ "meta-chown", RICH, "chown d/e/f 7:8", FORMAT | ROOT },
	{ "meta-utime", RICH, "utime d/e/f 950000000", FORMAT | NO_TMPFILE },
	{ "meta-setxattr", RICH, "setxattr d/e/f user.new value", FORMAT },
	{ "meta-link", RICH, "link d/e/f d/new", FORMAT },
	{ "meta-rename", RICH, "rename d/e/f d/new", FORMAT, .held = "d/e/f" },
	{ "meta-rename-here", RICH, "rename d/e/f d/e/new", FORMAT },
	{ "meta-no-whiteout", RICH, "rename d/e/f d/new", FORMAT | NO_WHITEOUT },
	{ "data-write", META, "write d/f XXX 2", FORMAT, .held = "d/f" },
	{ "data-write-sync", META, "write d/f XXX 2", FORMAT | SYNC },
	{ "data-truncate-0", META, "truncate d/f 0", FORMAT },
	{ "data-truncate-some", META, "truncate d/f 4", FORMAT },
	{ "data-fallocate", META, "fallocate d/f 5000", FORMAT },
	{ "data-chmod", META, "chmod d/f 0444", FORMAT },
	{ "data-link", META, "link d/f d/g", FORMAT },
	{ "data-rename", META, "rename d/f g", FORMAT },
	{ "data-unlink", META, "unlink d/f", FORMAT, .held = "d/f" },

	{ "dir-rename", TREE, "rename d n", FORMAT, .held = "d/e/f" },
	{ "dir-rename-away", TREE, "rename d/e t/n", FORMAT },
	{ "dir-rename-over", TREE, "rename d/e t", FORMAT },
	{ "dir-rename-no-whiteout", TREE, "rename d/e t/n", FORMAT | NO_WHITEOUT },
	{ "dir-exchange", TREE, "rename d/e x exchange", FORMAT },
	{ "dir-exchange-file", TREE, "rename d/e x/y exchange", FORMAT },
	{ "dir-rename-redirected", TREE "u n/ overlay.redirect=d\nu d whiteout\n", "rename n t/n",
	  FORMAT },

	{ "link-write", LINKS, "write a/x XXX", FORMAT | IN_TWO, .held = "b/y" },
	{ "link-chmod", LINKS, "chmod a/x 0600", FORMAT, .held = "b/y" },
	{ "link-unlink", LINKS, "unlink b/y", FORMAT, .held = "b/y" },
	{ "link-rename", LINKS, "rename b/y c/n", FORMAT, .held = "a/x" },
	{ "link-rename-over", LINKS "1 c/v = victim\n", "rename c/v b/y", FORMAT },
	{ "link-link", LINKS, "link b/z c/n", FORMAT },
	{ "link-exchange", LINKS "1 c/v = other\n", "rename b/y c/v exchange", FORMAT },
};

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
