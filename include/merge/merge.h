/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pure rules: from what each layer says, what the merged view shows. No locks, no FUSE, no writes.
 * The rules: fuse-unionfs-format(5), LOOKUP to DATA-ONLY LAYERS.
 *
 * A merged directory is given as a list of positions, 0 on top, each a layer's real directory.
 */
#pragma once

#include "layer/marks.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One layer's directory below a merged one. */
struct un_where {
	struct un_layer *layer;
	int fd;      /* -1: shown as empty (a sub-mount of the layer, which is not entered) */
	bool opaque; /* it carries an opaque mark: fuse-overlayfs's sentinels in it are hidden */
	bool xwhiteouts; /* marked opaque=x: look for xattr whiteouts when listing */
	void *dir;       /* for the caller of merge/: its struct for this directory */
	void *pin;       /* for the same: what keeps fd open */
};

struct un_merge_dir {
	unsigned n;      /* positions */
	unsigned lowest; /* index of the lowest layer that is not data-only */
	bool follow;     /* redirects; otherwise they are refused */
	bool metacopy;   /* files whose data is in a lower; otherwise they are refused */
	bool data_only;  /* there are data-only layers below */
	bool access;     /* somebody lists it: the upper's time of access may move */
	/* 0 or -errno. The descriptor stays valid until close(). */
	int (*open)(void *ctx, unsigned pos, struct un_where *ret);
	void (*close)(void *ctx, unsigned pos, struct un_where *w);
	/*
	 * For redirects: the root of the layer that comes next below the one with the index @above, of those that
	 * take part in the root (-ENOENT: there is none), and the directory @name, which is not a whiteout, in @w. Closed with leave(). @st is its own.
	 */
	int (*root)(void *ctx, unsigned above, struct un_where *ret);
	int (*enter)(void *ctx, const struct un_where *w, const char *name, const struct statx *st,
		     struct un_where *ret);
	void (*leave)(void *ctx, struct un_where *w);
	/* A reference to un_where.dir for a hit, given back by un_found_done(). NULL: not counted. */
	void *(*ref)(void *dir);
	void (*unref)(void *ctx, void *dir);
	void *ctx;
};

/* A real object under a name. */
struct un_hit {
	unsigned
		pos; /* where it was found; behind a redirect through the root: that of the redirect */
	struct un_layer *layer;
	void *dir;  /* un_where.dir of the directory it is in */
	char *name; /* its name there, if that is not the one asked for */
	struct statx st;
	uint64_t
		real_ino; /* as the layer told it; merge/'s caller may put a stand-in into st */
	bool opaque;      /* directory: the search ended here because of its mark */
	bool xwhiteouts;  /* directory: marked opaque=x */
	bool impure;      /* directory in the upper: holds objects with an origin */
	bool origin;      /* in the upper: carries an origin itself */
	bool no_xattrs;   /* it was seen to have none at all */
};

struct un_found {
	unsigned n;                     /* 0: the name does not exist; >1: directories that merge */
	struct un_hit *hits;            /* owned: un_found_done() */
	struct un_hit one;              /* room for the usual case */
	bool upper_whiteout;            /* the upper has a whiteout at this name */
	char *redirect;                 /* the redirect mark of an object in the upper, or NULL */
	bool metacopy;                  /* hits[0] is a file without data, which is ... */
	struct un_hit *data;            /* ... here; NULL: */
	char *data_path;                /* ... at this path in one of the data-only layers */
	GPtrArray *followed; /* where redirects led, names and paths; NULL: there was none */
	const struct un_layer *refused; /* -EPERM: it has a mark that is not followed, ... */
	enum un_mark refused_mark;      /* ... this one */
	const struct un_merge_dir *d;   /* what was asked; for un_found_done() */
};

/* To be called before the un_merge_dir that was asked goes away. */
void un_found_done(struct un_found *f);

/*
 * Look for @name in the positions from @from on (below @from it is known to be missing). @first_only:
 * the caller knows that nothing of that name takes part deeper; redirects are followed all the same.
 *
 * 0 also when nothing is found. -EPERM: a redirect or metacopy mark that is not followed; -EINVAL: a
 * redirect that is none; -ENODATA: a metacopy file whose data is nowhere; -EIO: a metacopy mark of
 * unknown form; other errors of the layers. Rules: fuse-unionfs-format(5), LOOKUP.
 */
int un_merge_lookup(const struct un_merge_dir *d, const char *name, unsigned from, bool first_only,
		    struct un_found *ret);

/*
 * Would @name show through if the upper had nothing there ("lower positive")? 1, 0 or -errno.
 * @d has the upper at position 0 if @has_upper.
 */
int un_merge_lower_positive(const struct un_merge_dir *d, const char *name, bool has_upper);

/* ---- the tar form of marks ----------------------------------------------------------------------- */

/* Does @name begin with `.wh.`? */
bool un_merge_tar_name(const char *name);

/*
 * The object @name in @w, which begins with `.wh.`: is it a mark, and no name that is shown? 1, 0 or
 * -errno. A regular file is one unless it was made through a union (UN_MARK_ORDINARY); in an upper it
 * is empty as well.
 */
int un_merge_tar_mark(const struct un_where *w, const char *name, const struct statx *st);

/* Does `.wh..wh..opq` in the directory @w hide what is below? 1, 0 or -errno. */
int un_merge_tar_opaque(const struct un_where *w);

/* ---- listings ---------------------------------------------------------------------------------- */

enum un_entry_flags {
	UN_ENTRY_LOWER = 1 << 0,    /* lower positive: removing it takes a whiteout */
	UN_ENTRY_MORE = 1 << 1,     /* a directory that merges with directories of layers below */
	UN_ENTRY_WHITEOUT = 1 << 2, /* hidden: the upper has a whiteout here, or a mark */
	UN_ENTRY_STOP = 1 << 3,     /* while building: what is below is hidden */
	UN_ENTRY_DECIDED = 1 << 4,  /* while building: UN_ENTRY_LOWER is final */
	UN_ENTRY_HIDDEN = 1 << 5,   /* not shown */
	UN_ENTRY_DEAD = 1 << 6,     /* removed, kept until the order is made anew */
};

/*
 * A name of a merged directory. Cookies are a function of the name, so that an offset stays good when the
 * listing changes or is built anew, without any state for an open directory; but for the few names that
 * must be told apart, where the order counts in which they came. So what is built anew for a directory
 * that may be open is given the listing before, and keeps its cookies.
 */
struct un_entry {
	uint32_t cookie; /* > 2, unique in the listing; < 2^31, but for what does not happen */
	uint32_t hash;
	uint64_t ino; /* d_ino of the topmost layer that has it */
	uint16_t pos; /* in the directory's stack */
	uint8_t type; /* DT_* */
	uint8_t flags;
	char name[];
};

/* All names of a merged directory. Not locked: changes need the exclusion of every reader. */
struct un_listing;

struct un_listing *un_listing_new(void);
struct un_listing *un_listing_free(struct un_listing *l);

/* The entry of @name, shown or hidden; NULL: no layer has the name. */
struct un_entry *un_listing_find(const struct un_listing *l, const char *name);

/* Adds or replaces. The entry stays valid until it is removed and the listing settled. */
struct un_entry *un_listing_put(struct un_listing *l, const char *name, unsigned pos, uint8_t type,
				uint8_t flags, uint64_t ino);
void un_listing_remove(struct un_listing *l, const char *name);

/* How many names are shown. */
size_t un_listing_shown(const struct un_listing *l);
/* Is any entry a whiteout of the upper? */
bool un_listing_has_whiteouts(const struct un_listing *l);

/*
 * Puts the order right after changes; needs exclusion. un_listing_settled(): is it right already?
 */
void un_listing_settle(struct un_listing *l);
bool un_listing_settled(const struct un_listing *l);

/* The first shown entry behind @cookie (0: the first at all), or NULL. The listing is settled. */
const struct un_entry *un_listing_next(const struct un_listing *l, uint64_t cookie);

/*
 * The same by positions, which are good until the listing is settled: that of the first behind
 * @cookie.
 */
size_t un_listing_after(const struct un_listing *l, uint64_t cookie);
/* The first shown entry from position *@at on; *@at is its position then. NULL: none is left. */
const struct un_entry *un_listing_at(const struct un_listing *l, size_t *at);

/* A layer has come on top of all others: every position is one further down. */
void un_listing_shift(struct un_listing *l);

/* Reads all layers. 0 or -errno; *ret is owned by the caller. @was: the listing it replaces, or NULL. */
int un_merge_list(const struct un_merge_dir *d, const struct un_listing *was,
		  struct un_listing **ret);
