/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stack.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "util/err.h"
#include "util/fd.h"

#define OLD_TIME 1000000000

/* ------------------------------------------------------------------------------------------------
 * Building
 */

const char *stack_path(const struct stack *s, const char *path)
{
	static char buf[8][8192];
	static unsigned next;
	char *p = buf[next++ % G_N_ELEMENTS(buf)];

	snprintf(p, sizeof(buf[0]), "%s/%s", s->dir, path);
	return p;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int open_up(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	if (flag == FTW_D || flag == FTW_DNR)
		un_ignore(chmod(path, 0755));
	return 0;
}

static void remove_tree(const char *path)
{
	if (geteuid() != 0)
		nftw(path, open_up, 64, FTW_PHYS | FTW_MOUNT);
	nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A user namespace may know no other id. */
static bool only_own_id;

/* version 2; user, one named user, group, mask, other. */
static size_t make_acl(const char *text, uint8_t ret[64])
{
	static const uint32_t undef = 0xffffffff;
	unsigned uid = 0, perms = 0;
	uint32_t version = 2;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} e[5];

	assert_int_equal(sscanf(text, "%u:%o", &uid, &perms), 2);
	if (only_own_id)
		uid = geteuid();
	e[0] = (__typeof__(e[0])){ 0x01, 7, undef };
	e[1] = (__typeof__(e[0])){ 0x02, (uint16_t)perms, uid };
	e[2] = (__typeof__(e[0])){ 0x04, 4, undef };
	e[3] = (__typeof__(e[0])){ 0x10, 7, undef };
	e[4] = (__typeof__(e[0])){ 0x20, 4, undef };
	memcpy(ret, &version, 4);
	memcpy(ret + 4, e, sizeof(e));
	return 4 + sizeof(e);
}

static void set_xattr(const struct stack *s, const char *path, const char *name, const void *value,
		      size_t len)
{
	g_autofree char *mark = NULL;

	if (g_str_has_prefix(name, "overlay."))
		mark = g_strconcat(s->trusted ? "trusted." : "user.", name, NULL);
	if (lsetxattr(path, mark ? mark : name, value, len, 0) < 0 &&
	    !(errno == EPERM && !s->root && !g_str_has_prefix(name, "user.")))
		fail_msg("%s: %s: %s", path, mark ? mark : name, g_strerror(errno));
}

struct object {
	const struct stack *s;
	const char *path;
	time_t when;
	int mode;
};

static void set_attribute(struct object *o, char *word)
{
	char *value = strchr(word, '=');
	unsigned uid, gid;
	uint8_t acl[64];

	if (!value)
		fail_msg("%s: what is %s?", o->path, word);
	*value++ = '\0';
	if (strcmp(word, "mode") == 0) {
		o->mode = (int)strtol(value, NULL, 8);
	} else if (strcmp(word, "time") == 0) {
		o->when = atol(value);
	} else if (strcmp(word, "size") == 0) {
		assert_int_equal(truncate(o->path, atol(value)), 0);
	} else if (strcmp(word, "own") == 0) {
		assert_int_equal(sscanf(value, "%u:%u", &uid, &gid), 2);
		if (o->s->root)
			assert_int_equal(lchown(o->path, uid, gid), 0);
	} else if (strcmp(word, "acl") == 0) {
		set_xattr(o->s, o->path, "system.posix_acl_access", acl, make_acl(value, acl));
	} else if (strcmp(word, "defacl") == 0) {
		set_xattr(o->s, o->path, "system.posix_acl_default", acl, make_acl(value, acl));
	} else {
		set_xattr(o->s, o->path, word, value, strlen(value));
	}
}

static void set_time(const char *path, time_t when)
{
	const struct timespec ts[2] = { { when, 123456789 }, { when, 123456789 } };

	assert_int_equal(utimensat(AT_FDCWD, path, ts, AT_SYMLINK_NOFOLLOW), 0);
}

static const char *layer_dir(const struct stack *s, const char *layer)
{
	return stack_path(s, strcmp(layer, "u") == 0 ? "upper" : layer);
}

/* Missing parents get the usual mode, and an old time when everything is there. */
static void make_parents(const struct stack *s, const char *layer, const char *path)
{
	g_autofree char *all = g_strdup(path);

	for (char *p = strchr(all, '/'); p; p = strchr(p + 1, '/')) {
		g_autofree char *dir = NULL;

		if (!p[1])
			break;
		*p = '\0';
		dir = g_strconcat(layer_dir(s, layer), "/", all, NULL);
		if (mkdir(dir, 0755) < 0)
			assert_int_equal(errno, EEXIST);
		*p = '/';
	}
}

static bool make_node(const struct stack *s, const char *path, const char *what, const char *dev)
{
	mode_t type = strcmp(what, "fifo") == 0     ? S_IFIFO
		      : strcmp(what, "socket") == 0 ? S_IFSOCK
		      : strcmp(what, "blk") == 0    ? S_IFBLK
						    : S_IFCHR;
	unsigned ma = 0, mi = 0;

	if (dev)
		assert_int_equal(sscanf(dev, "%u:%u", &ma, &mi), 2);
	if (mknod(path, type | (type == S_IFCHR && !dev ? 0 : 0644), makedev(ma, mi)) == 0)
		return true;
	if (errno != EPERM || s->root)
		fail_msg("%s: mknod: %s", path, g_strerror(errno));
	return false;
}

/* Returns false if it could not be made by this user. */
static bool make_object(const struct stack *s, const char *layer, char **w, unsigned *at,
			const char *path)
{
	const char *what = w[2];

	*at = 2;
	if (g_str_has_suffix(w[1], "/")) {
		if (mkdir(path, 0755) < 0)
			assert_int_equal(errno, EEXIST);
		return true;
	}
	if (!what)
		fail_msg("%s: what is it?", path);
	*at = 3;
	if (strcmp(what, "whiteout") == 0)
		return make_node(s, path, what, NULL);
	if (strcmp(what, "fifo") == 0 || strcmp(what, "socket") == 0)
		return make_node(s, path, what, NULL);
	if (strcmp(what, "xwhiteout") == 0) {
		assert_true(g_file_set_contents(path, "", 0, NULL));
		set_xattr(s, path, "overlay.whiteout", "", 0);
		return true;
	}
	*at = 4;
	if (strcmp(what, "=") == 0) {
		un_autofd int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
		const char *text = w[3] && !strchr(w[3], '=') ? w[3] : "";

		if (!*text)
			*at = 3;
		if (fd < 0)
			fail_msg("%s: %s", path, g_strerror(errno));
		assert_int_equal(write(fd, text, strlen(text)), strlen(text));
		return true;
	}
	if (!w[3])
		fail_msg("%s: %s what?", path, what);
	if (strcmp(what, "->") == 0) {
		assert_int_equal(symlink(w[3], path), 0);
		return true;
	}
	if (strcmp(what, "==") == 0) {
		g_autofree char *old = g_strconcat(layer_dir(s, layer), "/", w[3], NULL);

		assert_int_equal(link(old, path), 0);
		return true;
	}
	return make_node(s, path, what, w[3]);
}

static void run_line(const struct stack *s, const char *line, const char *only)
{
	g_autofree char *copy = g_strstrip(g_strdup(line)), *path = NULL;
	g_auto(GStrv) w = NULL;
	struct object o = { .s = s, .when = OLD_TIME, .mode = -1 };
	GPtrArray *words;
	unsigned at;

	if (!*copy)
		return;
	words = g_ptr_array_new();
	for (char *save, *p = strtok_r(copy, " \t", &save); p; p = strtok_r(NULL, " \t", &save))
		g_ptr_array_add(words, g_strdup(p));
	g_ptr_array_add(words, NULL);
	w = (char **)g_ptr_array_free(words, FALSE);
	if (!w[1])
		fail_msg("%s: layer and path?", line);
	if (only && strcmp(only, w[0]) != 0)
		return;
	path = g_strconcat(layer_dir(s, w[0]), "/", w[1], NULL);
	o.path = path;
	make_parents(s, w[0], w[1]);
	if (!make_object(s, w[0], w, &at, path))
		return;
	for (; w[at]; at++)
		set_attribute(&o, w[at]);
	/* After the owner and the ACL, which change it. */
	if (o.mode >= 0)
		assert_int_equal(chmod(path, (mode_t)o.mode), 0);
	set_time(path, o.when);
}

/* Making something in a directory changed its time. */
static int age(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	if (st->st_mtime > OLD_TIME + OLD_TIME / 2)
		set_time(path, OLD_TIME);
	return 0;
}

static void build(struct stack *s, const char *text, const char *only)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	umask(022);
	for (char **p = lines; *p; p++)
		run_line(s, *p, only);
	for (unsigned i = 1; !only && i <= s->n_lowers; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", i);
		nftw(stack_path(s, name), age, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	}
	nftw(stack_path(s, "upper"), age, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static unsigned lowers_in(const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	unsigned n = 1;

	for (char **p = lines; *p; p++) {
		unsigned i = (unsigned)atoi(*p);

		n = MAX(n, i);
	}
	return n;
}

static void make_upper_dirs(struct stack *s)
{
	assert_int_equal(mkdir(stack_path(s, "upper"), 0755), 0);
	assert_int_equal(mkdir(stack_path(s, "work"), 0755), 0);
}

/* Memory is faster, if it has all that layers need (user xattrs came with Linux 6.6). */
static const char *base_dir(void)
{
	char probe[] = "/dev/shm/un-probe-XXXXXX";
	const char *base = getenv("UN_TEST_DIR");
	int fd;

	if (base)
		return base;
	fd = mkstemp(probe);
	base = fd >= 0 && fsetxattr(fd, "user.x", "", 0, 0) == 0 ? "/dev/shm" : "/tmp";
	un_close(fd);
	un_ignore(unlink(probe));
	return base;
}

void stack_init(struct stack *s, const char *text)
{
	*s = (struct stack){ .text = g_strdup(text), .has_upper = true, .no_clone = true };
	snprintf(s->dir, sizeof(s->dir), "%s/un-stack-XXXXXX", base_dir());
	umask(022);
	assert_non_null(mkdtemp(s->dir));
	s->n_lowers = lowers_in(text);
	for (unsigned i = 1; i <= s->n_lowers; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(mkdir(stack_path(s, name), 0755), 0);
	}
	make_upper_dirs(s);
	s->trusted = lsetxattr(stack_path(s, "work"), "trusted.overlay.probe", "", 0, 0) == 0;
	/* In a user namespace of one id nothing can be given away either. */
	s->root = mknod(stack_path(s, "work/null"), S_IFCHR | 0600, makedev(1, 3)) == 0;
	if (s->root)
		un_ignore(unlink(stack_path(s, "work/null")));
	un_ignore(lremovexattr(stack_path(s, "work"), "trusted.overlay.probe"));
	only_own_id = !s->root;
	build(s, text, NULL);
}

void stack_done(struct stack *s)
{
	remove_tree(s->dir);
	g_free(s->text);
}

void stack_reset_upper(struct stack *s)
{
	remove_tree(stack_path(s, "upper"));
	remove_tree(stack_path(s, "work"));
	make_upper_dirs(s);
	build(s, s->text, "u");
}

void stack_add(struct stack *s, const char *text)
{
	char *all = g_strconcat(s->text, "\n", text, NULL);

	g_free(s->text);
	s->text = all;
	assert_true(lowers_in(text) <= s->n_lowers);
	build(s, text, NULL);
}

char *stack_names(const struct stack *s)
{
	g_auto(GStrv) lines = g_strsplit(s->text, "\n", -1);
	GHashTable *seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	GString *all = g_string_new("");
	GHashTableIter it;
	char *name;

	for (char **p = lines; *p; p++) {
		char path[4096];

		if (sscanf(*p, "%*s %4095s", path) != 1)
			continue;
		for (char *save, *c = strtok_r(path, "/", &save); c; c = strtok_r(NULL, "/", &save))
			g_hash_table_add(seen, g_strdup(c));
	}
	g_hash_table_iter_init(&it, seen);
	while (g_hash_table_iter_next(&it, (void **)&name, NULL))
		g_string_append_printf(all, "%s ", name);
	g_hash_table_destroy(seen);
	return g_string_free(all, FALSE);
}

/* ------------------------------------------------------------------------------------------------
 * Unions
 */

struct un_layers *stack_layers(const struct stack *s)
{
	g_autofree char *upper = g_strdup(stack_path(s, "upper"));
	g_autofree char *work = g_strdup(stack_path(s, "work"));
	g_auto(GStrv) lowers = g_new0(char *, s->n_lowers + 1);
	struct un_setup_request req = {
		.n_lowers = s->n_lowers,
		.upper = s->has_upper ? upper : NULL,
		.work = s->has_upper ? work : NULL,
		.userxattr = !s->trusted,
		.no_clone = s->no_clone,
	};
	char *err = NULL;
	struct un_layers *ls;

	for (unsigned i = 0; i < s->n_lowers; i++)
		lowers[i] = g_strdup_printf("%s/%u", s->dir, i + 1);
	req.lowers = (const char *const *)lowers;
	ls = un_layers_open(&req, &err);
	if (!ls)
		fail_msg("%s", err);
	return ls;
}

struct un_fs *stack_fs_on(const struct stack *s, struct un_layers *ls)
{
	struct un_fs_config config = { .layers = ls, .sync = s->sync, .revalidate = s->revalidate };
	char *err = NULL;
	struct un_fs *fs = un_fs_new(&config, &err);

	if (!fs)
		fail_msg("%s", err);
	return fs;
}

struct un_fs *stack_fs(const struct stack *s)
{
	return stack_fs_on(s, stack_layers(s));
}

struct un_inode *stack_find(struct un_fs *fs, const char *path, int *ret)
{
	struct un_inode *at = un_inode_get(fs, UN_ROOT_ID);
	g_auto(GStrv) names = g_strsplit(path, "/", -1);
	int r = 0;

	for (char **p = names; *p && r == 0; p++) {
		struct un_inode *next = NULL;

		if (!**p)
			continue;
		r = un_lookup(fs, at, *p, &next, NULL);
		un_inode_put(fs, at);
		at = next;
	}
	if (ret)
		*ret = r;
	return r < 0 ? NULL : at;
}

/* ------------------------------------------------------------------------------------------------
 * Operations
 */

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
				   make_acl(d->w[2], acl), 0, false);
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

/* ------------------------------------------------------------------------------------------------
 * The merged tree as text
 */

struct view {
	struct un_fs *fs;
	unsigned flags;
	char **names;
	GString *out;
	GHashTable *inos; /* number -> the first path that has it */
	time_t now;
};

struct child {
	char *name;
	uint64_t ino;
	uint8_t type;
	struct un_inode *inode;
	struct statx st;
};

static void child_free(gpointer p)
{
	struct child *c = p;

	g_free(c->name);
	g_free(c);
}

static int by_name(gconstpointer a, gconstpointer b)
{
	return strcmp((*(struct child *const *)a)->name, (*(struct child *const *)b)->name);
}

static bool collect(void *data, const struct un_dirent *e)
{
	struct child *c;

	if (e->cookie <= 2)
		return true;
	c = g_new0(struct child, 1);
	c->name = g_strdup(e->name);
	c->ino = e->ino;
	c->type = e->type;
	c->inode = e->inode;
	if (e->st)
		c->st = *e->st;
	g_ptr_array_add(data, c);
	return true;
}

static void show_bytes(GString *out, const char *p, size_t n)
{
	bool plain = n <= 80;

	for (size_t i = 0; plain && i < n; i++)
		plain = g_ascii_isgraph(p[i]);
	if (plain) {
		g_string_append_len(out, p, (gssize)n);
	} else {
		g_autofree char *sum =
			g_compute_checksum_for_data(G_CHECKSUM_MD5, (const guchar *)p, n);

		g_string_append_printf(out, "{%zu:%.8s}", n, sum);
	}
}

static void show_data(struct view *v, struct un_inode *inode, uint64_t size)
{
	static char small[65536];
	g_autofree char *big = size + 16 > sizeof(small) ? g_malloc(size + 16) : NULL;
	char *buf = big ? big : small;
	ssize_t n = un_read(v->fs, inode, buf, size + 16, 0);

	if (n < 0)
		g_string_append_printf(v->out, " !read:%s", g_strerror((int)-n));
	else if ((uint64_t)n != size)
		g_string_append_printf(v->out, " !read:%zd-of-%" PRIu64, n, size);
	g_string_append(v->out, " = ");
	if (n > 0)
		show_bytes(v->out, buf, (size_t)n);
}

static int by_string(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void show_xattrs(struct view *v, struct un_inode *inode)
{
	static char list[65536], value[65536];
	const struct un_cred root = { 0 };
	ssize_t n = un_listxattr(v->fs, inode, &root, list, sizeof(list));
	GPtrArray *all;

	if (n < 0) {
		g_string_append_printf(v->out, " !listxattr:%s", g_strerror((int)-n));
		return;
	}
	all = g_ptr_array_new();
	for (char *p = list; p < list + n; p += strlen(p) + 1)
		g_ptr_array_add(all, p);
	g_ptr_array_sort(all, by_string);
	for (unsigned i = 0; i < all->len; i++) {
		const char *name = all->pdata[i];

		if (strcmp(name, "security.selinux") == 0)
			continue;
		n = un_getxattr(v->fs, inode, name, value, sizeof(value));
		g_string_append_printf(v->out, " %s=", name);
		if (n < 0)
			g_string_append_printf(v->out, "!%s", g_strerror((int)-n));
		else
			show_bytes(v->out, value, (size_t)n);
	}
	g_ptr_array_free(all, TRUE);
}

static void show_object(struct view *v, const char *path, struct un_inode *inode,
			const struct statx *st)
{
	static const char types[] = "?pc?d?b?-?l?s???";
	const char *first = g_hash_table_lookup(v->inos, &st->stx_ino);
	char target[4096];
	ssize_t n;

	if (!first) {
		g_hash_table_insert(v->inos, g_memdup2(&st->stx_ino, 8), g_strdup(path));
		first = path;
	}
	g_string_append_printf(v->out, "%s %c%04o %u:%u", path, types[IFTODT(st->stx_mode)],
			       st->stx_mode & 07777, st->stx_uid, st->stx_gid);
	if (st->stx_mtime.tv_sec > v->now - 3600)
		g_string_append(v->out, " now");
	else
		g_string_append_printf(v->out, " %lld.%09u", (long long)st->stx_mtime.tv_sec,
				       st->stx_mtime.tv_nsec);
	if (strcmp(first, path) != 0)
		g_string_append_printf(v->out, " like:%s", first);
	if (!S_ISDIR(st->stx_mode))
		g_string_append_printf(v->out, " links:%u", st->stx_nlink);
	if (S_ISCHR(st->stx_mode) || S_ISBLK(st->stx_mode))
		g_string_append_printf(v->out, " %u:%u", st->stx_rdev_major, st->stx_rdev_minor);
	if (S_ISLNK(st->stx_mode)) {
		n = un_readlink(v->fs, inode, target, sizeof(target));
		g_string_append_printf(v->out, " -> %.*s", n < 0 ? 0 : (int)n, target);
		if (n < 0)
			g_string_append_printf(v->out, "!readlink:%s", g_strerror((int)-n));
	}
	if (S_ISREG(st->stx_mode))
		show_data(v, inode, st->stx_size);
	show_xattrs(v, inode);
	g_string_append_c(v->out, '\n');
}

static void view_dir(struct view *v, const char *path, struct un_inode *dir);

static void view_child(struct view *v, const char *dir_path, struct un_inode *dir, struct child *c)
{
	g_autofree char *path =
		*dir_path ? g_strconcat(dir_path, "/", c->name, NULL) : g_strdup(c->name);
	struct un_inode *inode;
	struct statx st;
	int r = un_lookup(v->fs, dir, c->name, &inode, &st);

	if (r < 0) {
		g_string_append_printf(v->out, "%s !lookup:%s\n", path, g_strerror(-r));
		un_inode_put(v->fs, c->inode);
		return;
	}
	if (c->inode && c->inode != inode)
		g_string_append_printf(v->out, "%s !readdir gave another inode\n", path);
	if (c->ino != st.stx_ino || c->type != IFTODT(st.stx_mode) ||
	    (c->inode && c->st.stx_ino != st.stx_ino))
		g_string_append_printf(
			v->out, "%s !readdir: ino %" PRIu64 " type %u, stat: %llu %u\n", path,
			c->ino, c->type, (unsigned long long)st.stx_ino, IFTODT(st.stx_mode));
	show_object(v, path, inode, &st);
	if (v->flags & STACK_VIEW_KEEP)
		un_inode_remember(v->fs, inode);
	if (S_ISDIR(st.stx_mode))
		view_dir(v, path, inode);
	un_inode_put(v->fs, c->inode);
	un_inode_put(v->fs, inode);
}

static void view_dir(struct view *v, const char *path, struct un_inode *dir)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(child_free);
	GHashTable *found = g_hash_table_new(g_str_hash, g_str_equal);
	int r;

	for (char **p = v->names; p && *p; p++) {
		struct un_inode *inode;

		if (!**p)
			continue;
		r = un_lookup(v->fs, dir, *p, &inode, NULL);
		if (r == 0)
			un_inode_put(v->fs, inode);
		if (r == 0)
			g_hash_table_add(found, *p);
		else if (r != -ENOENT)
			g_string_append_printf(v->out, "%s/%s !lookup:%s\n", path, *p,
					       g_strerror(-r));
	}
	r = un_readdir(v->fs, dir, 0, true, collect, all);
	if (r < 0)
		g_string_append_printf(v->out, "%s !readdir:%s\n", path, g_strerror(-r));
	g_ptr_array_sort(all, by_name);
	for (unsigned i = 0; i < all->len; i++) {
		struct child *c = all->pdata[i];

		g_hash_table_remove(found, c->name);
		view_child(v, path, dir, c);
	}
	for (char **p = v->names; p && *p; p++)
		if (**p && g_hash_table_contains(found, *p))
			g_string_append_printf(v->out, "%s/%s !found, not listed\n", path, *p);
	g_hash_table_destroy(found);
	g_ptr_array_free(all, TRUE);
}

char *stack_view(struct un_fs *fs, unsigned flags, const char *names)
{
	struct view v = { .fs = fs, .flags = flags, .out = g_string_new("") };
	struct un_inode *root = un_inode_get(fs, UN_ROOT_ID);
	struct statx st;

	v.now = time(NULL);
	v.inos = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
	if (flags & STACK_VIEW_NAMES)
		v.names = g_strsplit(names, " ", -1);
	assert_int_equal(un_getattr(fs, root, &st), 0);
	show_object(&v, "", root, &st);
	view_dir(&v, "", root);
	un_inode_put(fs, root);
	g_strfreev(v.names);
	g_hash_table_destroy(v.inos);
	return g_string_free(v.out, FALSE);
}

/* ------------------------------------------------------------------------------------------------
 * What is on the disk
 */

static void disk_object(const struct stack *s, const char *path, const char *shown, GString *out)
{
	char list[8192], value[8192];
	struct stat st;
	ssize_t n;

	assert_int_equal(lstat(path, &st), 0);
	g_string_append_printf(out, "%s %o %u:%u", *shown ? shown : ".", st.st_mode, st.st_uid,
			       st.st_gid);
	if (!S_ISDIR(st.st_mode))
		g_string_append_printf(out, " links:%ju size:%jd", (uintmax_t)st.st_nlink,
				       (intmax_t)st.st_size);
	if (time(NULL) - st.st_mtim.tv_sec < 3600)
		g_string_append(out, " now");
	else
		g_string_append_printf(out, " %jd.%09ld", (intmax_t)st.st_mtim.tv_sec,
				       st.st_mtim.tv_nsec);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		g_string_append_printf(out, " %u:%u", major(st.st_rdev), minor(st.st_rdev));
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, value, sizeof(value));
		g_string_append_printf(out, " -> %.*s", (int)n, value);
	}
	if (S_ISREG(st.st_mode)) {
		g_autofree char *data = NULL;
		size_t len;

		if (g_file_get_contents(path, &data, &len, NULL)) {
			g_string_append(out, " = ");
			show_bytes(out, data, len);
		}
	}
	n = llistxattr(path, list, sizeof(list));
	for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1) {
		ssize_t len = lgetxattr(path, p, value, sizeof(value));

		if (strcmp(p, "security.selinux") == 0)
			continue;
		g_string_append_printf(out, " %s=", p);
		if (g_str_has_suffix(p, "overlay.origin") || g_str_has_suffix(p, "overlay.uuid"))
			g_string_append_c(out, '*');
		else if (len >= 0)
			show_bytes(out, value, (size_t)len);
	}
	g_string_append_c(out, '\n');
	(void)s;
}

static GPtrArray *names_in(const char *path)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			g_ptr_array_add(all, g_strdup(de->d_name));
	if (d)
		closedir(d);
	g_ptr_array_sort(all, by_string);
	return all;
}

static void disk_dir(const struct stack *s, const char *path, const char *shown, GString *out)
{
	GPtrArray *all = names_in(path);

	for (unsigned i = 0; i < all->len; i++) {
		g_autofree char *p = g_strconcat(path, "/", all->pdata[i], NULL);
		g_autofree char *q = *shown ? g_strconcat(shown, "/", all->pdata[i], NULL)
					    : g_strdup(all->pdata[i]);
		struct stat st;

		disk_object(s, p, q, out);
		if (lstat(p, &st) == 0 && S_ISDIR(st.st_mode))
			disk_dir(s, p, q, out);
	}
	g_ptr_array_free(all, TRUE);
}

char *stack_disk(const struct stack *s, const char *path)
{
	g_autofree char *at = g_strdup(stack_path(s, path));
	GString *out = g_string_new("");

	disk_object(s, at, "", out);
	disk_dir(s, at, "", out);
	return g_string_free(out, FALSE);
}

char *stack_ls(const struct stack *s, const char *path)
{
	GPtrArray *all = names_in(stack_path(s, path));
	GString *out = g_string_new("");

	for (unsigned i = 0; i < all->len; i++)
		g_string_append_printf(out, "%s%s", i ? " " : "", (char *)all->pdata[i]);
	g_ptr_array_free(all, TRUE);
	return g_string_free(out, FALSE);
}

unsigned stack_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3;
}
