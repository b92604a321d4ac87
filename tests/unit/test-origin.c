/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/stack.h"
#include "layer/origin.h"

/* The kernel's on ext4 (fuse-unionfs-format(5), ORIGINS): inode 65543, generation 0x6c91c9. */
static const uint8_t ext4[29] = { 0x00, 0xfb, 0x1d, 0x00, 0x01, 0x7d, 0x40, 0x45, 0x8d, 1,
				  2,    3,    4,    5,    6,    7,    8,    9,    10,   11,
				  12,   0x07, 0x00, 0x01, 0x00, 0xc9, 0x91, 0xc9, 0x6c };

static void parses(void **state)
{
	struct un_origin o;

	assert_int_equal(un_origin_parse(ext4, sizeof(ext4), &o), 0);
	assert_int_equal(o.type, 1);
	assert_int_equal(o.fid_len, 8);
	assert_memory_equal(o.uuid, ext4 + 5, 16);
	assert_memory_equal(o.fid, ext4 + 21, 8);
}

static void refuses(void **state)
{
	static const struct {
		unsigned at;
		uint8_t value;
	} wrong[] = {
		{ 0, 1 },    /* newer */
		{ 1, 0xfc }, /* magic */
		{ 2, 30 },   /* longer than the value */
		{ 2, 21 },   /* no handle */
		{ 2, 0 },    { 3, __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 0 : 1 }, /* foreign */
		{ 3, 4 }, /* of an upper object */
		{ 3, 0x80 },
	};
	uint8_t v[256] = { 0 };
	struct un_origin o;

	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		memcpy(v, ext4, sizeof(ext4));
		v[wrong[i].at] = wrong[i].value;
		assert_int_equal(un_origin_parse(v, sizeof(ext4), &o), -EINVAL);
	}
	memcpy(v, ext4, sizeof(ext4));
	for (size_t len = 0; len < sizeof(ext4); len++)
		assert_int_equal(un_origin_parse(v, len, &o), -EINVAL);
	/* Of any endianness; with bytes behind it. */
	v[3] = 2;
	assert_int_equal(un_origin_parse(v, sizeof(ext4), &o), 0);
	assert_int_equal(un_origin_parse(v, sizeof(ext4) + 1, &o), 0);
	/* The longest there is, and more. */
	memcpy(v, ext4, sizeof(ext4));
	v[2] = UN_ORIGIN_MAX;
	assert_int_equal(un_origin_parse(v, UN_ORIGIN_MAX, &o), 0);
	assert_int_equal(o.fid_len, 128);
	v[2] = UN_ORIGIN_MAX + 1;
	assert_int_equal(un_origin_parse(v, UN_ORIGIN_MAX + 1, &o), -EINVAL);
}

static void of_real_objects(void **state)
{
	static const char *const names[] = { "f", "d", "l", "p", "" };
	struct stack s;
	struct un_layers *ls;
	struct un_layer *l;

	stack_init(&s, "1 f = x\n1 d/x = y\n1 l -> none\n1 p fifo");
	ls = stack_layers(&s);
	l = &ls->v[1];
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		uint8_t v[UN_ORIGIN_MAX];
		ssize_t n = un_origin_format(UN_AT(l, l->root, names[i]), v);
		struct un_origin o;
		struct statx st, found;

		if (n == 0 && !l->caps.handles)
			break;
		assert_true(n > 21);
		assert_int_equal(v[2], n);
		assert_int_equal(un_origin_parse(v, (size_t)n, &o), 0);
		assert_memory_equal(o.uuid, l->uuid, 16);
		assert_int_equal(l->ops->stat(l, l->root, names[i], &st), 0);
		assert_int_equal(un_origin_stat(l, &o, &found), 0);
		assert_int_equal(found.stx_ino, st.stx_ino);
		/* One that leads nowhere is unknown, if the daemon may ask. */
		if (i == 0 && geteuid() == 0 && s.root) {
			assert_int_equal(unlink(stack_path(&s, "1/f")), 0);
			assert_int_equal(un_origin_stat(l, &o, &found), -ESTALE);
		}
	}
	un_layers_close(ls);
	stack_done(&s);
}

static void without_handles(void **state)
{
	uint8_t v[UN_ORIGIN_MAX];
	struct un_layers *ls;
	struct stack s;

	stack_init(&s, "1 f = x");
	ls = stack_layers(&s);
	if (ls->v[1].caps.handles)
		assert_int_equal(un_origin_format(UN_AT(&ls->v[1], ls->v[1].root, "none"), v),
				 -ENOENT);
	ls->v[1].caps.handles = false;
	assert_int_equal(un_origin_format(UN_AT(&ls->v[1], ls->v[1].root, "f"), v), 0);
	un_layers_close(ls);
	stack_done(&s);
}

/* What one layer's mount does not allow is asked of the others all the same. */
static void refused_for_one_layer(void **state)
{
	struct un_layers *ls;
	struct stack s;

	(void)state;
	stack_init(&s, "1 f = x\n2 g = y\n");
	ls = stack_layers(&s);
	for (unsigned i = 1; i <= 2 && ls->v[1].caps.handles && ls->v[2].caps.handles; i++) {
		struct un_layer *l = &ls->v[i];
		uint8_t v[UN_ORIGIN_MAX];
		struct un_origin o;
		struct statx st;
		ssize_t n = un_origin_format(UN_AT(l, l->root, i == 1 ? "f" : "g"), v);

		ls->v[1].no_handle_open = true;
		assert_int_equal(un_origin_parse(v, (size_t)n, &o), 0);
		assert_int_equal(un_origin_stat(l, &o, &st), 0);
		/* Only from the object itself. */
		if (geteuid() == 0 && s.root)
			assert_int_equal(st.stx_nlink, i == 1 ? 0 : 1);
	}
	un_layers_close(ls);
	stack_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(of_real_objects),
		cmocka_unit_test(without_handles),
		cmocka_unit_test(refused_for_one_layer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
