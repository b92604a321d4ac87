/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WORK/work: what staged there and was not finished. A mount that is alone empties it, but for incompat/. */
#include "check_i.h"

#include "layer/whiteout.h"
#include "names_i.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* What kernel mounts keep for the next deletion, and leave. */
static bool is_spare_whiteout(const struct un_at *at, const struct statx *st)
{
	return at->name[0] == '#' && S_ISCHR(st->stx_mode) && un_whiteout_probe(at, st) > 0;
}

static void check_incompat(struct un_tool_checker *c)
{
	struct un_layer *u = &c->layers->v[0];
	un_autofd int fd =
		u->ops->open(u, c->layers->work, "incompat", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	const struct un_tool_dir dir = { .layer = u, .fd = fd };
	g_autoptr(GPtrArray) names = NULL;
	int r = fd < 0 ? fd : un_tool_names(&dir, &names);

	if (r < 0) {
		if (r != -ENOENT && r != -ENOTDIR)
			un_tool_check_trouble(c, "work", "incompat", r);
		return;
	}
	for (unsigned i = 0; i < names->len; i++) {
		g_autofree char *path = g_strconcat("incompat/", names->pdata[i], NULL);
		bool is_volatile = strcmp(names->pdata[i], "volatile") == 0;
		const struct un_tool_finding f = { .fault = is_volatile ? UN_TOOL_WORK_VOLATILE
									: UN_TOOL_WORK_INCOMPAT,
						   .place = "work",
						   .path = path };

		if (is_volatile)
			un_tool_find(
				c, &f,
				"a volatile mount used this: after a crash files may be incomplete; "
				"to mount it again, remove it");
		else
			un_tool_find(c, &f, "it was used with a feature that is not known here");
	}
}

void un_tool_check_work(struct un_tool_checker *c)
{
	struct un_layer *u = &c->layers->v[0];
	const struct un_tool_dir dir = { .layer = u, .fd = c->layers->work };
	g_autoptr(GPtrArray) names = NULL;
	int r;

	if (c->layers->work < 0)
		return;
	r = un_tool_names(&dir, &names);
	if (r < 0) {
		un_tool_check_trouble(c, "work", "", r);
		return;
	}
	for (unsigned i = 0; i < names->len; i++) {
		const struct un_at at = { .layer = u, .dirfd = dir.fd, .name = names->pdata[i] };
		const struct un_tool_finding f = { .fault = UN_TOOL_WORK_LEFTOVER,
						   .place = "work",
						   .path = at.name,
						   .at = &at,
						   .mend = UN_TOOL_UNLINK };
		struct statx st;

		if (strcmp(at.name, "incompat") == 0 || u->ops->stat(u, dir.fd, at.name, &st) < 0 ||
		    is_spare_whiteout(&at, &st))
			continue;
		un_tool_find(c, &f, "what a mount had begun here was not finished");
	}
	check_incompat(c);
}
