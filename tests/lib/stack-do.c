/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations written as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stack_i.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct doing {
	struct un_fs *fs;
	char **w;
	unsigned n;
	struct un_cred cred;
	struct un_inode *a; /* the object, or the directory it is in */
	char *name;
	struct un_inode *b; /* of the second path: its directory */
	char *name2;
	struct un_inode *made;
	struct statx st;
};

/* The directory of a path, and the last name. */
static int find_dir(struct un_fs *fs, const char *path, struct un_inode **ret, char **ret_name)
{
	const char *slash = strrchr(path, '/');
	g_autofree char *dir = slash ? g_strndup(path, (size_t)(slash - path)) : g_strdup("");
	int r;

	*ret = stack_find(fs, dir, &r);
	*ret_name = g_strdup(slash ? slash + 1 : path);
	return r;
}

static const char *word(const struct doing *d, unsigned i)
{
	return i < d->n ? d->w[i] : NULL;
}

static mode_t octal(const struct doing *d, unsigned i, mode_t otherwise)
{
	return i < d->n ? (mode_t)strtoul(d->w[i], NULL, 8) : otherwise;
}

static int do_make(struct doing *d)
{
	struct un_create what = { .umask = 022 };
	const char *op = d->w[0];
	unsigned ma, mi;
	int r = find_dir(d->fs, d->w[1], &d->a, &d->name);

	if (r < 0)
		return r;
	if (strcmp(op, "symlink") == 0) {
		what.mode = S_IFLNK | 0777;
		what.target = d->w[2];
	} else if (strcmp(op, "mkdir") == 0) {
		what.mode = S_IFDIR | octal(d, 2, 0755);
	} else if (strcmp(op, "fifo") == 0) {
		what.mode = S_IFIFO | octal(d, 2, 0644);
	} else if (strcmp(op, "mknod") == 0) {
		assert_int_equal(sscanf(d->w[3], "%u:%u", &ma, &mi), 2);
		what.mode = S_IFCHR | octal(d, 2, 0644);
		what.rdev = makedev(ma, mi);
	} else {
		what.mode = S_IFREG | octal(d, 2, 0644);
		return un_create(d->fs, d->a, d->name, &what, true, &d->cred, &d->made, &d->st);
	}
	return un_make(d->fs, d->a, d->name, &what, &d->cred, &d->made, &d->st);
}

static int do_remove(struct doing *d)
{
	int r = find_dir(d->fs, d->w[1], &d->a, &d->name);

	if (r < 0)
		return r;
	return strcmp(d->w[0], "rmdir") == 0 ? un_rmdir(d->fs, d->a, d->name)
					     : un_unlink(d->fs, d->a, d->name);
}

static int do_rename(struct doing *d)
{
	const char *how = word(d, 3);
	unsigned flags = !how                           ? 0
			 : strcmp(how, "exchange") == 0 ? RENAME_EXCHANGE
							: RENAME_NOREPLACE;
	int r = find_dir(d->fs, d->w[1], &d->a, &d->name);

	if (r == 0)
		r = find_dir(d->fs, d->w[2], &d->b, &d->name2);
	return r < 0 ? r : un_rename(d->fs, d->a, d->name, d->b, d->name2, flags);
}

static int do_link(struct doing *d)
{
	int r;

	d->a = stack_find(d->fs, d->w[1], &r);
	if (r == 0)
		r = find_dir(d->fs, d->w[2], &d->b, &d->name2);
	return r < 0 ? r : un_link(d->fs, d->a, d->b, d->name2, &d->st);
}

static int write_text(struct doing *d, struct un_inode *inode, const char *text, off_t off)
{
	const struct un_write w = { .buf = text, .size = strlen(text), .off = off };
	bool killed;
	ssize_t n = un_write(d->fs, inode, &w, &d->cred, &killed);

	return n < 0 ? (int)n : 0;
}

static int do_tmpfile(struct doing *d)
{
	struct un_create what = { .mode = S_IFREG | 0640, .umask = 022 };
	int r;

	d->a = stack_find(d->fs, d->w[1], &r);
	if (r == 0)
		r = un_tmpfile(d->fs, d->a, &what, &d->cred, &d->made, &d->st);
	if (r == 0)
		r = write_text(d, d->made, d->w[2], 0);
	if (r == 0 && word(d, 3))
		r = find_dir(d->fs, d->w[3], &d->b, &d->name2);
	if (r == 0 && word(d, 3))
		r = un_link(d->fs, d->made, d->b, d->name2, &d->st);
	return r;
}

static bool ignore_entry(void *data, const struct un_dirent *e)
{
	return true;
}

static int do_attr(struct doing *d, const char *op)
{
	struct un_setattr a = { 0 };

	if (strcmp(op, "chmod") == 0) {
		a.valid = UN_SET_MODE;
		a.mode = octal(d, 2, 0);
	} else if (strcmp(op, "chown") == 0) {
		a.valid = UN_SET_UID | UN_SET_GID;
		assert_int_equal(sscanf(d->w[2], "%u:%u", &a.uid, &a.gid), 2);
	} else if (strcmp(op, "utime") == 0) {
		a.valid = UN_SET_ATIME | UN_SET_MTIME;
		a.atime.tv_sec = a.mtime.tv_sec = atol(d->w[2]);
	} else {
		a.valid = UN_SET_SIZE;
		a.size = atol(d->w[2]);
	}
	return un_setattr(d->fs, d->a, &a, &d->cred, &d->st);
}

static int do_inode(struct doing *d)
{
	const char *op = d->w[0];
	uint8_t acl[64];
	bool killed;
	int r;

	d->a = stack_find(d->fs, d->w[1], &r);
	if (r < 0 || strcmp(op, "lookup") == 0)
		return r;
	if (strcmp(op, "list") == 0)
		return un_readdir(d->fs, d->a, 0, false, ignore_entry, NULL);
	if (strcmp(op, "write") == 0)
		return write_text(d, d->a, d->w[2], word(d, 3) ? atol(d->w[3]) : 0);
	if (strcmp(op, "fallocate") == 0)
		return un_fallocate(d->fs, d->a, 0, 0, atol(d->w[2]), &d->cred, &killed);
	if (strcmp(op, "fsync") == 0)
		return un_fsync(d->fs, d->a, false);
	if (strcmp(op, "setxattr") == 0)
		return un_setxattr(d->fs, d->a, d->w[2], d->w[3], strlen(d->w[3]), 0, false);
	if (strcmp(op, "setacl") == 0)
		return un_setxattr(d->fs, d->a, "system.posix_acl_access", acl,
				   stack_make_acl(d->w[2], acl), 0, false);
	if (strcmp(op, "rmxattr") == 0)
		return un_removexattr(d->fs, d->a, d->w[2]);
	return do_attr(d, op);
}

int stack_do(struct un_fs *fs, const char *op)
{
	static const struct {
		const char *name;
		int (*fn)(struct doing *d);
	} table[] = {
		{ "create", do_make },     { "mkdir", do_make },     { "fifo", do_make },
		{ "mknod", do_make },      { "symlink", do_make },   { "unlink", do_remove },
		{ "rmdir", do_remove },    { "rename", do_rename },  { "link", do_link },
		{ "tmpfile", do_tmpfile }, { "write", do_inode },    { "truncate", do_inode },
		{ "fallocate", do_inode }, { "chmod", do_inode },    { "chown", do_inode },
		{ "utime", do_inode },     { "setxattr", do_inode }, { "setacl", do_inode },
		{ "rmxattr", do_inode },   { "fsync", do_inode },    { "lookup", do_inode },
		{ "list", do_inode },
	};
	g_auto(GStrv) w = g_strsplit(op, " ", -1);
	struct doing d = { .fs = fs, .w = w, .n = g_strv_length(w) };
	int r = -ENOSYS;

	d.cred = (struct un_cred){ geteuid(), getegid(), 0 };
	if (d.n > 2 && sscanf(w[d.n - 1], "as=%u:%u", &d.cred.uid, &d.cred.gid) == 2)
		d.n--;
	for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
		if (strcmp(w[0], table[i].name) == 0)
			r = table[i].fn(&d);
	if (r == -ENOSYS)
		fail_msg("what is \"%s\"?", op);
	un_inode_put(fs, d.made);
	un_inode_put(fs, d.a);
	un_inode_put(fs, d.b);
	g_free(d.name);
	g_free(d.name2);
	return r;
}
