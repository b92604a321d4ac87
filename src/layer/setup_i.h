/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps of un_layers_open(), in their order. Each returns 0 or a negative errno, and then has
 * written the sentence. The steps up to un_setup_work_open() change nothing on disk.
 */
#pragma once

#include "layer/setup.h"

struct un_setup {
	const struct un_setup_request *req;
	struct un_layers *ls;
	int work_parent; /* WORK, O_PATH, in the upper's clone if it has one; -1 without an upper */
	char **ret_err;
	char *sharer; /* where another live mount of the upper or workdir is, or NULL; owned */
};

/* Between the indices of lowers, for others to come; and how many layers there can be while a mount lives. */
#define UN_LAYER_STEP (1u << 20)
#define UN_LAYERS_EVER 4000

/* layers.c */
void un_setup_layer_init(struct un_layer *l, unsigned index);
/* Its descriptors, and nothing else. */
void un_setup_layer_close(struct un_layer *l);
/* Lowers have come, or gone. */
void un_layers_find_lowest(struct un_layers *ls);

/* setup.c: for those that come later, too. */
int un_setup_open_root(struct un_setup *s, struct un_layer *l, const char *option,
		       const char *path);
int un_setup_clone_lower(struct un_setup *s, struct un_layer *l);

/* setup-error.c: writes "OPTION: PATH: ERRNO" or "OPTION: PATH: REASON: ERRNO" and returns @r. */
int un_setup_fail(struct un_setup *s, int r, const char *option, const char *path);
int un_setup_refuse(struct un_setup *s, int r, const char *option, const char *path,
		    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/*
 * setup-check.c: which directory may lie where, and on what. Roots are the ones the user's paths
 * name, not yet clones.
 */
int un_setup_check(struct un_setup *s);
/* The same for one more lower; and that one is out again. */
int un_setup_check_more(struct un_setup *s, struct un_layer *l);
void un_setup_check_less(struct un_layers *ls, const struct un_layer *l);

/* setup-probe.c: file system by file system for the lowers, then the upper in WORK/work. */
int un_setup_probe_lowers(struct un_setup *s);
/* One more lower: as one that is there on the same file system, or by asking. */
void un_setup_probe_more(struct un_setup *s, struct un_layer *l);
int un_setup_probe_upper(struct un_setup *s);
/* The upper, of which nothing is asked by trying. */
void un_setup_probe_look(struct un_setup *s);

/* setup-look.c: the upper, WORK/work and WORK/index as they are, for whoever only looks. */
int un_setup_look(struct un_setup *s);
/*
 * setup-numbers.c: set layer.numbers and caps.handles; for an upper, by making @a and @b in work as
 * well.
 */
void un_setup_probe_numbers(struct un_layer *l);
int un_setup_probe_numbers_upper(struct un_layer *l, int work, const char *a, const char *b);
/* One log line for each thing the upper cannot do. */
/* All layers' marks are in this one. */
void un_setup_dialect(struct un_setup *s, enum un_dialect dialect);
void un_setup_probe_report(const struct un_setup *s);
/* May this process use trusted.* xattrs? */
bool un_setup_privileged(void);

/*
 * setup-work.c: WORK/work is made, refused if a volatile mount left it, locked, and emptied of what
 * dead mounts left there if no other is alive.
 */
int un_setup_work_open(struct un_setup *s);
int un_setup_work_volatile(struct un_setup *s);
/* Removes the names of this mount. */
void un_setup_work_close(struct un_layers *ls);

/*
 * setup-index.c: WORK/index is made and checked, and cleared of what no name leads to any more; or one
 * log line says why there is none.
 */
int un_setup_index(struct un_setup *s);
