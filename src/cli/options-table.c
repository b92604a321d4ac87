/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each option of -o: its name, whether it takes a value, and what becomes of it. A new option is a
 * row of the table at the end, and a function only if its values are of a new kind.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "options_i.h"

#define MAX_SPIN 10000
#define MIN_WRITE 4096u
#define MAX_WRITE 1048576u

enum takes {
	TAKES_NONE,
	TAKES_MAYBE,
	TAKES_VALUE,
};

struct option {
	const char *name; /* with a final '*': every name that begins so */
	enum takes takes;
	/* @value: as written for paths, else plain; NULL: the name alone. Returns 0 or -EINVAL. */
	int (*set)(struct un_parse *p, const struct option *opt, const char *value);
	unsigned at;     /* of the setters that use FIELD(): offset in struct un_options */
	unsigned set_at; /* set_word, set_on_off: offset of a bool that says it was given, or 0 */
	int arg;         /* set_flag: the bool; set_mount: the flag, or ~flag for its opposite */
	const char *
		same; /* set_later, set_moot: values, '|' between, that ask for what is done anyway */
	const char *why;   /* set_moot: ... and why the others change nothing */
	const char *words; /* all values, '|' between; set_word: in the order of the enum */
};

#define FIELD(opt, o, type) (*(type *)((char *)(o) + (opt)->at))

static int bad_value(struct un_parse *p, const struct option *opt, const char *value,
		     const char *allowed)
{
	return un_parse_fail(p, "option '%s=%s': the value must be %s", opt->name, value, allowed);
}

/* "a|b|c" as "a, b or c". */
static char *spell_words(const char *words)
{
	g_auto(GStrv) list = g_strsplit(words, "|", -1);
	GString *out = g_string_new(list[0]);

	for (size_t i = 1; list[i]; i++)
		g_string_append_printf(out, "%s%s", list[i + 1] ? ", " : " or ", list[i]);
	return g_string_free(out, FALSE);
}

/* Which of opt->words, from 0; or -EINVAL. */
static int which_word(struct un_parse *p, const struct option *opt, const char *value)
{
	g_auto(GStrv) list = g_strsplit(opt->words, "|", -1);
	g_autofree char *allowed = NULL;

	for (int i = 0; list[i]; i++)
		if (strcmp(list[i], value) == 0)
			return i;
	allowed = spell_words(opt->words);
	return bad_value(p, opt, value, allowed);
}

static void note_given(struct un_parse *p, const struct option *opt)
{
	if (opt->set_at)
		*(bool *)((char *)p->o + opt->set_at) = true;
}

/* Into an enum, whose constants count from 0. */
static int set_word(struct un_parse *p, const struct option *opt, const char *value)
{
	int i = which_word(p, opt, value);

	if (i < 0)
		return i;
	FIELD(opt, p->o, unsigned) = (unsigned)i;
	note_given(p, opt);
	return 0;
}

static int set_on_off(struct un_parse *p, const struct option *opt, const char *value)
{
	int i = which_word(p, opt, value);

	if (i < 0)
		return i;
	FIELD(opt, p->o, bool) = i == 0;
	note_given(p, opt);
	return 0;
}

static int set_nfs_export(struct un_parse *p, const struct option *opt, const char *value)
{
	int i = which_word(p, opt, value);

	if (i < 0)
		return i;
	p->nfs_export = i == 0;
	return 0;
}

/* mount(8) hands it on to whom it takes for the maker of the mount: never a second one on the same upper. */
static int refuse_remount(struct un_parse *p, const struct option *opt, const char *value)
{
	return un_parse_fail(p, "option remount: only the kernel can do that to a mount: use "
				"'LIBMOUNT_FORCE_MOUNT2=always mount -i -o remount,OPTIONS MOUNTPOINT'");
}

/* NAME alone: arg into a bool. */
static int set_flag(struct un_parse *p, const struct option *opt, const char *value)
{
	FIELD(opt, p->o, bool) = opt->arg;
	return 0;
}

/* NAME, NAME=0, NAME=1. */
static int set_bool(struct un_parse *p, const struct option *opt, const char *value)
{
	if (value && strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
		return bad_value(p, opt, value, "0 or 1");
	FIELD(opt, p->o, bool) = !value || *value == '1';
	return 0;
}

static int set_mount(struct un_parse *p, const struct option *opt, const char *value)
{
	if (opt->arg >= 0)
		p->mount[opt->arg] = 1;
	else
		p->mount[~opt->arg] = -1;
	return 0;
}

static int set_debug(struct un_parse *p, const struct option *opt, const char *value)
{
	/* Messages nobody sees are of no use: as in every libfuse program. */
	p->o->debug = true;
	p->o->foreground = true;
	return 0;
}

static int set_nothing(struct un_parse *p, const struct option *opt, const char *value)
{
	return 0;
}

/* Known to fuse-overlayfs or the kernel's overlayfs, and not implemented here. */
static int set_later(struct un_parse *p, const struct option *opt, const char *value)
{
	g_auto(GStrv) same = g_strsplit(opt->same ? opt->same : "", "|", -1);

	if (g_strv_contains((const char *const *)same, value ? value : ""))
		return 0;
	un_parse_warn(p, "option '%s%s%s' is not implemented and ignored", opt->name,
		      value ? "=" : "", value ? value : "");
	return 0;
}

/* Known to fuse-overlayfs, and without anything that it could change here. */
static int set_moot(struct un_parse *p, const struct option *opt, const char *value)
{
	g_auto(GStrv) same = g_strsplit(opt->same ? opt->same : "", "|", -1);

	if (!g_strv_contains((const char *const *)same, value ? value : ""))
		un_parse_warn(p, "option '%s%s%s' has no effect: %s", opt->name, value ? "=" : "",
			      value ? value : "", opt->why);
	return 0;
}

/*
 * A path up to an unescaped ':' (if @list) or to the end; a backslash makes the next byte a plain
 * one, and a last lone backslash ends the path. *@s is left on what ended it.
 */
static char *next_path(const char **s, bool list)
{
	GString *path = g_string_new(NULL);
	const char *c = *s;

	for (; *c && !(list && *c == ':'); c++) {
		if (*c == '\\' && *++c == '\0')
			break;
		g_string_append_c(path, *c);
	}
	*s = c;
	return g_string_free(path, FALSE);
}

static int set_path(struct un_parse *p, const struct option *opt, const char *value)
{
	g_autofree char *path = next_path(&value, false);

	if (!*path)
		return un_parse_fail(p, "option '%s=': the path is empty", opt->name);
	g_free(FIELD(opt, p->o, char *));
	FIELD(opt, p->o, char *) = g_steal_pointer(&path);
	return 0;
}

/* `A:B::D1::D2`: behind the first `::` each layer is for data only, and has its own `::`. */
static int set_lowers(struct un_parse *p, const struct option *opt, const char *value)
{
	GPtrArray *into = p->o->lowers;

	g_ptr_array_set_size(p->o->lowers, 0);
	g_ptr_array_set_size(p->o->datadirs, 0);
	/* Cleared, so that one more lowerdir= or lowerdir+= may follow: as in the kernel. */
	p->lowers_listed = *value != '\0';
	if (!*value)
		return 0;
	for (const char *s = value;; s++) {
		g_autofree char *path = next_path(&s, true);

		if (!*path && s == value && s[0] == ':' && s[1] == ':')
			return un_parse_fail(p,
					     "option 'lowerdir=%s': layers for data only, those "
					     "after '::', need a lower directory before them",
					     value);
		if (!*path)
			return un_parse_fail(p,
					     "option 'lowerdir=%s': a path is empty: there is a "
					     "':' with nothing on one side of it",
					     value);
		g_ptr_array_add(into, g_steal_pointer(&path));
		if (!*s)
			return 0;
		if (s[1] == ':') {
			into = p->o->datadirs;
			s++;
		} else if (into == p->o->datadirs) {
			return un_parse_fail(p,
					     "option 'lowerdir=%s': a single ':' after '::': no "
					     "other layer can be below one for data only",
					     value);
		}
	}
}

/* Neither ':' nor a backslash means anything here. */
static int add_layer(struct un_parse *p, const struct option *opt, const char *value)
{
	GPtrArray *into = FIELD(opt, p->o, GPtrArray *);

	if (p->lowers_listed)
		return un_parse_fail(p, "option '%s=%s': cannot add to a list given with lowerdir=",
				     opt->name, value);
	if (!*value)
		return un_parse_fail(p, "option '%s=': the path is empty", opt->name);
	if (into == p->o->lowers && p->o->datadirs->len)
		return un_parse_fail(p,
				     "option '%s=%s': cannot follow datadir+=: no other layer can "
				     "be below one for data only",
				     opt->name, value);
	g_ptr_array_add(into, g_strdup(value));
	return 0;
}

static int set_text(struct un_parse *p, const struct option *opt, const char *value)
{
	if (!*value)
		return un_parse_fail(p, "option '%s=': the value is empty", opt->name);
	g_free(FIELD(opt, p->o, char *));
	FIELD(opt, p->o, char *) = g_strdup(value);
	return 0;
}

/* Handed on between quotes, for its commas. */
static int set_label(struct un_parse *p, const struct option *opt, const char *value)
{
	if (strchr(value, '"'))
		return bad_value(p, opt, value, "a label, without quotes in it");
	return set_text(p, opt, value);
}

static int set_sync(struct un_parse *p, const struct option *opt, const char *value)
{
	static const struct {
		const char *name;
		enum un_sync sync;
	} values[] = {
		{ "0", UN_SYNC_VOLATILE },        { "1", UN_SYNC_AUTO },
		{ "auto", UN_SYNC_AUTO },         { "strict", UN_SYNC_STRICT },
		{ "volatile", UN_SYNC_VOLATILE },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		/* `volatile` alone says its value by its name. */
		if (strcmp(value ? value : opt->name, values[i].name) == 0) {
			p->o->sync = values[i].sync;
			return 0;
		}
	}
	return bad_value(p, opt, value ? value : "", "0, 1, auto, strict or volatile");
}

static int set_cache(struct un_parse *p, const struct option *opt, const char *value)
{
	static const char *const words[] = { "auto", "immutable", "none" };

	for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
		if (strcmp(value, words[i]) == 0) {
			p->o->cache = (enum un_cache)i;
			/* The last one of the two wins. */
			if (p->o->timeout == 0 && i != UN_CACHE_NONE)
				p->o->timeout = UN_TIMEOUT_FOREVER;
			return 0;
		}
	}
	return bad_value(p, opt, value, "auto, immutable or none");
}

static int set_watches(struct un_parse *p, const struct option *opt, const char *value)
{
	guint64 n;

	if (!g_ascii_string_to_unsigned(value, 10, 1, G_MAXINT32, &n, NULL))
		return bad_value(p, opt, value, "a number of directories, 1 or more");
	p->o->watches = (unsigned)n;
	return 0;
}

static int set_timeout(struct un_parse *p, const struct option *opt, const char *value)
{
	char *end = NULL;
	double t;

	/* strtod alone also takes "inf", "nan", "0x1p3" and leading blanks. */
	t = g_ascii_strtod(value, &end);
	if (!*value || *end || !isfinite(t) || signbit(t) ||
	    value[strspn(value, "0123456789.eE+-")])
		return bad_value(p, opt, value, "a number of seconds, 0 or more");
	/* The protocol has nanoseconds, and 64 bits of seconds: what is beyond is never, or for ever. */
	p->o->timeout = t < 1e-9 ? 0 : MIN(t, UN_TIMEOUT_MAX);
	/* As fuse-overlayfs users know it: with 0 every access asks. */
	if (p->o->timeout == 0)
		p->o->cache = UN_CACHE_NONE;
	else if (p->o->cache == UN_CACHE_NONE)
		p->o->cache = UN_CACHE_AUTO;
	return 0;
}

/* From @least to @most, which @allowed says in words. */
static int number(struct un_parse *p, const struct option *opt, const char *value, unsigned least,
		  unsigned most, const char *allowed, unsigned *ret)
{
	guint64 n;

	if (!g_ascii_string_to_unsigned(value, 10, least, most, &n, NULL))
		return bad_value(p, opt, value, allowed);
	*ret = (unsigned)n;
	return 0;
}

static int set_threads(struct un_parse *p, const struct option *opt, const char *value)
{
	return number(p, opt, value, 1, MAX_THREADS, "a whole number from 1 to 1024",
		      &p->o->threads);
}

static int set_spin(struct un_parse *p, const struct option *opt, const char *value)
{
	return number(p, opt, value, 0, MAX_SPIN, "a whole number of microseconds from 0 to 10000",
		      &p->o->spin);
}

static int set_max_threads(struct un_parse *p, const struct option *opt, const char *value)
{
	return number(p, opt, value, 1, G_MAXUINT, "a whole number, 1 or more", &p->o->max_threads);
}

static int set_read_ahead(struct un_parse *p, const struct option *opt, const char *value)
{
	return number(p, opt, value, 4096, 16 << 20, "a number of bytes, 4096 to 16777216",
		      &p->o->read_ahead);
}

static int set_max_write(struct un_parse *p, const struct option *opt, const char *value)
{
	guint64 n;

	if (!g_ascii_string_to_unsigned(value, 10, MIN_WRITE, G_MAXUINT64, &n, NULL))
		return bad_value(p, opt, value, "a number of bytes, 4096 to 1048576");
	if (n > MAX_WRITE) {
		un_parse_warn(p, "option 'max_write=%s' is more than possible: using %u", value,
			      MAX_WRITE);
		n = MAX_WRITE;
	}
	p->o->max_write = (unsigned)n;
	return 0;
}

/* Ids of users or groups: MAP. */
static int set_idmap(struct un_parse *p, const struct option *opt, const char *value)
{
	struct un_idmap map = { 0 };
	const char *why = un_idmap_parse(value, &map);

	if (why)
		return un_parse_fail(p, "option '%s=%s': the value %s", opt->name, value, why);
	un_idmap_done(&FIELD(opt, p->o, struct un_idmap));
	FIELD(opt, p->o, struct un_idmap) = map;
	return 0;
}

static int set_id(struct un_parse *p, const struct option *opt, const char *value)
{
	guint64 n;

	/* The one that is left out means "none" to the kernel. */
	if (!g_ascii_string_to_unsigned(value, 10, 0, G_MAXUINT32 - 1, &n, NULL))
		return bad_value(p, opt, value, "an id, 0 to 4294967294");
	FIELD(opt, p->o, unsigned) = (unsigned)n;
	note_given(p, opt);
	return 0;
}

#define ON_OFF "on|off"
#define O(field) offsetof(struct un_options, field)
#define FLAG(name_, field, arg_)                                                                   \
	{                                                                                          \
		name_, TAKES_NONE, set_flag, .at = O(field), .arg = (arg_)                         \
	}
#define BOOL(name_, field)                                                                         \
	{                                                                                          \
		name_, TAKES_MAYBE, set_bool, .at = O(field)                                       \
	}
#define MOUNT(name_, flag)                                                                         \
	{                                                                                          \
		name_, TAKES_NONE, set_mount, .arg = (flag)                                        \
	}
#define QUIET(name_)                                                                               \
	{                                                                                          \
		name_, TAKES_MAYBE, set_nothing                                                    \
	}
#define MOOT(name_, same_, why_)                                                                   \
	{                                                                                          \
		name_, TAKES_MAYBE, set_moot, .same = (same_), .why = (why_)                       \
	}
#define LATER(name_, same_)                                                                        \
	{                                                                                          \
		name_, TAKES_MAYBE, set_later, .same = (same_)                                     \
	}

/* clang-format off */
static const struct option options[] = {
	/* layers */
	{ "lowerdir", TAKES_VALUE, set_lowers },
	{ "lowerdir+", TAKES_VALUE, add_layer, .at = O(lowers) },
	{ "datadir+", TAKES_VALUE, add_layer, .at = O(datadirs) },
	{ "upperdir", TAKES_VALUE, set_path, .at = O(upper) },
	{ "workdir", TAKES_VALUE, set_path, .at = O(work) },
	FLAG("userxattr", userxattr, 1),
	BOOL("noxattrs", noxattrs),
	/* the format on disk */
	{ "redirect_dir", TAKES_VALUE, set_word, .words = "on|follow|nofollow|off",
	  .at = O(redirect_dir) },
	{ "metacopy", TAKES_VALUE, set_on_off, .words = ON_OFF,
	  .at = O(metacopy), .set_at = O(metacopy_set) },
	{ "index", TAKES_VALUE, set_on_off, .words = ON_OFF, .at = O(index), .set_at = O(index_set) },
	{ "xino", TAKES_VALUE, set_word, .words = "auto|on|off", .at = O(xino) },
	{ "verity", TAKES_VALUE, set_word, .words = "off|on|require", .at = O(verity) },
	{ "uuid", TAKES_VALUE, set_word, .words = "auto|on|off|null", .at = O(uuid) },
	{ "nfs_export", TAKES_VALUE, set_nfs_export, .words = ON_OFF },
	/* whose files are */
	{ "uidmapping", TAKES_VALUE, set_idmap, .at = O(uidmap) },
	{ "gidmapping", TAKES_VALUE, set_idmap, .at = O(gidmap) },
	BOOL("squash_to_root", squash_to_root),
	{ "squash_to_uid", TAKES_VALUE, set_id, .at = O(squash_uid), .set_at = O(squash_uid_set) },
	{ "squash_to_gid", TAKES_VALUE, set_id, .at = O(squash_gid), .set_at = O(squash_gid_set) },
	{ "xattr_permissions", TAKES_VALUE, set_word, .words = "0|1|2", .at = O(xattr_permissions) },
	/* how safe, how fresh, how fast */
	{ "volatile", TAKES_NONE, set_sync },
	{ "fsync", TAKES_VALUE, set_sync },
	{ "cache", TAKES_VALUE, set_cache },
	{ "watches", TAKES_VALUE, set_watches },
	{ "timeout", TAKES_VALUE, set_timeout },
	BOOL("writeback", writeback),
	{ "threads", TAKES_VALUE, set_threads },
	{ "max_threads", TAKES_VALUE, set_max_threads },
	{ "spin", TAKES_VALUE, set_spin },
	{ "max_write", TAKES_VALUE, set_max_write },
	{ "read_ahead", TAKES_VALUE, set_read_ahead },
	BOOL("clone_fd", clone_fd),
	{ "io_uring", TAKES_VALUE, set_word, .words = "auto|on|off", .at = O(io_uring) },
	{ "passthrough", TAKES_VALUE, set_word, .words = "auto|on|off", .at = O(passthrough) },
	/* the mount */
	{ "fsname", TAKES_VALUE, set_text, .at = O(fsname) },
	{ "subtype", TAKES_VALUE, set_text, .at = O(subtype) },
	FLAG("auto_unmount", auto_unmount, 1),
	{ "debug", TAKES_NONE, set_debug },
	FLAG("ro", read_only, 1),
	FLAG("rw", read_only, 0),
	{ "remount", TAKES_NONE, refuse_remount },
	MOUNT("allow_other", UN_MOUNT_ALLOW_OTHER),
	MOUNT("allow_root", UN_MOUNT_ALLOW_ROOT),
	MOUNT("suid", UN_MOUNT_SUID),
	MOUNT("nosuid", ~UN_MOUNT_SUID),
	MOUNT("dev", UN_MOUNT_DEV),
	MOUNT("nodev", ~UN_MOUNT_DEV),
	MOUNT("exec", UN_MOUNT_EXEC),
	MOUNT("noexec", ~UN_MOUNT_EXEC),
	MOUNT("sync", UN_MOUNT_SYNC),
	MOUNT("async", ~UN_MOUNT_SYNC),
	MOUNT("dirsync", UN_MOUNT_DIRSYNC),
	MOUNT("atime", UN_MOUNT_ATIME),
	MOUNT("noatime", ~UN_MOUNT_ATIME),
	/*
	 * Done anyway, or without meaning for FUSE: there the kernel keeps no access times, and
	 * libfuse 3.14 refuses a mount with these.
	 */
	QUIET("default_permissions"), QUIET("max_idle_threads"), QUIET("diratime"),
	QUIET("nodiratime"), QUIET("relatime"), QUIET("norelatime"), QUIET("strictatime"),
	QUIET("nostrictatime"), QUIET("lazytime"), QUIET("nolazytime"), QUIET("nonempty"),
	QUIET("big_writes"), QUIET("use_ino"),
	/* for those who read /etc/fstab */
	QUIET("defaults"), QUIET("auto"), QUIET("noauto"), QUIET("nofail"), QUIET("user"),
	QUIET("nouser"), QUIET("users"), QUIET("nousers"), QUIET("owner"), QUIET("noowner"),
	QUIET("group"), QUIET("nogroup"), QUIET("_netdev"), QUIET("comment"), QUIET("uhelper"),
	QUIET("helper"), QUIET("loud"), QUIET("silent"), QUIET("x-*"), QUIET("X-*"),
	/* fuse-overlayfs; an empty value in the list stands for the bare name */
	{ "context", TAKES_VALUE, set_label, .at = O(labels[UN_LABEL_CONTEXT]) },
	{ "fscontext", TAKES_VALUE, set_label, .at = O(labels[UN_LABEL_FS]) },
	{ "defcontext", TAKES_VALUE, set_label, .at = O(labels[UN_LABEL_DEFAULT]) },
	{ "rootcontext", TAKES_VALUE, set_label, .at = O(labels[UN_LABEL_ROOT]) },
	BOOL("static_nlink", static_nlink),
	BOOL("noacl", noacl),
	BOOL("ino32_t", ino32),
	MOOT("fast_ino", "0", "the inode numbers in a listing cost nothing here, and are right"),
	MOOT("plugins", "", "a lower layer is a directory, never a plugin"),
	MOOT("threaded", "|1", "the number of threads is threads=N"),
	MOOT("kernel_cache", "|1", "the kernel keeps what it has read; see timeout="),
	/* of `podman -v DIR:DIR:O`, which sees to it by itself; and a matter of speed only */
	QUIET("private"), QUIET("splice_read"), QUIET("splice_write"), QUIET("splice_move"),
	QUIET("no_splice_read"), QUIET("no_splice_write"), QUIET("no_splice_move"),
	/* the kernel's overlayfs */
	LATER("override_creds", "|on"),
	LATER("nooverride_creds", NULL),
};
/* clang-format on */

static const struct option *find(const char *name, size_t len)
{
	for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
		const char *have = options[i].name;
		size_t n = strlen(have);

		if (have[n - 1] == '*' ? len >= n - 1 && memcmp(have, name, n - 1) == 0
				       : len == n && memcmp(have, name, n) == 0)
			return &options[i];
	}
	return NULL;
}

/* Paths undo their own escapes. Elsewhere only `\,` and quotes around it all are not literal. */
static char *plain_value(const char *s)
{
	GString *out = g_string_new(NULL);
	size_t len = strlen(s);

	if (len >= 2 && s[0] == '"' && s[len - 1] == '"') {
		s++;
		len -= 2;
	}
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\\' && i + 1 < len && s[i + 1] == ',')
			i++;
		g_string_append_c(out, s[i]);
	}
	return g_string_free(out, FALSE);
}

int un_parse_item(struct un_parse *p, const char *item)
{
	size_t len = strcspn(item, "=");
	const char *raw = item[len] ? item + len + 1 : NULL;
	const struct option *opt = find(item, len);
	g_autofree char *plain = NULL;
	g_autofree char *words = NULL;

	if (!opt) {
		un_parse_warn(p, "ignoring unknown option '%s'", item);
		return 0;
	}
	if (raw && opt->takes == TAKES_NONE)
		return un_parse_fail(p, "option '%s': '%s' takes no value", item, opt->name);
	if (!raw && opt->words) {
		words = spell_words(opt->words);
		return un_parse_fail(p, "option '%s' needs a value: %s", opt->name, words);
	}
	if (!raw && opt->takes == TAKES_VALUE)
		return un_parse_fail(p, "option '%s' needs a value: %s=...", opt->name, opt->name);
	if (!raw || opt->set == set_path || opt->set == set_lowers)
		return opt->set(p, opt, raw);
	plain = plain_value(raw);
	return opt->set(p, opt, plain);
}
