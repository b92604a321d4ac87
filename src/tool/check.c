/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `check`: is an upper, with its workdir, in order? */
#include "check_i.h"
#include "commands_i.h"
#include "tool_i.h"

#include <string.h>

/* Nobody may change what is mended, nor hold on to it. */
static bool may_begin(struct un_tool_checker *c)
{
	g_autofree char *who = NULL;
	int r;

	if (!c->repair) {
		who = un_layers_in_use(c->layers);
		if (who)
			un_tool_complain(
				"the upper is mounted, %s: what changes meanwhile may look wrong",
				who);
		return true;
	}
	r = un_layers_claim(c->layers, &who);
	if (r == 0)
		return true;
	if (who)
		un_tool_complain("%s: is mounted, %s: nothing is mended", c->layers->v[0].path,
				 who);
	else
		un_tool_complain("%s: cannot be locked against mounts: %s", c->layers->v[0].path,
				 g_strerror(-r));
	return false;
}

static int run(struct un_tool_checker *c)
{
	int r;

	if (!may_begin(c))
		return UN_TOOL_TROUBLE;
	c->links = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	c->targets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	un_tool_check_begin(c);
	r = un_tool_views_open(c->layers, &c->views);
	if (r < 0) {
		un_tool_check_trouble(c, "upper", "", r);
	} else {
		un_tool_check_upper(c);
		un_tool_check_work(c);
		un_tool_check_index(c);
	}
	un_tool_check_end(c);
	un_tool_views_done(&c->views);
	g_hash_table_unref(c->links);
	g_hash_table_unref(c->targets);
	return un_tool_finish(c->trouble             ? UN_TOOL_TROUBLE
			      : c->found > c->mended ? UN_TOOL_FOUND
						     : UN_TOOL_CLEAN);
}

int un_tool_check(int argc, char **argv)
{
	struct un_tool_layers tl = { 0 };
	struct un_tool_checker c = { 0 };
	gboolean repair = FALSE, json = FALSE;
	const GOptionEntry entries[] = {
		{ "work", 'w', 0, G_OPTION_ARG_FILENAME, &tl.work,
		  "The workdir of UPPER; without it work/ and index/ are not looked at", "DIR" },
		{ "repair", 'r', 0, G_OPTION_ARG_NONE, &repair,
		  "Mend what can be mended without losing anything", NULL },
		{ "json", 0, 0, G_OPTION_ARG_NONE, &json, "Write JSON", NULL },
		{ NULL },
	};
	int status = UN_TOOL_TROUBLE;

	if (!un_tool_parse(
		    argc, argv, "UPPER [LOWER...]",
		    "Say what is wrong in UPPER. Without the LOWERs, the topmost first, nothing is "
		    "said of what marks lead to.",
		    entries, &tl, &status))
		goto out;
	c.repair = repair;
	c.json = json;
	c.lowers = tl.dirs->len > 1;
	c.layers = un_tool_open(&tl, c.repair);
	if (c.layers)
		status = run(&c);
	un_layers_close(c.layers);
out:
	un_tool_layers_done(&tl);
	return status;
}
