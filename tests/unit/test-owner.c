/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Maps of ids, the value of the override xattr, ids and modes in ACLs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <glib.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>

#include "layer/owner.h"

/* ---- maps ------------------------------------------------------------------------------------------- */

static void maps_are_read(void **state)
{
	struct un_idmap m = { 0 };
	uint32_t id;

	assert_null(un_idmap_parse(":0:1:7001:7001:0:1:7002:7002:58535", &m));
	assert_int_equal(m.n, 3);
	assert_true(un_idmap_show(&m, 0, &id) && id == 1);
	assert_true(un_idmap_show(&m, 7000, &id) && id == 7001);
	assert_true(un_idmap_show(&m, 7001, &id) && id == 0);
	assert_true(un_idmap_show(&m, 65536, &id) && id == 65536);
	assert_false(un_idmap_show(&m, 65537, &id));
	/* Back again. */
	for (uint32_t i = 0; i < 65537; i++) {
		uint32_t back;

		assert_true(un_idmap_show(&m, i, &id));
		assert_true(un_idmap_store(&m, id, &back) && back == i);
	}
	assert_false(un_idmap_store(&m, 65537, &id));
	un_idmap_done(&m);
	assert_null(un_idmap_parse("0:4294967294:1:1:0:4294967294", &m));
	assert_true(un_idmap_show(&m, 4294967294, &id) && id == 4294967293);
	assert_false(un_idmap_show(&m, UINT32_MAX, &id));
	un_idmap_done(&m);
}

static void no_map_is_identity(void **state)
{
	const char *const none[] = { "", ":" };
	uint32_t id;

	for (size_t i = 0; i < G_N_ELEMENTS(none); i++) {
		struct un_idmap m = { 0 };

		assert_null(un_idmap_parse(none[i], &m));
		assert_int_equal(m.n, 0);
		assert_true(un_idmap_show(&m, 77, &id) && id == 77);
		assert_true(un_idmap_store(&m, 77, &id) && id == 77);
		un_idmap_done(&m);
	}
}

static void no_maps(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "0", "triples" },
		{ "0:1", "triples" },
		{ "::0:1:2", "triples" },
		{ "0:1:2:", "triples" },
		{ "0:1:2:3", "triples" },
		{ "0::2", "triples" },
		{ "0:1:2,3:4:5", "triples" },
		{ "0:1: 2", "triples" },
		{ "-1:1:2", "triples" },
		{ "+1:1:2", "triples" },
		{ "0x1:1:2", "triples" },
		{ "0:1:99999999999999999999999", "triples" },
		{ "0:1:4294967296", "triples" },
		{ "0:1:0", "no ids" },
		{ "4294967295:0:1", "beyond" },
		{ "0:4294967294:2", "beyond" },
		{ "1:0:4294967295", "beyond" },
		{ "0:0:10:9:20:1", "overlap" },
		{ "0:0:10:20:9:1", "overlap" },
		{ "5:5:5:0:0:10", "overlap" },
		{ "0:0:1:0:1:1", "overlap" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		struct un_idmap m = { .n = 7 };
		const char *why = un_idmap_parse(bad[i].text, &m);

		if (!why || !strstr(why, bad[i].says))
			fail_msg("%s: %s", bad[i].text, why ? why : "taken");
		assert_int_equal(m.n, 7);
	}
}

static void owners_shown_and_stored(void **state)
{
	struct un_owners o = { .overflow_uid = 65534, .overflow_gid = 65533 };
	uid_t uid;
	gid_t gid;

	assert_false(un_owners_any(&o));
	assert_null(un_idmap_parse("0:1000:10", &o.uids));
	assert_true(un_owners_any(&o));
	assert_int_equal(un_owners_show_uid(&o, 9), 1009);
	assert_int_equal(un_owners_show_uid(&o, 10), 65534);
	assert_int_equal(un_owners_show_gid(&o, 10), 10);
	assert_true(un_owners_store_uid(&o, 1009, &uid) && uid == 9);
	assert_true(!un_owners_store_uid(&o, 9, &uid) && uid == 65534);
	assert_true(un_owners_store_gid(&o, 9, &gid) && gid == 9);
	/* Squashed: shown so, stored by the map all the same. */
	o.squash_uid = true;
	o.uid = 3;
	assert_int_equal(un_owners_show_uid(&o, 10), 3);
	assert_true(un_owners_store_uid(&o, 1009, &uid) && uid == 9);
	un_idmap_done(&o.uids);
}

/* ---- the xattr --------------------------------------------------------------------------------------- */

static void override_is_read(void **state)
{
	static const struct {
		const char *text;
		uid_t uid;
		gid_t gid;
		mode_t mode;
		unsigned major, minor;
	} good[] = {
		{ "0:0:0755", 0, 0, 0755, 0, 0 },
		{ "5:6:100711", 5, 6, 0711, 0, 0 },
		{ "0:0:40755", 0, 0, 0755, 0, 0 },
		{ "0:0:755", 0, 0, 0755, 0, 0 },
		{ "1:2:04755:file", 1, 2, 04755, 0, 0 },
		{ "1:2:01777:dir", 1, 2, 01777, 0, 0 },
		{ "1:2:0777:symlink", 1, 2, 0777, 0, 0 },
		{ "4294967294:2:00:pipe", 4294967294, 2, S_IFIFO, 0, 0 },
		{ "1:2:0640:socket", 1, 2, S_IFSOCK | 0640, 0, 0 },
		{ "1:2:0640:block-8-1", 1, 2, S_IFBLK | 0640, 8, 1 },
		{ "1:2:0640:char-1-3", 1, 2, S_IFCHR | 0640, 1, 3 },
		{ "1:2:0640:char1:3", 1, 2, S_IFCHR | 0640, 1, 3 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
		struct un_override_stat o, again;
		char text[UN_OVERRIDE_MAX];
		size_t len;

		if (un_override_parse(good[i].text, strlen(good[i].text), &o) < 0)
			fail_msg("%s", good[i].text);
		assert_int_equal(o.uid, good[i].uid);
		assert_int_equal(o.gid, good[i].gid);
		assert_int_equal(o.mode, good[i].mode);
		assert_int_equal(o.major, good[i].major);
		assert_int_equal(o.minor, good[i].minor);
		len = un_override_format(&o, text);
		assert_int_equal(len, strlen(text));
		assert_int_equal(un_override_parse(text, len, &again), 0);
		assert_memory_equal(&o, &again, sizeof(o));
	}
}

static void no_override(void **state)
{
	static const char *const bad[] = {
		"",
		"0",
		"0:0",
		"0:0:",
		"0:0:8",
		"0:0:07x",
		":0:0755",
		"-1:0:0755",
		"4294967295:0:0",
		"0:4294967296:0",
		"0:0:0:x",
		"0:0:0:char",
		"0:0:0:char-",
		"0:0:0:char-1",
		"0:0:0:char-1-",
		" 0:0:755",
		"0:0:0:filex",
		"0:0:0:block-1-2-3",
		"0:0:0:char-4096-0",
		"0:0:777777",
	};
	struct un_override_stat o;

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		if (un_override_parse(bad[i], strlen(bad[i]), &o) != -EINVAL)
			fail_msg("taken: '%s'", bad[i]);
}

static void real_modes(void **state)
{
	for (mode_t m = 0; m <= 07777; m++) {
		mode_t f = un_override_real_mode(S_IFREG, m), d = un_override_real_mode(S_IFDIR, m);

		assert_int_equal(f & 0600, 0600);
		assert_int_equal(d & 0700, 0700);
		assert_int_equal((f | d) & 07000, 0);
		assert_int_equal(f & 7 & ~m, 0);
		assert_int_equal(f >> 3 & 7 & ~m, 0);
		assert_int_equal((d & 077) != (f & 077), 0);
	}
}

/* ---- ACLs -------------------------------------------------------------------------------------------- */

struct acl {
	struct posix_acl_xattr_header h;
	struct posix_acl_xattr_entry e[6];
};

static struct acl some_acl(void)
{
	return (struct acl){
		.h.a_version = htole32(POSIX_ACL_XATTR_VERSION),
		.e = { { htole16(ACL_USER_OBJ), htole16(6), htole32(UINT32_MAX) },
		       { htole16(ACL_USER), htole16(7), htole32(5) },
		       { htole16(ACL_GROUP_OBJ), htole16(1), htole32(UINT32_MAX) },
		       { htole16(ACL_GROUP), htole16(7), htole32(5) },
		       { htole16(ACL_MASK), htole16(4), htole32(UINT32_MAX) },
		       { htole16(ACL_OTHER), htole16(2), htole32(UINT32_MAX) } },
	};
}

static void acl_ids(void **state)
{
	struct un_owners o = { .overflow_uid = 65534, .overflow_gid = 65534 };
	struct acl a = some_acl();

	assert_null(un_idmap_parse("0:1000:10", &o.uids));
	assert_null(un_idmap_parse("0:2000:5", &o.gids));
	un_owners_show_acl(&o, &a, sizeof(a));
	assert_int_equal(le32toh(a.e[1].e_id), 1005);
	assert_int_equal(le32toh(a.e[3].e_id), 65534);
	assert_int_equal(le32toh(a.e[0].e_id), UINT32_MAX);
	assert_int_equal(un_owners_store_acl(&o, &a, sizeof(a)), -EOVERFLOW);
	a = some_acl();
	a.e[1].e_id = htole32(1009);
	a.e[3].e_id = htole32(2004);
	assert_int_equal(un_owners_store_acl(&o, &a, sizeof(a)), 0);
	assert_int_equal(le32toh(a.e[1].e_id), 9);
	assert_int_equal(le32toh(a.e[3].e_id), 4);
	/* Cut short, or something else: left alone. */
	a = some_acl();
	un_owners_show_acl(&o, &a, sizeof(a.h) + sizeof(a.e[0]) + 3);
	assert_int_equal(le32toh(a.e[1].e_id), 5);
	a.h.a_version = htole32(3);
	un_owners_show_acl(&o, &a, sizeof(a));
	assert_int_equal(le32toh(a.e[1].e_id), 5);
	un_owners_show_acl(&o, &a, 2);
	un_idmap_done(&o.uids);
	un_idmap_done(&o.gids);
}

static void acl_modes(void **state)
{
	struct acl a = some_acl();

	assert_int_equal(un_acl_get_mode(&a, sizeof(a)), 0642);
	un_acl_set_mode(&a, sizeof(a), 0751);
	assert_int_equal(un_acl_get_mode(&a, sizeof(a)), 0751);
	assert_int_equal(le16toh(a.e[2].e_perm), 1);
	a.e[4] = a.e[5]; /* no mask */
	assert_int_equal(un_acl_get_mode(&a, sizeof(a) - sizeof(a.e[5])), 0711);
	un_acl_set_mode(&a, sizeof(a) - sizeof(a.e[5]), 0);
	assert_int_equal(le16toh(a.e[2].e_perm), 0);
	assert_int_equal(le16toh(a.e[1].e_perm), 7);
	assert_int_equal(un_acl_get_mode(&a, 3), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_are_read),    cmocka_unit_test(no_map_is_identity),
		cmocka_unit_test(no_maps),          cmocka_unit_test(owners_shown_and_stored),
		cmocka_unit_test(override_is_read), cmocka_unit_test(no_override),
		cmocka_unit_test(real_modes),       cmocka_unit_test(acl_ids),
		cmocka_unit_test(acl_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
