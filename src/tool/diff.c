/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `diff`: what an upper changes. */
#include "commands_i.h"
#include "diff_i.h"
#include "tool_i.h"
#include "walk_i.h"

#include <inttypes.h>
#include <string.h>

struct diff {
	struct un_layers *layers;
	gboolean all, stat, content, json;
	uint64_t counts[UN_TOOL_N_KINDS];
	uint64_t what[8]; /* of the changed, by bit */
	uint64_t bytes;   /* of data in files that were added, or whose data changed */
	bool trouble;
};

/* Those of a file that is in its place, and are counted by --stat. */
static void count(struct diff *d, const struct un_tool_change *c)
{
	const struct un_found *now = c->now;

	d->counts[c->kind]++;
	for (unsigned i = 0; un_tool_what_word(i); i++)
		d->what[i] += c->what & (1u << i) ? 1 : 0;
	if (now && S_ISREG(now->hits[0].st.stx_mode) &&
	    (c->kind == UN_TOOL_ADDED || c->kind == UN_TOOL_TYPE || (c->what & UN_TOOL_CONTENT)))
		d->bytes += now->hits[0].st.stx_size;
}

static int show(void *data, const struct un_tool_change *c)
{
	struct diff *d = data;

	if (c->kind == UN_TOOL_SAME && !d->all)
		return 0;
	count(d, c);
	if (d->stat)
		return 0;
	un_tool_progress_clear();
	if (d->json)
		un_tool_diff_json(c);
	else
		un_tool_diff_line(c);
	if (d->content && un_tool_diff_content(d->layers, c) < 0)
		d->trouble = true;
	return 0;
}

static void trouble(void *data, const char *path, int err)
{
	struct diff *d = data;

	d->trouble = true;
	un_tool_complain("%s: %s", path, g_strerror(-err));
}

static void show_stat(const struct diff *d)
{
	const char *word, *between = "";

	for (unsigned k = 0; k < UN_TOOL_N_KINDS; k++) {
		if (!d->counts[k])
			continue;
		printf("%-8s %" PRIu64 "\n", k == UN_TOOL_TYPE ? "type" : un_tool_kind_word(k),
		       d->counts[k]);
	}
	for (unsigned i = 0; (word = un_tool_what_word(i)); i++) {
		if (!d->what[i])
			continue;
		printf("%s%s %" PRIu64, *between ? between : "of files that were there: ", word,
		       d->what[i]);
		between = ", ";
	}
	if (*between)
		putchar('\n');
	printf("%" PRIu64 " bytes of data are new\n", d->bytes);
}

static int run(struct diff *d)
{
	const struct un_tool_walker w = {
		.change = show, .trouble = trouble, .progress = un_tool_progress, .data = d
	};
	struct un_tool_views views;
	uint64_t changes = 0;
	int r = un_tool_views_open(d->layers, &views);

	if (r == 0 && d->json)
		un_tool_diff_json_begin();
	if (r == 0)
		r = d->layers->n ? un_tool_walk(&views, &w) : un_tool_walk_alone(&views, &w);
	un_tool_views_done(&views);
	if (r < 0)
		trouble(d, ".", r);
	if (d->json)
		un_tool_diff_json_end(d->counts);
	else if (d->stat)
		show_stat(d);
	for (unsigned k = 0; k < UN_TOOL_N_KINDS; k++)
		changes += k == UN_TOOL_SAME ? 0 : d->counts[k];
	return un_tool_finish(d->trouble ? UN_TOOL_TROUBLE
			      : changes  ? UN_TOOL_FOUND
					 : UN_TOOL_CLEAN);
}

int un_tool_diff(int argc, char **argv)
{
	struct un_tool_layers tl = { 0 };
	struct diff d = { 0 };
	const GOptionEntry entries[] = {
		{ "all", 'a', 0, G_OPTION_ARG_NONE, &d.all,
		  "Show also what is in UPPER without a difference", NULL },
		{ "stat", 's', 0, G_OPTION_ARG_NONE, &d.stat, "Show only how much changed", NULL },
		{ "content", 'c', 0, G_OPTION_ARG_NONE, &d.content,
		  "Show what changed in text files, by diff(1)", NULL },
		{ "json", 0, 0, G_OPTION_ARG_NONE, &d.json, "Write JSON", NULL },
		{ NULL },
	};
	int status;

	if (!un_tool_parse(
		    argc, argv, "UPPER [LOWER...]",
		    "Say what UPPER changes against the LOWERs, the topmost of these first. Without "
		    "them, say what its marks tell of that.",
		    entries, &tl, &status))
		goto out;
	status = UN_TOOL_TROUBLE;
	if (d.json && d.content)
		un_tool_complain("--content writes text, --json does not: one of them only");
	else if (d.content && tl.dirs->len < 2)
		un_tool_complain("no LOWER given: --content needs what was before");
	else
		d.layers = un_tool_open(&tl, false);
	if (d.layers)
		status = run(&d);
	un_layers_close(d.layers);
out:
	un_tool_layers_done(&tl);
	return status;
}
