/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unified diffs, by diff(1), which is given descriptors: the layers may be where no path leads. */
#include "diff_i.h"

#include "tool_i.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

static bool is_regular(const struct un_found *f)
{
	return f && S_ISREG(f->hits[0].st.stx_mode);
}

/* One that the child has, too: the data of a file, or nothing where there is none. */
static int open_side(struct un_layers *layers, const struct un_found *f, const char *name)
{
	const struct un_tool_side side = { layers, f ? f->hits : NULL, f, name };
	un_autofd int fd = -1;
	struct un_layer *l;
	int copy;

	if (!is_regular(f))
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	else
		fd = un_tool_open_data(&side, &l);
	if (fd < 0)
		return is_regular(f) ? fd : -errno;
	copy = fcntl(fd, F_DUPFD, 3);
	return copy < 0 ? -errno : copy;
}

/* 0 or -errno. What diff(1) has to say about the files it says itself. */
static int spawn(int was, int now, const char *was_label, const char *now_label)
{
	g_autofree char *a = g_strdup_printf("/dev/fd/%d", was);
	g_autofree char *b = g_strdup_printf("/dev/fd/%d", now);
	g_autoptr(GStrvBuilder) words = g_strv_builder_new();
	g_auto(GStrv) argv = NULL;
	g_autoptr(GError) error = NULL;
	int status;

	g_strv_builder_add_many(words, "diff", "-u", "--label", was_label, "--label", now_label, a,
				b, NULL);
	argv = g_strv_builder_end(words);
	un_tool_progress_clear();
	fflush(stdout);
	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_LEAVE_DESCRIPTORS_OPEN,
			  NULL, NULL, NULL, NULL, &status, &error)) {
		un_tool_complain("the contents cannot be shown: %s",
				 g_error_matches(error, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT)
					 ? "there is no diff(1) here"
					 : error->message);
		return -ENOENT;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) < 2 ? 0 : -EIO;
}

int un_tool_diff_content(struct un_layers *layers, const struct un_tool_change *c)
{
	g_autofree char *was_label = NULL, *now_label = NULL;
	un_autofd int was = -1, now = -1;
	int r;

	if (!is_regular(c->was) && !is_regular(c->now))
		return 0;
	if (c->now && c->was && c->kind != UN_TOOL_TYPE && !(c->what & UN_TOOL_CONTENT))
		return 0;
	was = open_side(layers, c->was, c->was_name);
	now = open_side(layers, c->now, c->name);
	r = was < 0 ? was : now;
	if (r < 0) {
		un_tool_complain("%s: %s", c->path, g_strerror(-r));
		return r;
	}
	was_label = is_regular(c->was) ? g_strconcat("a/", c->from ? c->from : c->path, NULL)
				       : g_strdup("/dev/null");
	now_label = is_regular(c->now) ? g_strconcat("b/", c->path, NULL) : g_strdup("/dev/null");
	return spawn(was, now, was_label, now_label);
}
