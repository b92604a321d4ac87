/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From paths to layers: open them, refuse what the kernel's overlayfs refuses, find out what their
 * file systems can do, prepare the work directory. Nothing is changed on disk before every check
 * has passed.
 */
#pragma once

#include "layer/layer.h"

#include <glib.h>

struct un_setup_request {
	const char *const *lowers; /* top first */
	unsigned n_lowers;
	const char *const *data; /* data-only layers, top first */
	unsigned n_data;
	const char *upper; /* NULL: read-only */
	const char *work;
	bool userxattr;   /* forced; otherwise by probing: trusted if it can be set, else user */
	bool index;       /* keep hard links of lower files together, if it can be done */
	bool index_asked; /* ... and if this upper's index belongs to another lower, refuse */
	bool alone;       /* refuse an upper or work that another live mount uses; false: warn */
	unsigned patience; /* ms to wait for that mount to end first; 0, in tests: no warning */
	bool no_uuid;     /* origins do not tell the file system they are of */
	bool noatime;     /* reading moves no times of access in the upper */
	bool is_volatile; /* leave WORK/work/incompat/volatile/dirty */
	bool no_clone;    /* tests: behave like an unprivileged mount */
	/*
	 * Not to be mounted, only looked at: nothing is changed on disk, no lock is taken, work may be NULL and
	 * there may be no lowers. work and index of the result are -1 if there are none.
	 */
	bool look;
	bool mend; /* ... but for what the caller changes in the upper, after un_layers_claim() */
};

struct un_layers {
	/*
	 * v[0] is the upper (root == -1 if there is none), v[1..n] are the lowers that the mount began with,
	 * and data-only layers follow. Lowers that came later are behind these, and those that went away stay,
	 * marked `gone`: whoever looks at all that are there now uses un_layers_next().
	 */
	struct un_layer *v;
	unsigned n;             /* lowers, at the beginning */
	unsigned n_data;        /* data-only layers */
	atomic_uint used;       /* of v[] */
	atomic_uint lowest;     /* the index of the lowest lower that is there now */
	GPtrArray *roots;       /* setup-check.c: where the layers lie */
	bool no_uuid, no_clone; /* as asked for */
	bool has_upper;
	int work;         /* O_PATH-or-better directory fd of WORK/work, in the upper's clone; -1 */
	int index;        /* directory fd of WORK/index; -1: there is no index */
	bool index_used;  /* it is not empty */
	bool index_asked; /* the user asked for it: other mounts of this upper are to read it */
	bool index_marked; /* marks of upper root and index say that they belong together */
	int upper_lock;    /* tells others that the upper is in use; -1 */
	char *stage_id;    /* unique to this mount; its names in WORK/work begin "#ID" */
	int stage_lock;    /* WORK/work, locked: tells others that this mount is alive; -1 */
};

/*
 * Opens everything. On failure returns NULL and a sentence in *ret_err (owned by the caller) that
 * names the option, the path and the reason.
 */
struct un_layers *un_layers_open(const struct un_setup_request *req, char **ret_err);

/*
 * For layers that were opened to `look`: keeps every mount of ours away from upper and workdir until they are
 * closed. 0; or -EBUSY: a mount, ours or the kernel's, uses one of them, *ret_who says where (owned by the
 * caller); or another -errno of locking, without *ret_who: who cannot lock cannot know that he is alone.
 */
int un_layers_claim(struct un_layers *ls, char **ret_who);
/* Does a mount use upper or workdir now? Where, or NULL; takes no lock. */
char *un_layers_in_use(struct un_layers *ls);

/* What an entry of the index says. */
struct un_index_entry {
	bool alive;           /* a name leads to it; otherwise the next mount removes it */
	bool understood;      /* its mark nlink, if it has one */
	bool counted;         /* what the union shows is known: */
	long shown;           /* so many links, even less than none if the mark is wrong */
	unsigned lower_links; /* of the lower file that it stands for; 0: not known */
};

/* For layers with an index. @st: of the entry @name. -EINVAL: that is not the name of one. */
int un_layers_index_entry(struct un_layers *ls, const char *name, const struct statx *st,
			  struct un_index_entry *ret);
/* Was the index made over this topmost lower, and for this upper? 0 or -errno. Yes if nothing says so. */
int un_layers_index_fits(struct un_layers *ls, bool *ret_lower, bool *ret_upper);

/* The layer behind @l (NULL: the first) that is in the union now, in no order; NULL: there is none. */
struct un_layer *un_layers_next(const struct un_layers *ls, const struct un_layer *l);
/* The lowers that are there now, top first; free with g_ptr_array_unref(). */
GPtrArray *un_layers_lowers(const struct un_layers *ls);
/*
 * Opens one more lower, which is at the place @at (1: the top one) from now on, if @ready, which is called before
 * anybody sees it, returns 0. NULL and a sentence: it cannot be one. These two are called by one thread at a time.
 */
struct un_layer *un_layers_add_lower(struct un_layers *ls, const char *path, unsigned at,
				     int (*ready)(void *data, struct un_layer *l), void *data,
				     char **ret_err);
/* The lower at @path, however that is written; if nothing is there any more, the one that was opened by it; or NULL. */
struct un_layer *un_layers_find_lower(const struct un_layers *ls, const char *path);
/* It is none of them any more, and is closed when nobody needs it. */
void un_layers_remove_lower(struct un_layers *ls, struct un_layer *l);

/*
 * To be called before the first entry of the index is made: marks the upper's root with the lower
 * it is over, and the index with the upper it belongs to. A second call does no harm. 0 or -errno.
 */
int un_layers_mark_index(struct un_layers *ls);

/*
 * At the end of a mount, @hold true: are upper and workdir used by no other mount? If so, a new
 * mount that wants the same workdir waits from now on until this is called with @hold false.
 */
bool un_layers_alone(struct un_layers *ls, bool hold);

/* Removes what this mount still has in WORK/work and WORK/index, closes all. Accepts NULL. */
void un_layers_close(struct un_layers *ls);
