/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of src/layer/layer-owner.c, as functions of their arguments alone. */
#include "layer/owner.h"

#include <endian.h>
#include <errno.h>
#include <glib.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>

static id_t overflow_id(const char *path)
{
	g_autofree char *text = NULL;

	return g_file_get_contents(path, &text, NULL, NULL) ? (id_t)g_ascii_strtoull(text, NULL, 10)
							    : 65534;
}

void un_owners_set_overflow(struct un_owners *o)
{
	o->overflow_uid = overflow_id("/proc/sys/kernel/overflowuid");
	o->overflow_gid = overflow_id("/proc/sys/kernel/overflowgid");
}

bool un_owners_any(const struct un_owners *o)
{
	return o->uids.n || o->gids.n || o->squash_uid || o->squash_gid ||
	       o->override != UN_OVERRIDE_NONE;
}

uid_t un_owners_show_uid(const struct un_owners *o, uid_t uid)
{
	uid_t ret;

	if (o->squash_uid)
		return o->uid;
	return un_idmap_show(&o->uids, uid, &ret) ? ret : o->overflow_uid;
}

gid_t un_owners_show_gid(const struct un_owners *o, gid_t gid)
{
	gid_t ret;

	if (o->squash_gid)
		return o->gid;
	return un_idmap_show(&o->gids, gid, &ret) ? ret : o->overflow_gid;
}

bool un_owners_store_uid(const struct un_owners *o, uid_t uid, uid_t *ret)
{
	if (un_idmap_store(&o->uids, uid, ret))
		return true;
	*ret = o->overflow_uid;
	return false;
}

bool un_owners_store_gid(const struct un_owners *o, gid_t gid, gid_t *ret)
{
	if (un_idmap_store(&o->gids, gid, ret))
		return true;
	*ret = o->overflow_gid;
	return false;
}

/* ---- the value of the xattr ------------------------------------------------------------------------- */

/* A number in @base up to @max, and the byte behind it, which has to be one of @ends. */
static bool number(const char **at, unsigned base, guint64 max, const char *ends, guint64 *ret)
{
	char *end;

	if (!g_ascii_isdigit(**at))
		return false;
	*ret = g_ascii_strtoull(*at, &end, base);
	if (end == *at || *ret > max || !strchr(ends, *end))
		return false;
	*at = end + (*end != '\0');
	return true;
}

static bool device(const char *at, mode_t type, struct un_override_stat *o)
{
	guint64 major, minor;

	/* The kernel's numbers; fuse-overlayfs writes the ':' form in places. */
	if (!number(&at, 10, 0xfff, "-:", &major) || !number(&at, 10, 0xfffff, "", &minor))
		return false;
	o->mode |= type;
	o->major = (unsigned)major;
	o->minor = (unsigned)minor;
	return true;
}

static bool parse_type(const char *type, struct un_override_stat *o)
{
	if (g_str_has_prefix(type, "block"))
		return device(type + strlen("block") + (type[5] == '-'), S_IFBLK, o);
	if (g_str_has_prefix(type, "char"))
		return device(type + strlen("char") + (type[4] == '-'), S_IFCHR, o);
	if (strcmp(type, "pipe") == 0)
		o->mode |= S_IFIFO;
	else if (strcmp(type, "socket") == 0)
		o->mode |= S_IFSOCK;
	else
		return strcmp(type, "file") == 0 || strcmp(type, "dir") == 0 ||
		       strcmp(type, "symlink") == 0;
	return true;
}

int un_override_parse(const char *text, size_t len, struct un_override_stat *ret)
{
	g_autofree char *copy = g_strndup(text, len);
	const char *at = copy;
	struct un_override_stat o = { 0 };
	guint64 uid, gid, mode;

	if (!number(&at, 10, UINT32_MAX - 1, ":", &uid) ||
	    !number(&at, 10, UINT32_MAX - 1, ":", &gid) || !number(&at, 8, 0177777, ":", &mode))
		return -EINVAL;
	o.uid = (uid_t)uid;
	o.gid = (gid_t)gid;
	/* fuse-overlayfs up to 1.13 writes the type as part of the mode as well. */
	o.mode = mode & 07777;
	if (*at && !parse_type(at, &o))
		return -EINVAL;
	*ret = o;
	return 0;
}

size_t un_override_format(const struct un_override_stat *o, char ret[UN_OVERRIDE_MAX])
{
	char type[40] = "";

	if (S_ISFIFO(o->mode))
		g_strlcpy(type, ":pipe", sizeof(type));
	else if (S_ISSOCK(o->mode))
		g_strlcpy(type, ":socket", sizeof(type));
	else if (S_ISBLK(o->mode) || S_ISCHR(o->mode))
		g_snprintf(type, sizeof(type), ":%s-%u-%u", S_ISBLK(o->mode) ? "block" : "char",
			   o->major, o->minor);
	return (size_t)g_snprintf(ret, UN_OVERRIDE_MAX, "%u:%u:0%o%s", o->uid, o->gid,
				  o->mode & 07777, type);
}

mode_t un_override_real_mode(mode_t real_type, mode_t shown)
{
	mode_t all = shown & 0007;

	/* Group and others of the real object are not those of the one shown: what everybody may. */
	if (S_ISDIR(real_type))
		return 0700 | all << 3 | all;
	return 0600 | (shown & 0100) | all << 3 | all;
}

/* ---- ACLs ------------------------------------------------------------------------------------------- */

/* The entries of an ACL of the version there is; *ret_n is 0 if it is none. */
static struct posix_acl_xattr_entry *entries(const void *acl, size_t len, size_t *ret_n)
{
	const struct posix_acl_xattr_header *h = acl;

	*ret_n = 0;
	if (len >= sizeof(*h) && le32toh(h->a_version) == POSIX_ACL_XATTR_VERSION)
		*ret_n = (len - sizeof(*h)) / sizeof(struct posix_acl_xattr_entry);
	return (struct posix_acl_xattr_entry *)((uintptr_t)acl + sizeof(*h));
}

void un_owners_show_acl(const struct un_owners *o, void *acl, size_t len)
{
	size_t n;
	struct posix_acl_xattr_entry *e = entries(acl, len, &n);

	/* One id for all files says nothing of the ids in ACLs. */
	for (; n > 0; n--, e++) {
		uint32_t id = le32toh(e->e_id), shown;

		if (le16toh(e->e_tag) == ACL_USER)
			e->e_id = htole32(un_idmap_show(&o->uids, id, &shown) ? shown
									      : o->overflow_uid);
		else if (le16toh(e->e_tag) == ACL_GROUP)
			e->e_id = htole32(un_idmap_show(&o->gids, id, &shown) ? shown
									      : o->overflow_gid);
	}
}

int un_owners_store_acl(const struct un_owners *o, void *acl, size_t len)
{
	size_t n;
	struct posix_acl_xattr_entry *e = entries(acl, len, &n);

	for (; n > 0; n--, e++) {
		unsigned tag = le16toh(e->e_tag);
		uint32_t id = le32toh(e->e_id);

		if (tag != ACL_USER && tag != ACL_GROUP)
			continue;
		if (!un_idmap_store(tag == ACL_USER ? &o->uids : &o->gids, id, &id))
			return -EOVERFLOW;
		e->e_id = htole32(id);
	}
	return 0;
}

int un_acl_get_mode(const void *acl, size_t len)
{
	size_t n;
	const struct posix_acl_xattr_entry *e = entries(acl, len, &n);
	int mode = n ? 0 : -1;
	bool mask = false;

	for (; n > 0; n--, e++) {
		int perm = le16toh(e->e_perm) & 7;

		switch (le16toh(e->e_tag)) {
		case ACL_USER_OBJ:
			mode |= perm << 6;
			break;
		case ACL_GROUP_OBJ:
			mode |= mask ? 0 : perm << 3;
			break;
		case ACL_MASK:
			mode = (mode & ~070) | perm << 3;
			mask = true;
			break;
		case ACL_OTHER:
			mode |= perm;
			break;
		default:
			break;
		}
	}
	return mode;
}

void un_acl_set_mode(void *acl, size_t len, mode_t mode)
{
	size_t n, all;
	struct posix_acl_xattr_entry *e = entries(acl, len, &n);
	bool mask = false;

	for (all = 0; all < n; all++)
		mask = mask || le16toh(e[all].e_tag) == ACL_MASK;
	for (; n > 0; n--, e++) {
		unsigned tag = le16toh(e->e_tag);

		if (tag == ACL_USER_OBJ)
			e->e_perm = htole16(mode >> 6 & 7);
		else if (tag == (mask ? ACL_MASK : ACL_GROUP_OBJ))
			e->e_perm = htole16(mode >> 3 & 7);
		else if (tag == ACL_OTHER)
			e->e_perm = htole16(mode & 7);
	}
}
