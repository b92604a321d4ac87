/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "check_i.h"

#include "change_i.h"
#include "layer/origin.h"
#include "util/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- their names ------------------------------------------------------------------------------------------ */

/* Those of the prefix that is not in use change what is seen, for whoever uses it. */
static bool is_of_other_dialect(const struct un_layer *l, const char *xattr)
{
	static const enum un_mark seen[] = { UN_MARK_OPAQUE, UN_MARK_REDIRECT, UN_MARK_METACOPY,
					     UN_MARK_WHITEOUT };
	const struct un_layer other = { .dialect = l->dialect == UN_DIALECT_TRUSTED
							   ? UN_DIALECT_USER
							   : UN_DIALECT_TRUSTED };

	for (size_t i = 0; i < G_N_ELEMENTS(seen); i++)
		if (strcmp(xattr, un_mark_name(&other, seen[i])) == 0)
			return true;
	return false;
}

/* Hidden, but neither a mark nor somebody's escaped attribute. */
static bool is_unknown(const struct un_layer *l, const char *xattr)
{
	char buf[XATTR_NAME_MAX + 1];

	if (un_xattr_from_layer(l, xattr, buf) || g_str_has_prefix(xattr, "user.fuseoverlayfs."))
		return false;
	for (int m = 0; m < UN_N_MARKS; m++)
		if (strcmp(xattr, un_mark_name(l, (enum un_mark)m)) == 0)
			return false;
	return true;
}

void un_tool_check_names_of_marks(struct un_tool_checker *c, const struct un_tool_object *o)
{
	struct un_tool_finding f = { .place = "upper", .path = o->path };
	char *list = NULL;
	ssize_t len = 0;

	if (!(o->marks & UN_HAS_ANY))
		return;
	len = un_xattr_list(&o->at, &list);
	for (ssize_t i = 0; i < len; i += (ssize_t)strlen(list + i) + 1) {
		const char *name = list + i;

		if (is_of_other_dialect(o->at.layer, name)) {
			f.fault = UN_TOOL_DIALECT;
			un_tool_find(
				c, &f,
				"%s means nothing here: the marks of this union are %s.overlay.*",
				name,
				o->at.layer->dialect == UN_DIALECT_TRUSTED ? "trusted" : "user");
		} else if (is_unknown(o->at.layer, name)) {
			f.fault = UN_TOOL_MARK_UNKNOWN;
			un_tool_find(c, &f, "%s is a mark that is not known here", name);
		}
	}
	free(list);
	if (len < 0)
		un_tool_check_trouble(c, "upper", o->path, (int)len);
}

/* ---- origins ------------------------------------------------------------------------------------------------ */

static const char *kind_word(unsigned mode)
{
	return S_ISDIR(mode) ? "a directory" : S_ISREG(mode) ? "a regular file" : "of another type";
}

/* It is of the file system of @l: is it that what it says? */
static void check_origin_in(struct un_tool_checker *c, const struct un_tool_object *o,
			    const struct un_found *f, struct un_layer *l,
			    const struct un_origin *origin)
{
	struct un_tool_finding bad = { .fault = UN_TOOL_ORIGIN_LIES,
				       .place = "upper",
				       .path = o->path,
				       .at = &o->at,
				       .mark = UN_MARK_ORIGIN };
	struct statx st;

	/* It is gone: nothing is known then, and nobody is misled. */
	if (un_origin_stat(l, origin, &st) < 0)
		return;
	/* But of a file with several names the index goes by it. */
	bad.mend = S_ISDIR(o->st.stx_mode) || o->st.stx_nlink == 1 ? UN_TOOL_UNMARK : UN_TOOL_LEAVE;
	if (st.stx_nlink > 0 && ((st.stx_mode ^ o->st.stx_mode) & S_IFMT))
		un_tool_find(c, &bad, "it is %s, and its origin is %s (inode %" PRIu64 ")",
			     kind_word(o->st.stx_mode), kind_word(st.stx_mode),
			     (uint64_t)st.stx_ino);
	else if (S_ISDIR(o->st.stx_mode) && f->n > 1 && un_origin_is_of(f->hits[1].layer, origin) &&
		 st.stx_ino != f->hits[1].st.stx_ino)
		un_tool_find(c, &bad,
			     "its origin is inode %" PRIu64
			     ", and it is merged with inode %" PRIu64,
			     (uint64_t)st.stx_ino, (uint64_t)f->hits[1].st.stx_ino);
}

void un_tool_check_origin(struct un_tool_checker *c, const struct un_tool_object *o,
			  const struct un_found *f)
{
	const struct un_tool_finding bad = { .fault = UN_TOOL_ORIGIN_INVALID,
					     .place = "upper",
					     .path = o->path };
	uint8_t value[UN_ORIGIN_MAX];
	struct un_origin origin;
	ssize_t n;

	if (!(o->marks & UN_HAS(UN_MARK_ORIGIN)))
		return;
	n = un_mark_get(&o->at, UN_MARK_ORIGIN, value, sizeof(value));
	/* Copied up, and it is not known from what; or it may not be read. */
	if (n == 0 || n == -EACCES || n == -EPERM || n == -ENODATA)
		return;
	if (n < 0 || un_origin_parse(value, (size_t)n, &origin) < 0) {
		un_tool_find(c, &bad, "its origin is no file handle of this machine");
		return;
	}
	for (unsigned i = 1; i <= c->layers->n; i++) {
		if (!un_origin_is_of(&c->layers->v[i], &origin))
			continue;
		check_origin_in(c, o, f, &c->layers->v[i], &origin);
		return;
	}
}

/* ---- data ----------------------------------------------------------------------------------------------------- */

void un_tool_check_metacopy(struct un_tool_checker *c, const struct un_tool_object *o,
			    const struct un_found *f)
{
	const struct un_tool_side side = { c->layers, f->hits, f, o->at.name };
	struct un_tool_finding bad = { .place = "upper", .path = o->path };
	un_autofd int fd = -1;
	struct un_layer *l;
	struct statx st;
	int r = 0;

	if (!f->metacopy)
		return;
	if (f->data) {
		st = f->data->st;
	} else {
		fd = un_tool_open_data(&side, &l);
		r = fd < 0 ? fd : l->ops->stat(l, fd, "", &st);
	}
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP) {
		bad.fault = UN_TOOL_METACOPY_NO_DATA;
		un_tool_find(c, &bad,
			     "its data is to be in a data-only layer, at %s, and is not there",
			     f->data_path);
	} else if (r < 0) {
		un_tool_check_trouble(c, "upper", o->path, r);
	} else if (st.stx_size != o->st.stx_size) {
		bad.fault = UN_TOOL_METACOPY_SIZE;
		un_tool_find(c, &bad, "it has %" PRIu64 " bytes, and its data below has %" PRIu64,
			     (uint64_t)o->st.stx_size, (uint64_t)st.stx_size);
	}
}
