/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/transport.h"
#include "transport/wire.h"

#include <glib.h>
#include <string.h>

#define HEADER sizeof(struct un_wire_in)

/* A request with @body behind its header. */
struct request {
	_Alignas(8) char buf[512];
	size_t size;
};

static struct request request(uint32_t opcode, const void *body, size_t size)
{
	struct request r = { .size = HEADER + size };
	const struct un_wire_in in = {
		.len = (uint32_t)r.size,
		.opcode = opcode,
		.unique = 0x1122334455667788,
		.nodeid = 0x99aabbccddeeff00,
		.uid = 1001,
		.gid = 1002,
		.pid = 1003,
	};

	memcpy(r.buf, &in, sizeof(in));
	if (size)
		memcpy(r.buf + HEADER, body, size);
	return r;
}

/* The same, cut off after @size bytes, with a header that says so. */
static struct request cut(struct request r, size_t size)
{
	uint32_t len = (uint32_t)size;

	memcpy(r.buf, &len, sizeof(len));
	memset(r.buf + size, 0xee, sizeof(r.buf) - size);
	r.size = size;
	return r;
}

static void header_fields(void **state)
{
	struct request r = request(UN_WIRE_LOOKUP, "name", 5);
	struct un_raw raw;

	assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
	assert_int_equal(raw.opcode, UN_WIRE_LOOKUP);
	assert_true(raw.unique == 0x1122334455667788);
	assert_true(raw.nodeid == 0x99aabbccddeeff00);
	assert_int_equal(raw.uid, 1001);
	assert_int_equal(raw.gid, 1002);
	assert_int_equal(raw.pid, 1003);
	assert_int_equal(raw.write_flags | raw.setattr_valid | raw.setxattr_flags | raw.umask, 0);
}

static void not_a_request(void **state)
{
	struct request r = request(UN_WIRE_LOOKUP, "name", 5);
	struct un_raw raw = { .opcode = 77 };

	for (size_t size = 0; size < r.size; size++)
		assert_false(un_wire_parse_raw(r.buf, size, false, &raw));
	assert_false(un_wire_parse_raw(r.buf, r.size + 1, false, &raw));
	assert_int_equal(raw.opcode, 77);
}

static void write_flags(void **state)
{
	const struct un_wire_write_in body = {
		.fh = ~0ULL, .offset = ~0ULL, .size = ~0U, .write_flags = 5, .lock_owner = ~0ULL
	};
	struct request r = request(UN_WIRE_WRITE, &body, sizeof(body));
	struct un_raw raw;

	assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
	assert_int_equal(raw.write_flags, 5);

	r = cut(r, HEADER + offsetof(struct un_wire_write_in, write_flags) + 3);
	assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
	assert_int_equal(raw.write_flags, 0);
}

static void setattr_valid(void **state)
{
	const struct un_wire_setattr_in body = { .valid = 1U << 11 | 8, .padding = ~0U };
	struct request r = request(UN_WIRE_SETATTR, &body, sizeof(body));
	struct un_raw raw;

	assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
	assert_int_equal(raw.setattr_valid, 1U << 11 | 8);

	r = cut(r, HEADER + 3);
	assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
	assert_int_equal(raw.setattr_valid, 0);
}

static void umasks(void **state)
{
	const struct un_wire_create_in create = {
		.flags = 1, .mode = 2, .umask = 022, .open_flags = 3
	};
	const struct un_wire_mknod_in mknod = { .mode = 1, .rdev = 2, .umask = 027 };
	const struct un_wire_mkdir_in mkdir = { .mode = 1, .umask = 077 };
	const struct {
		uint32_t opcode;
		const void *body;
		size_t size, end; /* of the field */
		uint32_t umask;
	} cases[] = {
		{ UN_WIRE_CREATE, &create, sizeof(create), 12, 022 },
		{ UN_WIRE_TMPFILE, &create, sizeof(create), 12, 022 },
		{ UN_WIRE_MKNOD, &mknod, sizeof(mknod), 12, 027 },
		{ UN_WIRE_MKDIR, &mkdir, sizeof(mkdir), 8, 077 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct request r = request(cases[i].opcode, cases[i].body, cases[i].size);
		struct un_raw raw;

		assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
		assert_int_equal(raw.umask, cases[i].umask);
		r = cut(r, HEADER + cases[i].end - 1);
		assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
		assert_int_equal(raw.umask, 0);
	}
}

static void setxattr_flags_only_in_the_long_form(void **state)
{
	const struct un_wire_setxattr_in body = { .size = 3, .flags = 2, .setxattr_flags = 1 };
	struct request r = request(UN_WIRE_SETXATTR, &body, sizeof(body));
	struct un_raw raw;

	assert_true(un_wire_parse_raw(r.buf, r.size, true, &raw));
	assert_int_equal(raw.setxattr_flags, 1);
	assert_true(un_wire_parse_raw(r.buf, r.size, false, &raw));
	assert_int_equal(raw.setxattr_flags, 0);

	r = cut(r, HEADER + 11);
	assert_true(un_wire_parse_raw(r.buf, r.size, true, &raw));
	assert_int_equal(raw.setxattr_flags, 0);
}

static void setxattr_shrinks(void **state)
{
	static const char rest[] = "user.name\0value";
	char body[16 + sizeof(rest)];
	const struct un_wire_setxattr_in in = { 5, 2, 1, ~0U };
	struct request r;
	struct un_raw raw;
	size_t size;

	memcpy(body, &in, 16);
	memcpy(body + 16, rest, sizeof(rest));
	r = request(UN_WIRE_SETXATTR, body, sizeof(body));
	size = un_wire_shrink_setxattr(r.buf, r.size);
	assert_int_equal(size, r.size - 8);
	assert_true(un_wire_parse_raw(r.buf, size, false, &raw)); /* the header's len is right */
	assert_true(raw.unique == 0x1122334455667788);
	assert_memory_equal(r.buf + HEADER, body, 8);
	assert_memory_equal(r.buf + HEADER + 8, rest, sizeof(rest));
}

static void short_setxattr_is_left_alone(void **state)
{
	const struct un_wire_setxattr_in in = { 5, 2, 1, 0 };
	struct request r = request(UN_WIRE_SETXATTR, &in, sizeof(in));
	struct request before;

	assert_int_equal(un_wire_shrink_setxattr(r.buf, r.size), HEADER + 8);

	r = cut(request(UN_WIRE_SETXATTR, &in, sizeof(in)), HEADER + 15);
	before = r;
	assert_int_equal(un_wire_shrink_setxattr(r.buf, r.size), r.size);
	assert_memory_equal(r.buf, before.buf, sizeof(r.buf));
}

static void init_offer(void **state)
{
	struct un_wire_init_in in = { 7, 45, 131072, UN_WIRE_INIT_EXT | 3, 0x5fd, { 0 } };
	struct un_wire_flags f;

	assert_true(un_wire_parse_init(&in, sizeof(in), &f));
	assert_int_equal(f.flags, UN_WIRE_INIT_EXT | 3);
	assert_int_equal(f.flags2, 0x5fd);

	/* flags2 without the flag that says so is nothing. */
	in.flags = 3;
	assert_true(un_wire_parse_init(&in, sizeof(in), &f));
	assert_int_equal(f.flags2, 0);

	/* Before 7.36. */
	in.flags = 7;
	assert_true(un_wire_parse_init(&in, 16, &f));
	assert_int_equal(f.flags, 7);
	assert_int_equal(f.flags2, 0);
	assert_false(un_wire_parse_init(&in, 15, &f));
}

static void init_gets_what_was_offered_and_wanted(void **state)
{
	const struct un_wire_flags offered = { UN_WIRE_INIT_EXT | 1U << 28 | 1U << 29 | 1, 6 };
	const struct un_wire_flags wanted = { 1U << 28 | 1U << 27 | 1, 3 };
	struct un_wire_init_out o = { .major = 7,
				      .minor = 38,
				      .flags = 1,
				      .max_write = 1 << 20,
				      .time_gran = 9,
				      .max_pages = 256 };
	struct un_wire_flags added = un_wire_patch_init(&o, sizeof(o), offered, wanted, 65536);

	assert_int_equal(added.flags, 1U << 28);
	assert_int_equal(added.flags2, 2);
	assert_int_equal(o.flags, 1 | 1U << 28 | UN_WIRE_INIT_EXT);
	assert_int_equal(o.flags2, 2);
	assert_int_equal(o.max_write, 65536);
	assert_int_equal(o.major, 7);
	assert_int_equal(o.minor, 38);
	assert_int_equal(o.time_gran, 9);
	assert_int_equal(o.max_pages, 256);
}

static void init_without_flags2(void **state)
{
	const struct un_wire_flags wanted = { 2, 2 };
	struct un_wire_init_out o = { .max_write = 4096 };
	struct un_wire_flags added;

	/* Nothing of flags2 in common: no INIT_EXT either. */
	added = un_wire_patch_init(&o, sizeof(o), (struct un_wire_flags){ UN_WIRE_INIT_EXT, 4 },
				   wanted, 65536);
	assert_int_equal(added.flags | added.flags2 | o.flags | o.flags2, 0);
	assert_int_equal(o.max_write, 4096);

	/* What libfuse has asked for in flags2 stays, and is not claimed by us. */
	o = (struct un_wire_init_out){ .flags = UN_WIRE_INIT_EXT, .flags2 = 2 };
	added = un_wire_patch_init(&o, sizeof(o), (struct un_wire_flags){ UN_WIRE_INIT_EXT, 2 },
				   wanted, 65536);
	assert_int_equal(added.flags2, 0);
	assert_int_equal(o.flags2, 2);
	assert_int_equal(o.flags, UN_WIRE_INIT_EXT);
}

static void passthrough_has_a_depth(void **state)
{
	const struct un_wire_flags both = { UN_WIRE_INIT_EXT, UN_WIRE_PASSTHROUGH | 2 };
	struct un_wire_init_out o = { 0 };

	un_wire_patch_init(&o, sizeof(o), both, both, 65536);
	assert_int_equal(o.flags2, UN_WIRE_PASSTHROUGH | 2);
	assert_int_equal(o.max_stack_depth, 1);

	/* Not offered, or not wanted: the mount is no stack. */
	o = (struct un_wire_init_out){ 0 };
	un_wire_patch_init(&o, sizeof(o), (struct un_wire_flags){ UN_WIRE_INIT_EXT, 2 }, both,
			   65536);
	assert_int_equal(o.max_stack_depth, 0);
	un_wire_patch_init(&o, sizeof(o), both, (struct un_wire_flags){ 0, 2 }, 65536);
	assert_int_equal(o.max_stack_depth, 0);
}

static void init_for_old_kernels(void **state)
{
	const struct un_wire_flags all = { ~0U, ~0U };
	struct un_wire_init_out o = { .max_write = 1 << 20 };
	struct un_wire_init_out before = o;
	struct un_wire_flags added;

	added = un_wire_patch_init(&o, 8, all, all, 4096);
	assert_int_equal(added.flags | added.flags2, 0);
	assert_memory_equal(&o, &before, sizeof(o));

	added = un_wire_patch_init(&o, 24, all, (struct un_wire_flags){ 4, 4 }, 4096);
	assert_int_equal(added.flags, 4);
	assert_int_equal(added.flags2, 0);
	assert_int_equal(o.flags, 4);
	assert_int_equal(o.max_write, 4096);
	assert_memory_equal((char *)&o + 24, (char *)&before + 24, sizeof(o) - 24);
}

static void opcode_names(void **state)
{
	assert_string_equal(un_wire_opcode_name(1), "LOOKUP");
	assert_string_equal(un_wire_opcode_name(26), "INIT");
	assert_string_equal(un_wire_opcode_name(53), "COPY_FILE_RANGE_64");
	assert_null(un_wire_opcode_name(0));
	assert_null(un_wire_opcode_name(7));
	assert_null(un_wire_opcode_name(54));
	assert_null(un_wire_opcode_name(~0U));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_fields),
		cmocka_unit_test(not_a_request),
		cmocka_unit_test(write_flags),
		cmocka_unit_test(setattr_valid),
		cmocka_unit_test(umasks),
		cmocka_unit_test(setxattr_flags_only_in_the_long_form),
		cmocka_unit_test(setxattr_shrinks),
		cmocka_unit_test(short_setxattr_is_left_alone),
		cmocka_unit_test(init_offer),
		cmocka_unit_test(init_gets_what_was_offered_and_wanted),
		cmocka_unit_test(init_without_flags2),
		cmocka_unit_test(passthrough_has_a_depth),
		cmocka_unit_test(init_for_old_kernels),
		cmocka_unit_test(opcode_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
