/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diff_i.h"

#include "tool_i.h"

#include <string.h>

const char *un_tool_kind_word(enum un_tool_kind kind)
{
	static const char *const words[UN_TOOL_N_KINDS] = {
		[UN_TOOL_SAME] = "same",       [UN_TOOL_ADDED] = "added",
		[UN_TOOL_REMOVED] = "removed", [UN_TOOL_CHANGED] = "changed",
		[UN_TOOL_MOVED] = "moved",     [UN_TOOL_COPIED] = "copied",
		[UN_TOOL_TYPE] = "type",
	};

	return words[kind];
}

const char *un_tool_type_word(const struct un_found *f)
{
	switch (f->hits[0].st.stx_mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "file";
	}
}

const char *un_tool_what_word(unsigned i)
{
	static const char *const words[] = { "content", "mode", "owner", "times", "xattrs" };

	return i < G_N_ELEMENTS(words) ? words[i] : NULL;
}

static bool is_dir(const struct un_tool_change *c)
{
	const struct un_found *f = c->now ? c->now : c->was;

	return f && S_ISDIR(f->hits[0].st.stx_mode);
}

static void put_what(const struct un_tool_change *c)
{
	const struct statx *now = &c->now->hits[0].st, *was = &c->was->hits[0].st;
	const char *word, *between = " (";

	for (unsigned i = 0; (word = un_tool_what_word(i)); i++) {
		if (!(c->what & (1u << i)))
			continue;
		printf("%s%s", between, word);
		between = ", ";
		if (1u << i == UN_TOOL_MODE)
			printf(" %04o -> %04o", was->stx_mode & 07777, now->stx_mode & 07777);
		else if (1u << i == UN_TOOL_OWNER)
			printf(" %u:%u -> %u:%u", was->stx_uid, was->stx_gid, now->stx_uid,
			       now->stx_gid);
		for (unsigned x = 0; 1u << i == UN_TOOL_XATTRS && x < c->xattrs->len; x++) {
			putchar(' ');
			un_tool_put_path(stdout, c->xattrs->pdata[x]);
		}
	}
	putchar(')');
}

void un_tool_diff_line(const struct un_tool_change *c)
{
	const char *slash = is_dir(c) ? "/" : "";

	printf("%-8s ", un_tool_kind_word(c->kind));
	un_tool_put_path(stdout, c->path);
	fputs(slash, stdout);
	if (c->from) {
		fputs(" <- ", stdout);
		un_tool_put_path(stdout, c->from);
		fputs(slash, stdout);
	}
	if (c->kind == UN_TOOL_TYPE)
		printf(" (%s -> %s)", un_tool_type_word(c->was), un_tool_type_word(c->now));
	else if (c->what)
		put_what(c);
	putchar('\n');
}
