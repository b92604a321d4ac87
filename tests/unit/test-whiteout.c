/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/layer-fault.h"
#include "../lib/stack.h"
#include "layer/whiteout.h"
#include "util/fd.h"

struct fixture {
	struct stack s;
	struct un_layers *ls;
	struct un_layer *u;
	struct un_whiteout_pool *pool;
	struct un_fault fault;
};

static int setup(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	stack_init(&f->s,
		   "u f = text\nu d/x = x\nu l -> f\nu x xwhiteout\nu full = x overlay.whiteout=\n"
		   "u empty =\nu w whiteout\nu p fifo");
	f->ls = stack_layers(&f->s);
	f->u = &f->ls->v[0];
	un_layer_fault(f->u, &f->fault);
	f->pool = un_whiteout_pool_new(f->u, f->ls->work, f->ls->work, "#test");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	f->fault.countdown = 0;
	assert_null(un_whiteout_pool_free(f->pool));
	assert_int_equal(fstatat(f->ls->work, "#test", &st, AT_SYMLINK_NOFOLLOW), -1);
	un_layer_unfault(f->u);
	un_layers_close(f->ls);
	stack_done(&f->s);
	g_free(f);
	return 0;
}

static int probe(struct fixture *f, const char *name)
{
	struct statx st;

	assert_int_equal(f->u->ops->stat(f->u, f->u->root, name, &st), 0);
	return un_whiteout_probe(UN_AT(f->u, f->u->root, name), &st);
}

static int links(struct fixture *f, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(f->u->root, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return (int)st.st_nlink;
}

/* Nothing of the pool's is in work but the master. */
static void only_master(struct fixture *f)
{
	g_autofree char *names = stack_ls(&f->s, "work/work");
	g_auto(GStrv) v = g_strsplit(names, " ", -1);

	for (char **p = v; *p; p++)
		if (g_str_has_prefix(*p, "#test"))
			assert_string_equal(*p, "#test");
}

static void probes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(probe(f, "f"), 0);
	assert_int_equal(probe(f, "d"), 0);
	assert_int_equal(probe(f, "l"), 0);
	assert_int_equal(probe(f, "p"), 0);
	assert_int_equal(probe(f, "empty"), 0);
	assert_int_equal(probe(f, "full"), 0); /* has data */
	assert_int_equal(probe(f, "x"), 1);
	assert_int_equal(probe(f, "w"), 1);
}

static void other_devices(void **state)
{
	struct fixture *f = *state;

	if (!f->s.root)
		skip();
	stack_add(&f->s, "u null chr 1:3\nu b blk 0:0");
	assert_int_equal(probe(f, "null"), 0);
	assert_int_equal(probe(f, "b"), 0);
}

static void probing_fails(void **state)
{
	struct fixture *f = *state;
	struct statx st;

	assert_int_equal(f->u->ops->stat(f->u, f->u->root, "empty", &st), 0);
	f->fault = (struct un_fault){ .countdown = 1, .err = EIO };
	assert_int_equal(un_whiteout_probe(UN_AT(f->u, f->u->root, "empty"), &st), -EIO);
	/* What may not be read is not called a whiteout. */
	f->fault = (struct un_fault){ .countdown = 1, .err = EACCES };
	assert_int_equal(un_whiteout_probe(UN_AT(f->u, f->u->root, "empty"), &st), 0);
}

static void linked_and_placed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(un_whiteout_link(f->pool, f->u->root, "new"), 0);
	assert_int_equal(probe(f, "new"), 1);
	assert_int_equal(un_whiteout_link(f->pool, f->u->root, "new"), -EEXIST);
	assert_int_equal(un_whiteout_link(f->pool, f->u->root, "f"), -EEXIST);
	assert_int_equal(probe(f, "f"), 0);
	only_master(f);
	static const char *const over[] = { "f", "l", "p", "w", "x", "new", "other" };
	for (size_t i = 0; i < G_N_ELEMENTS(over); i++) {
		assert_int_equal(un_whiteout_place(f->pool, f->u->root, over[i]), 0);
		assert_int_equal(probe(f, over[i]), 1);
		only_master(f);
	}
	/* One inode for all. */
	assert_int_equal(links(f, "f"), G_N_ELEMENTS(over) + 1);
	assert_int_equal(un_whiteout_place(f->pool, f->u->root, "f"), 0);
	only_master(f);
	assert_int_equal(un_whiteout_place(f->pool, f->u->root, "d"), -EISDIR);
	assert_int_equal(probe(f, "d"), 0);
	only_master(f);
}

static void full_master_is_replaced(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(un_whiteout_place(f->pool, f->u->root, "a"), 0);
	/* The next call is the link. */
	f->fault = (struct un_fault){ .countdown = 1, .err = EMLINK, .changes_only = true };
	assert_int_equal(un_whiteout_place(f->pool, f->u->root, "b"), 0);
	assert_true(f->fault.hit);
	assert_int_equal(probe(f, "a"), 1);
	assert_int_equal(probe(f, "b"), 1);
	assert_int_equal(links(f, "a"), 1);
	assert_int_equal(links(f, "b"), 2);
	only_master(f);
	/* Somebody emptied the work directory. */
	assert_int_equal(unlinkat(f->ls->work, "#test", 0), 0);
	assert_int_equal(un_whiteout_link(f->pool, f->u->root, "c"), 0);
	assert_int_equal(probe(f, "c"), 1);
	only_master(f);
}

/* As with an index: another mount empties that one. */
static void master_elsewhere(void **state)
{
	struct fixture *f = *state;
	struct un_whiteout_pool *pool;
	un_autofd int dir = -1;

	assert_int_equal(f->u->ops->mkdir(f->u, f->ls->work, "elsewhere", 0700), 0);
	dir = f->u->ops->open(f->u, f->ls->work, "elsewhere", O_PATH | O_DIRECTORY, 0);
	pool = un_whiteout_pool_new(f->u, f->ls->work, dir, "#other");
	for (int i = 0; i < 2; i++) {
		g_autofree char *name = g_strdup_printf("e%d", i), *names = NULL;
		g_autofree char *inside = NULL;

		assert_int_equal(un_whiteout_place(pool, f->u->root, name), 0);
		assert_int_equal(un_whiteout_link(pool, f->ls->work, "staged"), 0);
		assert_int_equal(unlinkat(f->ls->work, "staged", 0), 0);
		assert_int_equal(probe(f, name), 1);
		assert_int_equal(links(f, name), 2);
		names = stack_ls(&f->s, "work/work");
		inside = stack_ls(&f->s, "work/work/elsewhere");
		assert_string_equal(names, "elsewhere");
		assert_string_equal(inside, "#other");
		assert_int_equal(unlinkat(dir, "#other", 0), 0);
	}
	assert_int_equal(un_whiteout_place(pool, f->u->root, "f"), 0);
	un_whiteout_pool_free(pool);
	assert_int_equal(unlinkat(f->ls->work, "elsewhere", AT_REMOVEDIR), 0);
}

static void without_hard_links(void **state)
{
	static const int refusals[] = { EPERM, EOPNOTSUPP };
	struct fixture *f = *state;

	assert_int_equal(un_whiteout_link(f->pool, f->u->root, "a"), 0);
	for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
		char name[8];

		snprintf(name, sizeof(name), "n%zu", i);
		f->fault = (struct un_fault){ .countdown = 1,
					      .err = refusals[i],
					      .changes_only = true };
		assert_int_equal(un_whiteout_place(f->pool, f->u->root, name), 0);
		assert_int_equal(probe(f, name), 1);
		assert_int_equal(links(f, name), 1);
		only_master(f);
	}
}

/* At whatever step the disk is full: the entry is the old one or the whiteout. */
static void failures_are_harmless(void **state)
{
	static const int errnos[] = { ENOSPC, EIO, EDQUOT };
	struct fixture *f = *state;

	for (size_t e = 0; e < G_N_ELEMENTS(errnos); e++) {
		bool again = true;

		for (int n = 1; again; n++) {
			int r, is;

			stack_add(&f->s, "u victim = text");
			f->fault = (struct un_fault){ .countdown = n, .err = errnos[e] };
			r = un_whiteout_place(f->pool, f->u->root, "victim");
			again = f->fault.hit;
			f->fault.countdown = 0;
			is = probe(f, "victim");
			assert_int_equal(is, r == 0);
			assert_true(r == 0 || r == -errnos[e]);
			/* Only if removing it failed may a staged link be left. */
			if (r == 0 && again)
				un_whiteout_place(f->pool, f->u->root, "victim");
			else
				only_master(f);
			assert_int_equal(unlinkat(f->u->root, "victim", 0), 0);
			/* From the beginning, the master too. */
			un_whiteout_pool_free(f->pool);
			f->pool = un_whiteout_pool_new(f->u, f->ls->work, f->ls->work, "#test");
			for (int k = 0; k < 4; k++) {
				char name[32];

				snprintf(name, sizeof(name), "#test.%d", k);
				unlinkat(f->ls->work, name, 0);
			}
		}
	}
}

struct placer {
	pthread_t thread;
	struct fixture *f;
	int index, r;
};

static void *place_many(void *data)
{
	struct placer *p = data;

	for (int i = 0; i < 200 && p->r == 0; i++) {
		char name[32];

		/* Half of them where the others place theirs. */
		snprintf(name, sizeof(name), "t%d-%d", i % 2 ? 0 : p->index, i);
		p->r = un_whiteout_place(p->f->pool, p->f->u->root, name);
	}
	return NULL;
}

static void many_threads(void **state)
{
	struct placer p[4] = { 0 };

	for (int i = 0; i < 4; i++) {
		p[i].f = *state;
		p[i].index = i;
		pthread_create(&p[i].thread, NULL, place_many, &p[i]);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(p[i].thread, NULL);
		assert_int_equal(p[i].r, 0);
	}
	only_master(*state);
	assert_int_equal(links(*state, "t3-0"), 4 * 100 + 100 + 1);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(probes),
		T(other_devices),
		T(probing_fails),
		T(linked_and_placed),
		T(full_master_is_replaced),
		T(master_elsewhere),
		T(without_hard_links),
		T(failures_are_harmless),
		T(many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
