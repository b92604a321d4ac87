/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `check`: what is wrong in an upper and its workdir. Each thing that is found has a kind, a place and a sentence; and,
 * where mending it can lose nothing whatever the lowers are, the way to mend it.
 */
#pragma once

#include "stack_i.h"

#include <glib.h>

enum un_tool_fault {
	UN_TOOL_REDIRECT_INVALID,
	UN_TOOL_REDIRECT_DANGLING,
	UN_TOOL_REDIRECT_LOOP,
	UN_TOOL_REDIRECT_TWICE,
	UN_TOOL_METACOPY_INVALID,
	UN_TOOL_METACOPY_NO_DATA,
	UN_TOOL_METACOPY_SIZE,
	UN_TOOL_ORIGIN_INVALID,
	UN_TOOL_ORIGIN_LIES,
	UN_TOOL_IMPURE_MISSING,
	UN_TOOL_WHITEOUT_NOTHING,
	UN_TOOL_WHITEOUT_UNANNOUNCED,
	UN_TOOL_DIALECT,
	UN_TOOL_MARK_UNKNOWN,
	UN_TOOL_UNREACHABLE,
	UN_TOOL_WORK_LEFTOVER,
	UN_TOOL_WORK_VOLATILE,
	UN_TOOL_WORK_INCOMPAT,
	UN_TOOL_INDEX_FOREIGN,
	UN_TOOL_INDEX_NAME,
	UN_TOOL_INDEX_LEFTOVER,
	UN_TOOL_INDEX_ORPHAN,
	UN_TOOL_LINK_COUNT,
	UN_TOOL_N_FAULTS,
};

/* What can be done about it. */
enum un_tool_mend {
	UN_TOOL_LEAVE,
	UN_TOOL_UNMARK, /* take the mark away */
	UN_TOOL_MARK,   /* set the mark, to `value` */
	UN_TOOL_UNLINK, /* remove the name, with what is in it */
};

struct un_tool_finding {
	enum un_tool_fault fault;
	const char *place; /* "upper", "work" or "index": where path is in */
	const char *path;
	const struct un_at *at; /* the object; NULL with UN_TOOL_LEAVE */
	enum un_tool_mend mend;
	enum un_mark mark; /* for UN_TOOL_MARK and UN_TOOL_UNMARK */
	const char *value;
};

struct un_tool_checker {
	struct un_layers *layers;
	struct un_tool_views views;
	bool lowers; /* some were given: what marks lead to can be looked at */
	bool repair, json;
	uint64_t found, mended;
	bool trouble;
	uint64_t names;
	GHashTable *
		links; /* inode number (guint64 *) -> names in the upper, for inodes with several links */
	GHashTable *targets; /* of redirects: path in the lowers -> path of who has it */
};

/* Says it, and mends it if that is asked for. @fmt: a sentence, without its subject and full stop. */
void un_tool_find(struct un_tool_checker *c, const struct un_tool_finding *f, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Something cannot be looked at. */
void un_tool_check_trouble(struct un_tool_checker *c, const char *place, const char *path, int err);

/* check-report.c: what is written before and behind all findings. */
void un_tool_check_begin(const struct un_tool_checker *c);
void un_tool_check_end(const struct un_tool_checker *c);

/* mend.c: 0 or -errno. */
int un_tool_mend(const struct un_tool_finding *f);

/* check-upper.c: the tree of the upper. */
void un_tool_check_upper(struct un_tool_checker *c);

/* An object of the upper under way. */
struct un_tool_object {
	struct un_at at;
	struct statx st;
	unsigned marks;
	const char *path;
};

/* check-marks.c: marks that are there and mean nothing, or not what they say. */
void un_tool_check_names_of_marks(struct un_tool_checker *c, const struct un_tool_object *o);
/* @f: as it was found. */
void un_tool_check_origin(struct un_tool_checker *c, const struct un_tool_object *o,
			  const struct un_found *f);
void un_tool_check_metacopy(struct un_tool_checker *c, const struct un_tool_object *o,
			    const struct un_found *f);

/* check-work.c, check-index.c: what WORK holds. The upper has been walked through before. */
void un_tool_check_work(struct un_tool_checker *c);
void un_tool_check_index(struct un_tool_checker *c);
