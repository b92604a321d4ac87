/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool_i.h"

#include "layer/choices.h"
#include "util/err.h"

#include <string.h>
#include <sys/resource.h>

static void add_layer_entries(GOptionContext *ctx, struct un_tool_layers *tl)
{
	const GOptionEntry entries[] = {
		{ "data", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &tl->data,
		  "A data-only layer, below all lowers; may be given again, the topmost first",
		  "DIR" },
		{ "userxattr", 0, 0, G_OPTION_ARG_NONE, &tl->userxattr,
		  "Marks are in user.overlay.*, as with the mount option of this name", NULL },
		{ NULL },
	};

	g_option_context_add_main_entries(ctx, entries, NULL);
}

static bool misused(const char *command, const char *why, int *ret_status)
{
	un_tool_complain("%s (try `%s --help`)", why, command);
	*ret_status = UN_TOOL_TROUBLE;
	return false;
}

bool un_tool_parse(int argc, char **argv, const char *usage, const char *summary,
		   const GOptionEntry *entries, struct un_tool_layers *tl, int *ret_status)
{
	g_autofree char *command = g_strdup_printf(UN_TOOL " %s", argv[0]);
	GOptionContext *ctx = g_option_context_new(usage);
	g_autoptr(GError) error = NULL;
	gboolean help = FALSE;
	const GOptionEntry own[] = {
		{ "help", 'h', 0, G_OPTION_ARG_NONE, &help, "Say this", NULL },
		{ NULL },
	};
	bool ok;

	g_set_prgname(command);
	g_option_context_set_help_enabled(ctx, FALSE);
	g_option_context_set_summary(ctx, summary);
	g_option_context_add_main_entries(ctx, entries, NULL);
	add_layer_entries(ctx, tl);
	g_option_context_add_main_entries(ctx, own, NULL);
	ok = g_option_context_parse(ctx, &argc, &argv, &error);
	if (ok && help) {
		g_autofree char *text = g_option_context_get_help(ctx, TRUE, NULL);

		fputs(text, stdout);
		*ret_status = un_tool_finish(UN_TOOL_CLEAN);
	}
	g_option_context_free(ctx);
	if (!ok)
		return misused(command, error->message, ret_status);
	if (help)
		return false;
	tl->dirs = g_ptr_array_new();
	for (int i = 1; i < argc; i++)
		if (i > 1 || strcmp(argv[i], "--") != 0)
			g_ptr_array_add(tl->dirs, argv[i]);
	return tl->dirs->len ? true : misused(command, "no UPPER given", ret_status);
}

void un_tool_layers_done(struct un_tool_layers *tl)
{
	g_clear_pointer(&tl->dirs, g_ptr_array_unref);
	g_strfreev(tl->data);
	g_free(tl->work);
}

static void lift(__rlimit_resource_t what, rlim_t to)
{
	struct rlimit l;

	if (getrlimit(what, &l) < 0 || l.rlim_cur >= MIN(l.rlim_max, to))
		return;
	l.rlim_cur = MIN(l.rlim_max, to);
	un_ignore(setrlimit(what, &l));
}

/* A directory that is walked through stays open in each layer, and on our stack, with those above it. */
static void lift_limits(void)
{
	lift(RLIMIT_NOFILE, RLIM_INFINITY);
	/* The kernel keeps 128 MiB free below the first thread's. */
	lift(RLIMIT_STACK, 120 << 20);
}

struct un_layers *un_tool_open(const struct un_tool_layers *tl, bool mend)
{
	const struct un_setup_request req = {
		.lowers = (const char *const *)tl->dirs->pdata + 1,
		.n_lowers = tl->dirs->len - 1,
		.data = (const char *const *)tl->data,
		.n_data = tl->data ? g_strv_length(tl->data) : 0,
		.upper = tl->dirs->pdata[0],
		.work = tl->work,
		.userxattr = tl->userxattr,
		.look = true,
		.mend = mend,
	};
	g_autofree char *err = NULL;
	struct un_layers *ls;

	lift_limits();
	ls = un_layers_open(&req, &err);
	if (!ls)
		un_tool_complain("%s", err);
	return ls;
}
