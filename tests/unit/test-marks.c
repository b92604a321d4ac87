/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/layer-fault.h"
#include "../lib/stack.h"
#include "layer/marks.h"

struct fixture {
	struct stack s;
	struct un_layers *ls;
	struct un_layer *u;
};

static int setup(void **state)
{
	struct fixture *f = g_new0(struct fixture, 1);

	stack_init(&f->s, "u f = text\nu d/\nu l -> f");
	f->ls = stack_layers(&f->s);
	f->u = &f->ls->v[0];
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	un_layers_close(f->ls);
	stack_done(&f->s);
	g_free(f);
	return 0;
}

#define AT(f, name) UN_AT((f)->u, (f)->u->root, name)

/* Layers with marks of either dialect. */
static const struct un_layer trusted = { .dialect = UN_DIALECT_TRUSTED };
static const struct un_layer user = { .dialect = UN_DIALECT_USER };

static void names(void **state)
{
	assert_string_equal(un_mark_name(&trusted, UN_MARK_OPAQUE), "trusted.overlay.opaque");
	assert_string_equal(un_mark_name(&user, UN_MARK_ORIGIN), "user.overlay.origin");
	assert_string_equal(un_mark_name(&trusted, UN_MARK_LEGACY_OPAQUE),
			    "user.fuseoverlayfs.opaque");
	for (int m = 0; m < UN_N_MARKS; m++)
		assert_non_null(un_mark_name(&user, m));
}

static void users_names(void **state)
{
	static const struct {
		const struct un_layer *d;
		const char *user, *layer;
	} table[] = {
		{ &trusted, "user.x", "user.x" },
		{ &trusted, "trusted.x", "trusted.x" },
		{ &trusted, "trusted.overlay.opaque", "trusted.overlay.overlay.opaque" },
		{ &trusted, "trusted.overlay.overlay.opaque",
		  "trusted.overlay.overlay.overlay.opaque" },
		{ &trusted, "trusted.overlayX", "trusted.overlayX" },
		{ &trusted, "user.overlay.opaque", "user.overlay.opaque" },
		{ &user, "trusted.overlay.opaque", "trusted.overlay.opaque" },
		{ &user, "user.overlay.x", "user.overlay.overlay.x" },
		{ &user, "user.fuseoverlayfs.opaque", "user.fuseoverlayfs.overlay.opaque" },
		{ &trusted, "system.posix_acl_access", "system.posix_acl_access" },
	};
	char buf[XATTR_NAME_MAX + 1];

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		assert_int_equal(un_xattr_to_layer(table[i].d, table[i].user, buf), 0);
		assert_string_equal(buf, table[i].layer);
		assert_string_equal(un_xattr_from_layer(table[i].d, table[i].layer, buf),
				    table[i].user);
	}
	assert_null(un_xattr_from_layer(&trusted, "trusted.overlay.opaque", buf));
	assert_null(un_xattr_from_layer(&trusted, "trusted.overlay.anything", buf));
	assert_null(un_xattr_from_layer(&user, "user.fuseoverlayfs.origin", buf));
	/* "overlay" without more is no nesting. */
	assert_null(un_xattr_from_layer(&user, "user.overlay.overlay", buf));
}

static void longest_names(void **state)
{
	char name[XATTR_NAME_MAX + 2], buf[XATTR_NAME_MAX + 1];

	memset(name, 'x', sizeof(name));
	memcpy(name, "user.", 5);
	name[XATTR_NAME_MAX] = '\0';
	assert_int_equal(un_xattr_to_layer(&trusted, name, buf), 0);
	assert_string_equal(name, buf);
	memcpy(name, "user.overlay.", 13);
	assert_int_equal(un_xattr_to_layer(&user, name, buf), -EOPNOTSUPP);
	assert_int_equal(un_xattr_to_layer(&trusted, name, buf), 0);
	name[XATTR_NAME_MAX - 8] = '\0';
	assert_int_equal(un_xattr_to_layer(&user, name, buf), 0);
	assert_int_equal(strlen(buf), XATTR_NAME_MAX);
	name[XATTR_NAME_MAX - 8] = 'x';
	name[XATTR_NAME_MAX - 7] = '\0';
	assert_int_equal(un_xattr_to_layer(&user, name, buf), -EOPNOTSUPP);
}

static void set_get_clear(void **state)
{
	struct fixture *f = *state;
	unsigned marks = 77;
	char v[8];

	assert_int_equal(un_marks_scan(AT(f, "f"), &marks), 0);
	assert_int_equal(marks, 0);
	assert_int_equal(un_mark_get(AT(f, "f"), UN_MARK_ORIGIN, v, sizeof(v)), -ENODATA);
	assert_int_equal(un_mark_clear(AT(f, "f"), UN_MARK_ORIGIN), 0);
	assert_int_equal(un_mark_set(AT(f, "f"), UN_MARK_ORIGIN, "abc", 3), 0);
	assert_int_equal(un_mark_set(AT(f, "f"), UN_MARK_METACOPY, "", 0), 0);
	assert_int_equal(un_mark_get(AT(f, "f"), UN_MARK_ORIGIN, v, sizeof(v)), 3);
	assert_memory_equal(v, "abc", 3);
	assert_int_equal(un_mark_get(AT(f, "f"), UN_MARK_ORIGIN, v, 2), -ERANGE);
	assert_int_equal(un_mark_get(AT(f, "f"), UN_MARK_METACOPY, v, sizeof(v)), 0);
	assert_int_equal(un_marks_scan(AT(f, "f"), &marks), 0);
	assert_int_equal(marks, UN_HAS_ANY | UN_HAS(UN_MARK_ORIGIN) | UN_HAS(UN_MARK_METACOPY));
	assert_int_equal(un_mark_clear(AT(f, "f"), UN_MARK_ORIGIN), 0);
	assert_int_equal(un_marks_scan(AT(f, "f"), &marks), 0);
	assert_int_equal(marks, UN_HAS_ANY | UN_HAS(UN_MARK_METACOPY));
	assert_int_equal(un_marks_scan(AT(f, "none"), &marks), -ENOENT);
	assert_int_equal(un_mark_get(AT(f, "none"), UN_MARK_ORIGIN, v, 1), -ENOENT);
	assert_int_equal(un_mark_set(AT(f, "none"), UN_MARK_ORIGIN, v, 1), -ENOENT);
	/* Of the link, not of what it leads to. */
	assert_int_equal(un_marks_scan(AT(f, "l"), &marks), 0);
	assert_int_equal(marks, 0);
}

/* Marks are found among more names than a small buffer holds. */
static void many_names(void **state)
{
	struct fixture *f = *state;
	unsigned marks;
	size_t len = 0;
	char *list;
	ssize_t n;

	assert_int_equal(un_xattr_list(UN_AT(f->u, f->u->root, "d"), &list), 0);
	assert_null(list);
	for (int i = 0; i < 30; i++) {
		char name[100];

		snprintf(name, sizeof(name), "user.%060d", i);
		if (f->u->ops->setxattr(f->u, f->u->root, "d", name, "", 0, 0) < 0)
			skip(); /* a file system with little room for them */
		len += strlen(name) + 1;
	}
	assert_int_equal(un_mark_set(AT(f, "d"), UN_MARK_IMPURE, "y", 1), 0);
	len += strlen(un_mark_name(f->u, UN_MARK_IMPURE)) + 1;
	assert_int_equal(un_marks_scan(AT(f, "d"), &marks), 0);
	assert_int_equal(marks, UN_HAS_ANY | UN_HAS(UN_MARK_IMPURE));
	n = un_xattr_list(UN_AT(f->u, f->u->root, "d"), &list);
	assert_int_equal(n, len);
	assert_int_equal(list[n - 1], '\0');
	free(list);
	assert_int_equal(un_xattr_list(UN_AT(f->u, f->u->root, "none"), &list), -ENOENT);
}

static void opaque(void **state)
{
	static const struct {
		const char *value;
		int r;
		bool x;
	} table[] = { { "y", 1, false }, { "x", 0, true },  { "yes", 0, false },
		      { "", 0, false },  { "n", 0, false }, { "yyyyyy", 0, false },
		      { "Y", 0, false } };
	struct fixture *f = *state;
	unsigned marks;
	bool x;

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		assert_int_equal(un_mark_set(AT(f, "d"), UN_MARK_OPAQUE, table[i].value,
					     strlen(table[i].value)),
				 0);
		assert_int_equal(un_marks_scan(AT(f, "d"), &marks), 0);
		assert_int_equal(un_marks_opaque(AT(f, "d"), marks, &x), table[i].r);
		assert_int_equal(x, table[i].x);
	}
	assert_int_equal(un_mark_clear(AT(f, "d"), UN_MARK_OPAQUE), 0);
	/* What fuse-overlayfs wrote: only the first byte counts. */
	assert_int_equal(un_mark_set(AT(f, "d"), UN_MARK_LEGACY_OPAQUE, "yes", 3), 0);
	assert_int_equal(un_marks_scan(AT(f, "d"), &marks), 0);
	assert_int_equal(marks, UN_HAS_ANY | UN_HAS(UN_MARK_LEGACY_OPAQUE));
	assert_int_equal(un_marks_opaque(AT(f, "d"), marks, &x), 1);
	assert_int_equal(un_mark_set(AT(f, "d"), UN_MARK_LEGACY_OPAQUE, "no", 2), 0);
	assert_int_equal(un_marks_opaque(AT(f, "d"), marks, &x), 0);
	/* The scan says it is there; meanwhile it is not. */
	assert_int_equal(un_marks_opaque(AT(f, "d"), UN_HAS(UN_MARK_OPAQUE), &x), 0);
	assert_int_equal(un_marks_opaque(AT(f, "d"), 0, &x), 0);
}

static int with_fault(struct fixture *f, struct un_fault *fault, int err)
{
	*fault = (struct un_fault){ .countdown = 1, .err = err };
	return 0;
}

static void failures(void **state)
{
	struct fixture *f = *state;
	struct un_fault fault = { 0 };
	unsigned marks = 1;
	char v[4], *list;
	bool x;

	un_layer_fault(f->u, &fault);
	with_fault(f, &fault, EIO);
	assert_int_equal(un_marks_scan(AT(f, "f"), &marks), -EIO);
	with_fault(f, &fault, EIO);
	assert_int_equal(un_mark_get(AT(f, "f"), UN_MARK_ORIGIN, v, sizeof(v)), -EIO);
	with_fault(f, &fault, ENOSPC);
	assert_int_equal(un_mark_set(AT(f, "f"), UN_MARK_ORIGIN, v, sizeof(v)), -ENOSPC);
	with_fault(f, &fault, EIO);
	assert_int_equal(un_mark_clear(AT(f, "f"), UN_MARK_ORIGIN), -EIO);
	with_fault(f, &fault, EIO);
	assert_int_equal(un_xattr_list(UN_AT(f->u, f->u->root, "f"), &list), -EIO);
	with_fault(f, &fault, EIO);
	assert_int_equal(un_marks_opaque(AT(f, "f"), UN_HAS(UN_MARK_OPAQUE), &x), -EIO);
	/* A file system without xattrs has none. */
	with_fault(f, &fault, ENOTSUP);
	assert_int_equal(un_marks_scan(AT(f, "f"), &marks), 0);
	assert_int_equal(marks, 0);
	with_fault(f, &fault, ENOTSUP);
	assert_int_equal(un_mark_get(AT(f, "f"), UN_MARK_ORIGIN, v, sizeof(v)), -ENODATA);
	with_fault(f, &fault, ENOTSUP);
	assert_int_equal(un_mark_clear(AT(f, "f"), UN_MARK_ORIGIN), 0);
	with_fault(f, &fault, ENOTSUP);
	assert_int_equal(un_xattr_list(UN_AT(f->u, f->u->root, "f"), &list), 0);
	assert_null(list);
	with_fault(f, &fault, ENOTSUP);
	assert_int_equal(un_mark_set(AT(f, "f"), UN_MARK_ORIGIN, v, sizeof(v)), -ENOTSUP);
	/* The list grew between two questions. */
	with_fault(f, &fault, ERANGE);
	assert_int_equal(un_marks_scan(AT(f, "f"), &marks), 0);
	with_fault(f, &fault, ERANGE);
	assert_int_equal(un_xattr_list(UN_AT(f->u, f->u->root, "f"), &list), 0);
	un_layer_unfault(f->u);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(users_names),
		cmocka_unit_test(longest_names),
		T(set_get_clear),
		T(many_names),
		T(opaque),
		T(failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
