/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of fuse-unionfs-format(5), LOOKUP to METACOPY FILES, on layers as they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/layer-fault.h"
#include "../lib/stack.h"
#include "merge/merge.h"
#include "util/hash.h"

struct fixture {
	struct stack s;
	struct un_layers *ls;
	struct un_merge_dir d;
	bool upper;
	unsigned hollow; /* this position is a sub-mount; 0: none */
	unsigned open;
	int open_error; /* of the last position */
};

static int open_pos(void *ctx, unsigned pos, struct un_where *ret)
{
	struct fixture *f = ctx;

	if (f->open_error && pos + 1 == f->d.n)
		return f->open_error;
	*ret = (struct un_where){ .layer = &f->ls->v[pos + !f->upper] };
	ret->fd = f->hollow && pos == f->hollow ? -1 : ret->layer->root;
	f->open++;
	return 0;
}

static void close_pos(void *ctx, unsigned pos, struct un_where *w)
{
	((struct fixture *)ctx)->open--;
}

static struct fixture *start(const char *text)
{
	struct fixture *f = g_new0(struct fixture, 1);

	stack_init(&f->s, text);
	f->ls = stack_layers(&f->s);
	f->upper = true;
	f->d = (struct un_merge_dir){
		.n = f->ls->n + 1,
		.lowest = f->ls->lowest,
		.open = open_pos,
		.close = close_pos,
		.ctx = f,
	};
	return f;
}

static void finish(struct fixture *f)
{
	assert_int_equal(f->open, 0);
	un_layers_close(f->ls);
	stack_done(&f->s);
	g_free(f);
}

/*
 * What a lookup of "n" says: "-" nothing, "w" nothing with the upper's whiteout, else the positions,
 * "!" behind one that is opaque, "x" behind one with xattr whiteouts; or "E" and the errno.
 */
static char *found(struct fixture *f, unsigned from, bool first_only)
{
	GString *out = g_string_new("");
	struct un_found r;
	int e = un_merge_lookup(&f->d, "n", from, first_only, &r);

	if (e < 0) {
		g_string_printf(out, "E%d", -e);
		return g_string_free(out, FALSE);
	}
	for (unsigned i = 0; i < r.n; i++)
		g_string_append_printf(out, "%u%s%s", r.hits[i].pos, r.hits[i].opaque ? "!" : "",
				       r.hits[i].xwhiteouts ? "x" : "");
	if (r.n == 0)
		g_string_append_c(out, r.upper_whiteout ? 'w' : '-');
	assert_true(r.n == 0 || !r.upper_whiteout);
	un_found_done(&r);
	return g_string_free(out, FALSE);
}

/* Is "n" listed, and with which flags? "" if not; "L" lower positive, "M" more, "W" whiteout. */
static char *listed(struct fixture *f)
{
	struct un_listing *l;
	struct un_entry *e;
	GString *out = g_string_new("");
	int r = un_merge_list(&f->d, NULL, &l);

	if (r < 0) {
		g_string_printf(out, "E%d", -r);
		return g_string_free(out, FALSE);
	}
	e = un_listing_find(l, "n");
	if (e) {
		if (!(e->flags & UN_ENTRY_HIDDEN))
			g_string_append_printf(out, "%u", e->pos);
		g_string_append_printf(out, "%s%s%s", e->flags & UN_ENTRY_WHITEOUT ? "W" : "",
				       e->flags & UN_ENTRY_MORE ? "M" : "",
				       e->flags & UN_ENTRY_LOWER ? "L" : "");
		assert_int_equal(e->flags & (UN_ENTRY_STOP | UN_ENTRY_DECIDED | UN_ENTRY_DEAD), 0);
	}
	un_listing_free(l);
	return g_string_free(out, FALSE);
}

static const struct {
	const char *stack;
	const char *found;
	int lower_positive;
	const char *listed;
} rules[] = {
	{ "3 z = z", "-", 0, "" },
	{ "u n = u\n3 z = z", "0", 0, "0" },
	{ "u n = u\n1 n = 1\n3 z = z", "0", 1, "0L" },
	{ "1 n = 1\n2 n/x = 2\n3 z = z", "1", 1, "1L" },
	{ "3 n = 3", "3", 1, "3L" },
	{ "u n/u = u\n1 n/a = 1\n2 n/b = 2\n3 n/c = 3", "0123", 1, "0ML" },
	{ "u n/u = u\n2 n/b = 2\n3 z = z", "02", 1, "0ML" }, /* one without it is no end */
	{ "u n/u = u\n1 n = 1\n2 n/b = 2\n3 z = z", "0", 1, "0L" },
	{ "u n/u = u\n1 n -> x\n2 n/b = 2\n3 z = z", "0", 1, "0L" },
	{ "u n/ overlay.opaque=y\n1 n/a = 1\n3 z = z", "0!", 1, "0ML" },
	{ "u n/\n1 n/ overlay.opaque=y\n2 n/b = 2\n3 z = z", "01!", 1, "0ML" },
	{ "u n/\n1 n/ overlay.opaque=yes\n2 n/b = 2\n3 z = z", "012", 1, "0ML" },
	{ "u n/\n1 n/ overlay.opaque=x\n2 n/b = 2\n3 z = z", "01x2", 1, "0ML" },
	{ "1 n/ user.fuseoverlayfs.opaque=y\n2 n/b = 2\n3 z = z", "1!", 1, "1ML" },
	{ "u n/\n1 n whiteout\n2 n/b = 2\n3 z = z", "0", 0, "0" },
	{ "u n whiteout\n1 n = 1\n3 z = z", "w", 1, "WL" },
	{ "u n whiteout\n3 z = z", "w", 0, "W" }, /* a stale one hides and is known */
	{ "1 n whiteout\n2 n = 2\n3 z = z", "-", 0, "" },
	{ "3 n whiteout", "-", 0, "" },
	{ "u n = u\n1 n whiteout\n2 n = 2\n3 z = z", "0", 0, "0" },
	{ "u n whiteout\n1 n whiteout\n2 n = 2\n3 z = z", "w", 0, "W" },
	/* xattr whiteouts: lookup knows them anywhere; a listing where the directory says so. */
	{ "u n xwhiteout\n1 n = 1\n3 z = z", "w", 1, NULL },
	{ "1 n xwhiteout\n2 n = 2\n3 z = z", "-", 0, NULL },
	{ "1 n = x overlay.whiteout=\n2 n = 2\n3 z = z", "1", 1, "1L" }, /* has data */
	{ "u n -> x\n1 n/a = 1\n3 z = z", "0", 1, "0L" },
	{ "u n fifo\n3 z = z", "0", 0, "0" },
	/* the tar form: hides what is below its layer, not in it; in an upper with data it is a name */
	{ "1 .wh.n = x\n2 n = 2\n3 z = z", "-", 0, "" },
	{ "1 .wh.n = x\n1 n = 1\n2 n = 2\n3 z = z", "1", 1, "1L" },
	{ "1 .wh.n = x\n1 n/a = 1\n2 n/b = 2\n3 z = z", "1", 1, "1L" },
	{ "u n = u\n1 .wh.n = x\n2 n = 2\n3 z = z", "0", 0, "0" },
	{ "u n/\n1 .wh.n = x\n2 n/b = 2\n3 z = z", "0", 0, "0" },
	{ "u .wh.n = x\n1 n = 1\n3 z = z", "1", 1, "1L" },
	{ "1 n/.wh..wh..opq = x\n2 n/b = 2\n3 z = z", "1!", 1, "1ML" },
	{ "u n/.wh..wh..opq = x\n1 n/b = 2\n3 z = z", "01", 1, "0ML" },
	{ "u .wh.n =\n1 n = 1\n3 z = z", "-", 1, "" },
	{ "u .wh.n =\nu n/x = u\n1 n/y = 1\n3 z = z", "0", 1, "0L" },
	{ "u .wh.n =\nu n/ overlay.redirect=m\n1 n/y = 1\n3 z = z", "E1", 1, "0L" },
	{ "u .wh.n/\n1 n = 1\n3 z = z", "1", 1, "1L" },
	{ "u n/.wh..wh..opq =\n1 n/b = 2\n3 z = z", "0!", 1, "0ML" },
	/* and one that was made through a union is a name anywhere */
	{ "u .wh.n = overlay.ordinary=y\n1 n = 1\n3 z = z", "1", 1, "1L" },
	{ "1 .wh.n = overlay.ordinary=y\n2 n = 2\n3 z = z", "2", 1, "2L" },
	{ "u n/.wh..wh..opq = overlay.ordinary=y\n1 n/b = 2\n3 z = z", "01", 1, "0ML" },
	{ "1 n/.wh..wh..opq = overlay.ordinary=y\n2 n/b = 2\n3 z = z", "12", 1, "1ML" },
	/* marks that are not followed */
	{ "u n/ overlay.redirect=m\n1 n/x = 1\n3 z = z", "E1", 1, "0ML" },
	{ "2 n/ overlay.redirect=m\n3 z = z", "E1", 1, "2L" },
	{ "u n = size=100000 overlay.metacopy=\n1 n = 1\n3 z = z", "E1", 1, "0L" },
	{ "1 n = size=100000 overlay.metacopy=\n2 n = 1\n3 z = z", "E1", 1, "1L" },
	{ "u n = size=100000\n1 n = 1\n3 z = z", "0", 1, "0L" },
};

static void the_table(void **state)
{
	for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
		struct fixture *f = start(rules[i].stack);
		g_autofree char *got = found(f, 0, false), *list = listed(f);
		int lower = un_merge_lower_positive(&f->d, "n", true);

		if (rules[i].found && strcmp(got, rules[i].found) != 0)
			fail_msg("%s\n-> \"%s\", expected \"%s\"", rules[i].stack, got,
				 rules[i].found);
		if (lower != rules[i].lower_positive)
			fail_msg("%s\n-> lower positive %d", rules[i].stack, lower);
		if (rules[i].listed && strcmp(list, rules[i].listed) != 0)
			fail_msg("%s\n-> listed \"%s\", expected \"%s\"", rules[i].stack, list,
				 rules[i].listed);
		finish(f);
	}
}

static void from_and_first_only(void **state)
{
	struct fixture *f = start("1 n/a = 1\n2 n/b = 2\n3 n/c = 3\n");
	static const struct {
		unsigned from;
		bool first;
		const char *want;
	} table[] = { { 0, false, "123" }, { 1, false, "123" }, { 2, false, "23" },
		      { 0, true, "1" },    { 2, true, "2" },    { 4, false, "-" } };

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		g_autofree char *got = found(f, table[i].from, table[i].first);

		assert_string_equal(got, table[i].want);
	}
	finish(f);
}

/* What the marks of the found say. */
static void marks_of_the_found(void **state)
{
	struct fixture *f = start("1 n/x = 1\nu n/ overlay.impure=y overlay.origin=abc");
	struct un_found r;

	assert_int_equal(un_merge_lookup(&f->d, "n", 0, false, &r), 0);
	assert_int_equal(r.n, 2);
	assert_true(r.hits[0].impure);
	assert_true(r.hits[0].origin);
	assert_false(r.hits[1].impure);
	assert_true(S_ISDIR(r.hits[1].st.stx_mode));
	un_found_done(&r);
	un_found_done(&r);
	finish(f);
}

static void sub_mounts_are_empty(void **state)
{
	struct fixture *f = start("1 n = 1\n1 other = 1\n2 n = 2");
	g_autofree char *got = NULL, *list = NULL;

	f->hollow = 1;
	got = found(f, 0, false);
	assert_string_equal(got, "2");
	list = listed(f);
	assert_string_equal(list, "2L");
	assert_int_equal(un_merge_lower_positive(&f->d, "n", true), 1);
	assert_int_equal(un_merge_lower_positive(&f->d, "other", true), 0);
	finish(f);
}

/* A union of lowers only: position 0 is a lower. */
static void without_upper(void **state)
{
	struct fixture *f = start("1 n whiteout\n2 n = 2\n1 .wh.x = w\n2 x = 2");
	g_autofree char *got = NULL, *list = NULL;

	f->upper = false;
	f->d.n--;
	got = found(f, 0, false);
	assert_string_equal(got, "-");
	list = listed(f);
	assert_string_equal(list, "");
	assert_int_equal(un_merge_lower_positive(&f->d, "n", false), 0);
	assert_int_equal(un_merge_lower_positive(&f->d, "x", false), 0);
	finish(f);
}

static void sentinels_of_the_upper(void **state)
{
	struct fixture *f =
		start("u .wh..wh..opq =\nu .wh..opq = x\nu .wh.a = b\n1 .wh..wh.plnk/x = 1");
	struct un_listing *l;

	assert_int_equal(un_merge_list(&f->d, NULL, &l), 0);
	assert_non_null(un_listing_find(l, ".wh.a"));
	assert_non_null(un_listing_find(l, ".wh..opq"));
	assert_null(un_listing_find(l, ".wh..wh.plnk"));
	assert_int_equal(un_listing_shown(l), 2);
	assert_true(un_listing_has_whiteouts(l));
	un_listing_free(l);
	finish(f);
}

/*
 * Every failing question is an error, never a "no"; what was opened is closed.
 */
static void failures(void **state)
{
	static const char *const stacks[] = {
		"u n/\n1 n/ overlay.opaque=y\n2 n = 2",
		"u z = z\n1 z xwhiteout\n2 n = 2",
		"1 .wh.n = w\n2 n = 2",
		"u .wh.n =\n1 n = 1\n2 n = 2",
		"u n/.wh..wh..opq =\n1 n/.wh..wh..opq = x\n2 n/b = 2",
		"u n = u\n1 n = 1\n2 n = 2",
		"1 n xwhiteout\n2 n = 2",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(stacks); i++) {
		struct fixture *f = start(stacks[i]);
		g_autofree char *good = found(f, 0, false), *good_list = listed(f);
		int positive = un_merge_lower_positive(&f->d, "n", true);

		for (unsigned layer = 0; layer <= f->ls->n; layer++) {
			struct un_fault fault = { .hit = true };

			un_layer_fault(&f->ls->v[layer], &fault);
			for (int what = 0; what < 3; what++) {
				fault.hit = true;
				for (int n = 1; fault.hit; n++) {
					char *got;

					fault = (struct un_fault){ .countdown = n, .err = EIO };
					got = what == 0 ? found(f, 0, false)
					      : what == 1
						      ? listed(f)
						      : g_strdup_printf("%d",
									un_merge_lower_positive(
										&f->d, "n", true));
					if (fault.hit && strcmp(got, what == 2 ? "-5" : "E5") != 0)
						fail_msg("%s\nlayer %u, question %d, call %d: %s",
							 stacks[i], layer, what, n, got);
					if (!fault.hit && what < 2)
						assert_string_equal(got, what ? good_list : good);
					if (!fault.hit && what == 2)
						assert_int_equal(atoi(got), positive);
					g_free(got);
					assert_int_equal(f->open, 0);
				}
			}
			un_layer_unfault(&f->ls->v[layer]);
		}
		finish(f);
	}
}

static void a_directory_does_not_open(void **state)
{
	struct fixture *f = start("2 n = 2\n1 x = 1");
	g_autofree char *got = NULL, *list = NULL;

	f->open_error = -ESTALE;
	got = found(f, 0, false);
	assert_string_equal(got, "E116");
	list = listed(f);
	assert_string_equal(list, "E116");
	assert_int_equal(un_merge_lower_positive(&f->d, "n", true), -ESTALE);
	finish(f);
}

static void twenty_layers(void **state)
{
	GString *text = g_string_new("");
	struct fixture *f;
	struct un_found r;

	for (int i = 1; i <= 20; i++)
		g_string_append_printf(text, "%d n/f%d = x\n", i, i);
	f = start(text->str);
	assert_int_equal(un_merge_lookup(&f->d, "n", 0, false, &r), 0);
	assert_int_equal(r.n, 20);
	for (unsigned i = 0; i < r.n; i++)
		assert_int_equal(r.hits[i].pos, i + 1);
	un_found_done(&r);
	g_string_free(text, TRUE);
	finish(f);
}

/* Two names that meet in one place of a listing. */
static void names_that_meet(char a[32], char b[32])
{
	g_autoptr(GHashTable) seen =
		g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);

	for (unsigned k = 0;; k++) {
		char *name = g_strdup_printf("name-%u", k);
		gpointer h = GUINT_TO_POINTER((guint)un_hash_name(name) & 0xfffffff);
		const char *other = g_hash_table_lookup(seen, h);

		if (!other) {
			g_hash_table_insert(seen, h, name);
			continue;
		}
		g_strlcpy(a, other, 32);
		g_strlcpy(b, name, 32);
		g_free(name);
		return;
	}
}

/* Built anew, a listing has each name where it was before, whatever came or went beside it. */
static void positions_outlive_a_listing(void **state)
{
	char a[32], b[32];
	g_autofree char *text = NULL, *gone = NULL;
	struct un_listing *was, *l;
	struct fixture *f;
	uint32_t ca, cb;

	names_that_meet(a, b);
	text = g_strdup_printf("1 %s = x\n1 %s = x", a, b);
	f = start(text);
	assert_int_equal(un_merge_list(&f->d, NULL, &was), 0);
	ca = un_listing_find(was, a)->cookie;
	cb = un_listing_find(was, b)->cookie;
	assert_int_equal(MAX(ca, cb), MIN(ca, cb) + 1);
	/* The one that came first goes. */
	gone = g_strconcat("1/", ca < cb ? a : b, NULL);
	assert_int_equal(unlink(stack_path(&f->s, gone)), 0);
	assert_int_equal(un_merge_list(&f->d, was, &l), 0);
	assert_null(un_listing_find(l, ca < cb ? a : b));
	assert_int_equal(un_listing_find(l, ca < cb ? b : a)->cookie, MAX(ca, cb));
	un_listing_free(l);
	un_listing_free(was);
	finish(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table),          cmocka_unit_test(from_and_first_only),
		cmocka_unit_test(marks_of_the_found), cmocka_unit_test(sub_mounts_are_empty),
		cmocka_unit_test(without_upper),      cmocka_unit_test(sentinels_of_the_upper),
		cmocka_unit_test(failures),           cmocka_unit_test(a_directory_does_not_open),
		cmocka_unit_test(twenty_layers),      cmocka_unit_test(positions_outlive_a_listing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
