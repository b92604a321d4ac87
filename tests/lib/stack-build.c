/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers made from text: stack_init(), stack_add(), stack_reset_upper(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stack_i.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "util/err.h"
#include "util/fd.h"

#define OLD_TIME 1000000000

const char *stack_path(const struct stack *s, const char *path)
{
	static char buf[8][8192];
	static unsigned next;
	char *p = buf[next++ % G_N_ELEMENTS(buf)];

	/* Not yet by stack_init(): this would be a path of the machine. */
	assert_true(s->dir[0] != '\0');
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

/* In the name of every directory that is made here, and so of whatever may be removed. */
#define MADE_HERE "/un-stack-"

/* Tests run as root: of a stack that was not made, whose directory is "", this would be /upper and /work. */
static void remove_tree(const char *path)
{
	if (!strstr(path, MADE_HERE))
		fail_msg("'%s' is not in a stack that was made", path);
	if (geteuid() != 0)
		nftw(path, open_up, 64, FTW_PHYS | FTW_MOUNT);
	nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A user namespace may know no other id. */
static bool only_own_id;

/* version 2; user, one named user, group, mask, other. */
size_t stack_make_acl(const char *text, uint8_t ret[64])
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
		set_xattr(o->s, o->path, "system.posix_acl_access", acl,
			  stack_make_acl(value, acl));
	} else if (strcmp(word, "defacl") == 0) {
		set_xattr(o->s, o->path, "system.posix_acl_default", acl,
			  stack_make_acl(value, acl));
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
	snprintf(s->dir, sizeof(s->dir), "%s" MADE_HERE "XXXXXX", base_dir());
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
