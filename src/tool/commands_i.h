/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands: each parses its line (argv[0] is its name) and returns the exit status. */
#pragma once

int un_tool_diff(int argc, char **argv);
int un_tool_check(int argc, char **argv);
