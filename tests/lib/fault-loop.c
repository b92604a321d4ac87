/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault-loop.h"
#include "layer-recorder.h"
#include "stack.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mode {
	const char *name;
	int err;
	bool changes_only;
	bool primed;   /* everything has been looked up and listed before, and is remembered */
	bool for_user; /* worth doing without privilege too */
};

static const struct mode modes[] = {
	{ "EIO, any call", EIO, false, false, false },
	{ "EIO, any call, primed", EIO, false, true, true },
	{ "ENOSPC", ENOSPC, true, false, true },
	{ "EDQUOT, primed", EDQUOT, true, true, false },
};

struct run {
	const struct fault_case *c;
	const struct mode *m;
	struct stack s;
	char *names;
	char *before, *after;
	char *held_before;
	int n;
	GString *complaints;
	GHashTable *told;
	unsigned faults, errors_after;

	struct un_layers *ls;
	struct un_fs *fs;
	struct un_layer *upper;
	struct un_fault fault;
	struct recorder rec;
	unsigned fds;
	struct un_inode *held;
};

static void complain(struct run *v, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void complain(struct run *v, const char *fmt, ...)
{
	g_autofree char *what = NULL, *key = NULL;
	va_list ap;

	va_start(ap, fmt);
	what = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	key = g_strconcat(v->rec.what, what, NULL);
	if (!g_hash_table_add(v->told, g_steal_pointer(&key)))
		return;
	g_string_append_printf(v->complaints, "  %s [%s] N=%d, failing %s: %s\n", v->c->op,
			       v->m ? v->m->name : "no fault", v->n,
			       *v->rec.what ? v->rec.what : "nothing", what);
}

/* The lines in which two views differ. */
static char *diff(const char *want, const char *got)
{
	g_auto(GStrv) a = g_strsplit(want, "\n", -1), b = g_strsplit(got, "\n", -1);
	GString *out = g_string_new("");

	for (char **p = a; *p; p++)
		if (**p && !g_strv_contains((const char *const *)b, *p))
			g_string_append_printf(out, "\n    - %s", *p);
	for (char **p = b; *p; p++)
		if (**p && !g_strv_contains((const char *const *)a, *p))
			g_string_append_printf(out, "\n    + %s", *p);
	return g_string_free(out, FALSE);
}

static char *replace(const char *view, const char *pattern, const char *by)
{
	g_autoptr(GRegex) re = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL);

	return g_regex_replace(re, view, -1, 0, by, 0, NULL);
}

/* What may differ after this fault. */
static char *normal(const struct run *v, const char *view)
{
	char *text = g_strdup(view), *old;

#define REPLACE(pattern, by) (old = text, text = replace(old, pattern, by), g_free(old))
	/* Best effort, as in the kernel: giving a directory its times back. */
	if (strcmp(v->rec.op, "utimens") == 0)
		REPLACE("^(\\S* d\\d+ \\S+) \\S+", "\\1 T");
	/* What was made and cannot be looked at is removed again. */
	if (strcmp(v->rec.op, "stat") == 0)
		REPLACE("^(\\S* d\\d+ \\S+) \\S+", "\\1 T");
	/* An empty target is replaced by a really empty one first, which its directory's time tells. */
	if (v->c->flags & CLEARS)
		REPLACE("^(d d\\d+ \\S+) \\S+", "\\1 T");
	/* A plain user's read-only directory stays open when it cannot be closed again (un_lifted). */
	if (strcmp(v->rec.op, "chmod") == 0 && geteuid() != 0 && !strstr(v->rec.what, "#staged"))
		REPLACE("^(\\S*) d\\d+", "\\1 d");
#undef REPLACE
	return text;
}

static bool same(struct run *v, const char *a, const char *b)
{
	g_autofree char *x = NULL, *y = NULL;

	if (strcmp(a, b) == 0)
		return true;
	x = normal(v, a);
	y = normal(v, b);
	return strcmp(x, y) == 0;
}

static void set_caps(struct run *v)
{
	struct un_layer_caps *caps = &v->ls->v[0].caps;

	if (v->c->flags & NO_TMPFILE)
		caps->tmpfile = false;
	if (v->c->flags & NO_WHITEOUT)
		caps->rename_whiteout = false;
	if (v->c->flags & NO_EXCHANGE)
		caps->rename_exchange = false;
}

static void open_union(struct run *v)
{
	v->fds = stack_count_fds();
	v->ls = stack_layers(&v->s);
	set_caps(v);
	v->upper = &v->ls->v[0];
	v->fault = (struct un_fault){ .countdown = -1, .hit = true };
	un_layer_fault(v->upper, &v->fault);
	un_layer_record(v->upper, &v->rec, &v->fault);
	v->fs = stack_fs_on(&v->s, v->ls);
}

static void close_union(struct run *v)
{
	g_autofree char *work = NULL;

	un_inode_put(v->fs, v->held);
	v->held = NULL;
	/* What the union has put on top begins with the layer as it was before, as all decorators do. */
	while (v->upper->ops_data != &v->rec) {
		struct un_layer *top = v->upper->ops_data;

		v->upper->ops = top->ops;
		v->upper->ops_data = top->ops_data;
		g_free(top);
	}
	un_layer_unrecord(v->upper, &v->rec);
	un_layer_unfault(v->upper);
	un_fs_free(v->fs);
	work = stack_ls(&v->s, "work/work");
	if (*work)
		complain(v, "left in work/work after un_fs_free: %s", work);
	if (stack_count_fds() != v->fds)
		complain(v, "descriptors leaked: %u before, %u after", v->fds, stack_count_fds());
}

static int run_op(struct run *v, int countdown)
{
	int r;

	v->fault = (struct un_fault){ .countdown = countdown,
				      .err = v->m ? v->m->err : 0,
				      .changes_only = v->m && v->m->changes_only };
	r = stack_do(v->fs, v->c->op);
	v->fault.countdown = -1;
	return r;
}

/*
 * Staged things that live on, but for the whiteouts' master ("#ID"). If it was their removal that
 * failed, this is made good when the union is closed: no reason for the operation to fail.
 */
static void check_work(struct run *v, int r)
{
	g_autofree char *all = stack_ls(&v->s, "work/work");
	g_auto(GStrv) names = g_strsplit(all, " ", -1);

	for (char **p = names; *p; p++) {
		if (!strpbrk(*p, "-."))
			continue;
		if (v->fault.hit && (r >= 0 || strcmp(v->rec.op, "unlink") == 0))
			continue;
		complain(v, "left in work/work: %s", *p);
	}
}

static char *view_of_held(struct run *v)
{
	struct statx st;
	char buf[256];
	ssize_t n = 0;
	bool cold;
	int r;

	if (!v->held)
		return g_strdup("");
	r = un_getattr(v->fs, v->held, &st);
	if (r < 0)
		return g_strdup_printf("getattr: %s", g_strerror(-r));
	if (S_ISREG(st.stx_mode))
		n = un_read(v->fs, v->held, buf, sizeof(buf), 0, &cold);
	if (S_ISLNK(st.stx_mode))
		n = un_readlink(v->fs, v->held, buf, sizeof(buf));
	if (n < 0)
		return g_strdup_printf("read: %s", g_strerror((int)-n));
	return g_strdup_printf("type %o size %llu ino %llu: %.*s", st.stx_mode & S_IFMT,
			       S_ISDIR(st.stx_mode) ? 0ull : (unsigned long long)st.stx_size,
			       (unsigned long long)st.stx_ino, (int)MIN(n, 40), buf);
}

static void open_held(struct run *v)
{
	int r;

	if (v->c->held) {
		v->held = stack_find(v->fs, v->c->held, &r);
		assert_int_equal(r, 0);
	}
	v->held_before = view_of_held(v);
}

/* Changes of data and attributes show in what is held; otherwise it stays what it was. */
static void check_held(struct run *v, bool done)
{
	g_autofree char *now = view_of_held(v);
	bool changes = !g_str_has_prefix(v->c->op, "unlink") &&
		       !g_str_has_prefix(v->c->op, "rmdir") &&
		       !g_str_has_prefix(v->c->op, "rename");

	if (g_str_has_prefix(now, "getattr:") || g_str_has_prefix(now, "read:"))
		complain(v, "what was held open is lost: %s", now);
	else if (!(done && changes) && strcmp(now, v->held_before) != 0)
		complain(v, "what was held open was \"%s\", is \"%s\"", v->held_before, now);
	g_clear_pointer(&v->held_before, g_free);
}

/* v->before, v->after or, complaining, NULL. */
static const char *which(struct run *v, int r, const char *who, const char *view)
{
	g_autofree char *a = NULL, *b = NULL;

	if (r >= 0 && same(v, view, v->after))
		return v->after;
	if (same(v, view, v->before))
		return v->before;
	if (same(v, view, v->after))
		return v->after;
	a = diff(v->before, view);
	b = diff(v->after, view);
	if (!(v->c->flags & IN_TWO) || strstr(view, " !"))
		complain(v, "%s sees something between;\n   before -> it:%s\n   after -> it:%s",
			 who, a, b);
	return NULL;
}

static char *view_from_outside(struct run *v)
{
	struct un_fs *fs = stack_fs(&v->s);
	char *view = stack_view(fs, 0, NULL);

	un_fs_free(fs);
	return view;
}

static void check_errno(struct run *v, int r)
{
	if (r >= 0 || r == -v->m->err)
		return;
	if (r == -EXDEV && (v->c->flags & OR_XDEV))
		return;
	complain(v, "returned %s", g_strerror(-r));
}

/* The operation once more, with nothing in its way. */
static void repeat(struct run *v, const char *state)
{
	g_autofree char *view = NULL;
	int r = run_op(v, -1);

	/* It has happened although it said no: then there is nothing left to do for some. */
	if (state == v->after) {
		v->errors_after++;
		if (r == -EEXIST || r == -ENOENT || r == -ENODATA)
			r = 0;
	}
	if (r < 0) {
		complain(v, "done again: %s", g_strerror(-r));
		return;
	}
	view = stack_view(v->fs, STACK_VIEW_NAMES, v->names);
	if (!same(v, view, v->after)) {
		g_autofree char *d = diff(v->after, view);

		complain(v, "done again, it sees not the result:%s", d);
	}
}

static void check_after(struct run *v, int r)
{
	g_autofree char *living = stack_view(v->fs, STACK_VIEW_NAMES, v->names);
	g_autofree char *outside = view_from_outside(v);
	const char *state = which(v, r, "the living union", living);
	const char *state2 = which(v, r, "another union", outside);

	if (state && state2 && state != state2)
		complain(v, "the living union sees the state %s, another one that %s",
			 state == v->before ? "before" : "after",
			 state2 == v->before ? "before" : "after");
	if (r >= 0 && state == v->before)
		complain(v, "succeeded, but nothing happened");
	check_work(v, r);
	check_held(v, r >= 0 || state == v->after);
	if (r < 0)
		repeat(v, state);
}

/* Returns false when the operation does not come as far as the fault. */
static bool one_fault(struct run *v)
{
	bool was_hit;
	int r;

	stack_reset_upper(&v->s);
	open_union(v);
	if (v->m->primed)
		g_free(stack_view(v->fs, STACK_VIEW_KEEP, NULL));
	open_held(v);
	r = run_op(v, v->n);
	was_hit = v->fault.hit;
	if (getenv("UN_FAULTS_VERBOSE"))
		print_message("%s [%s] N=%d %s: %s\n", v->c->op, v->m->name, v->n, v->rec.what,
			      g_strerror(-MIN(r, 0)));
	if (!was_hit && r < 0)
		complain(v, "failed without a fault: %s", g_strerror(-r));
	check_errno(v, r);
	check_after(v, r);
	close_union(v);
	if (!v->m->primed) {
		g_autofree char *outside = view_from_outside(v);

		if (!same(v, outside, v->after) && !(v->c->flags & IN_TWO)) {
			g_autofree char *d = diff(v->after, outside);

			complain(v, "closed and opened again, not the result:%s", d);
		}
	}
	return was_hit;
}

/* What the tree looks like before, and after an operation without a fault. */
static void learn(struct run *v)
{
	g_autofree char *outside = NULL, *names = stack_names(&v->s);
	g_auto(GStrv) words = g_strsplit_set(v->c->op, " /", -1);
	GString *all = g_string_new(names);
	int r;

	for (char **p = words; *p; p++)
		if (strlen(*p) < 64)
			g_string_append_printf(all, "%s ", *p);
	v->names = g_string_free(all, FALSE);
	v->before = view_from_outside(v);
	stack_reset_upper(&v->s);
	open_union(v);
	r = run_op(v, -1);
	if (r < 0)
		fail_msg("%s: %s", v->c->op, g_strerror(-r));
	v->after = stack_view(v->fs, STACK_VIEW_NAMES, v->names);
	check_work(v, r);
	close_union(v);
	outside = view_from_outside(v);
	if (strcmp(outside, v->after) != 0) {
		g_autofree char *d = diff(v->after, outside);

		fail_msg("%s: a union opened later sees:%s", v->c->op, d);
	}
	if (strcmp(v->before, v->after) == 0 || strstr(v->before, " !") || strstr(v->after, " !"))
		fail_msg("%s: no good case:\n%s->\n%s", v->c->op, v->before, v->after);
}

void fault_loop(void **state)
{
	static const struct un_owners override = { .override = UN_OVERRIDE_USER };
	const struct fault_case *c = *state;
	char *lower, *lower_after;
	struct run v = { .c = c };
	unsigned fds = stack_count_fds();
	bool bad;

	if ((c->flags & ROOT) && geteuid() != 0)
		skip();
	stack_init(&v.s, c->stack);
	if ((c->flags & ROOT) && !v.s.root) {
		stack_done(&v.s);
		skip(); /* a user namespace with one id in it */
	}
	v.s.no_clone = !(c->flags & CLONE);
	v.s.sync = c->flags & SYNC;
	v.s.revalidate = c->flags & REVALIDATE;
	v.s.format = c->flags & FORMAT;
	v.s.owners = c->flags & OVERRIDE ? &override : NULL;
	v.complaints = g_string_new("");
	v.told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	lower = stack_disk(&v.s, "1");
	learn(&v);
	for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
		v.m = &modes[i];
		if (geteuid() != 0 && !v.m->for_user)
			continue;
		for (v.n = 1; one_fault(&v); v.n++) {
			v.faults++;
			assert_true(v.n < 500);
		}
	}
	lower_after = stack_disk(&v.s, "1");
	if (strcmp(lower, lower_after) != 0)
		g_string_append_printf(v.complaints, "  the lower changed:\n%s->\n%s", lower,
				       lower_after);
	stack_done(&v.s);
	assert_int_equal(stack_count_fds(), fds);
	if (getenv("UN_FAULTS_VERBOSE"))
		print_message("%s: %u faults, %u errors though it was done\n", c->name, v.faults,
			      v.errors_after);
	/* cmocka's messages are cut off at 1 KiB. */
	printf("%s", v.complaints->str);
	(void)fflush(stdout);
	bad = v.complaints->len > 0;
	g_string_free(v.complaints, TRUE);
	g_hash_table_destroy(v.told);
	g_free(lower);
	g_free(lower_after);
	g_free(v.names);
	g_free(v.before);
	g_free(v.after);
	assert_true(v.faults > 0);
	assert_false(bad);
}
