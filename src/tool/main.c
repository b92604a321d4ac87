/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuse-unionfs-layer: looks after layers that are not mounted. */
#include "commands_i.h"
#include "tool_i.h"

#include "util/log.h"

#include <locale.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "diff", un_tool_diff, "what an upper changes" },
	{ "check", un_tool_check, "whether an upper is in order" },
};

static int help(FILE *out)
{
	fputs("Usage: " UN_TOOL " COMMAND [OPTION...] UPPER [LOWER...]\n"
	      "Look after the layers of a union that is not mounted.\n\n"
	      "Commands:\n",
	      out);
	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].help);
	fputs("\n`" UN_TOOL " COMMAND --help` tells the options of a command.\n", out);
	return 0;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";

	setlocale(LC_ALL, "");
	un_log_set_name(UN_TOOL);
	un_log_set_level(LOG_WARNING);
	if (strcmp(word, "--version") == 0) {
		puts(UN_TOOL ": version " UN_VERSION);
		return un_tool_finish(UN_TOOL_CLEAN);
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
		help(stdout);
		return un_tool_finish(UN_TOOL_CLEAN);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
		if (strcmp(word, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	if (argc < 2)
		help(stderr);
	else
		un_tool_complain("%s: there is no such command (try --help)", word);
	return UN_TOOL_TROUBLE;
}
