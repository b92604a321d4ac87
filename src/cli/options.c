/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line. Callers differ: people put options first, mount(8) by way of mount.fuse3 runs
 * `PROG SOURCE MOUNTPOINT -o ...`, and container engines send empty items and options of other
 * programs. So options and words mix freely, the last of two contradicting options wins, and what
 * is not understood inside -o is a warning. A letter that is not understood stays an error.
 */
#include "cli/options.h"

#include <string.h>

#include "options_i.h"

/*
 * A quote counts only where a value begins, and only if the closing one ends the item: in
 * `context="a,b"` it does, while a path with a stray quote in it must not swallow what follows.
 * Returns the closing quote, or NULL.
 */
static const char *quoted_end(const char *s)
{
	for (const char *q = strchr(s + 1, '"'); q; q = strchr(q + 1, '"'))
		if (q[1] == '\0' || q[1] == ',')
			return q;
	return NULL;
}

/* The comma that ends the item at @s, or the terminating NUL. */
static const char *item_end(const char *s)
{
	bool value = false; /* the first '=' is behind us */

	for (; *s && *s != ','; s++) {
		if (*s == '\\' && s[1]) {
			s++;
		} else if (*s == '=' && !value) {
			const char *q = s[1] == '"' ? quoted_end(s + 1) : NULL;

			value = true;
			if (q)
				s = q;
		}
	}
	return s;
}

static int parse_list(struct un_parse *p, const char *list)
{
	bool empty = false;
	const char *end;
	int r;

	/* `-o ""` is what scripts with nothing to say write. */
	if (!*list)
		return 0;
	for (const char *s = list;; s = end + 1) {
		g_autofree char *item = NULL;

		end = item_end(s);
		item = g_strndup(s, (size_t)(end - s));
		if (*item) {
			r = un_parse_item(p, item);
			if (r < 0)
				return r;
		} else {
			empty = true;
		}
		if (!*end)
			break;
	}
	if (empty)
		un_parse_warn(p, "ignoring an empty item in the option list '%s'", list);
	return 0;
}

/* One letter without an argument. */
static int parse_letter(struct un_parse *p, char letter)
{
	struct un_options *o = p->o;

	switch (letter) {
	case 'h':
		o->help = true;
		return 0;
	case 'V':
		o->version = true;
		return 0;
	case 'f':
		o->foreground = true;
		return 0;
	case 'd':
		return un_parse_item(p, "debug");
	case 's':
		o->threads = o->max_threads = 1;
		return 0;
	case 'r':
		return un_parse_item(p, "ro");
	case 'w':
		return un_parse_item(p, "rw");
	case 'n': /* no mtab, verbose: mount(8) hands them on to its helpers */
	case 'v':
		return 0;
	default:
		return un_parse_fail(p, "unknown option '-%c'; see --help", letter);
	}
}

/* A word of letters, as in getopt(3): `-f`, `-fd`, `-fo LIST`, `-oLIST`. May step over @*i. */
static int parse_letters(struct un_parse *p, int argc, char **argv, int *i)
{
	int r;

	for (const char *s = argv[*i] + 1; *s; s++) {
		if (*s == 'o') {
			if (s[1])
				return parse_list(p, s + 1);
			if (*i + 1 >= argc)
				return un_parse_fail(p, "option '-o' needs a list of options");
			return parse_list(p, argv[++*i]);
		}
		r = parse_letter(p, *s);
		if (r < 0 || p->o->help || p->o->version)
			return r;
	}
	return 0;
}

static int parse_long(struct un_parse *p, const char *word)
{
	if (strcmp(word, "--help") == 0)
		return parse_letter(p, 'h');
	if (strcmp(word, "--version") == 0)
		return parse_letter(p, 'V');
	if (strcmp(word, "--debug") == 0)
		return parse_letter(p, 'd');
	return un_parse_fail(p, "unknown option '%s'; see --help", word);
}

static int parse_argv(struct un_parse *p, int argc, char **argv)
{
	bool words_only = false;
	int r;

	for (int i = 1; i < argc; i++) {
		r = 0;
		if (words_only || argv[i][0] != '-' || argv[i][1] == '\0')
			g_ptr_array_add(p->words, argv[i]);
		else if (strcmp(argv[i], "--") == 0)
			words_only = true;
		else if (argv[i][1] == '-')
			r = parse_long(p, argv[i]);
		else
			r = parse_letters(p, argc, argv, &i);
		if (r < 0 || p->o->help || p->o->version)
			return r;
	}
	return 0;
}

static int finish_words(struct un_parse *p)
{
	struct un_options *o = p->o;
	unsigned n = p->words->len;
	const char *mountpoint;

	if (n == 0)
		return un_parse_fail(p, "no mount point given; see --help");
	if (n > 2)
		return un_parse_fail(p, "unexpected argument '%s' after the mount point '%s'",
				     (char *)p->words->pdata[2], (char *)p->words->pdata[1]);
	mountpoint = p->words->pdata[n - 1];
	if (!*mountpoint)
		return un_parse_fail(p, "the mount point is an empty word");
	o->mountpoint = g_strdup(mountpoint);
	if (n == 2)
		o->source = g_strdup(p->words->pdata[0]);
	return 0;
}

static int finish_layers(struct un_parse *p)
{
	struct un_options *o = p->o;
	unsigned n = o->lowers->len + o->datadirs->len;

	if (o->lowers->len == 0 && o->datadirs->len)
		return un_parse_fail(p, "option datadir+: layers for data only need a lower "
					"directory above them");
	if (o->lowers->len == 0)
		return un_parse_fail(p, "no lower directory given: option lowerdir=PATH[:PATH...] "
					"is missing or empty");
	if (n > UN_MAX_LOWERS)
		return un_parse_fail(p,
				     "option lowerdir: %u lower directories given, "
				     "at most %d are possible",
				     n, UN_MAX_LOWERS);
	if (o->upper && !o->work)
		return un_parse_fail(p,
				     "option upperdir='%s' needs option workdir=PATH, a directory "
				     "on the same mount as the upper",
				     o->upper);
	/* As in the kernel: nothing is written, so nothing is staged. */
	if (!o->upper)
		g_clear_pointer(&o->work, g_free);
	return 0;
}

static int finish_metacopy(struct un_parse *p)
{
	static const char *const names[] = {
		[UN_REDIRECT_ON] = "on",
		[UN_REDIRECT_FOLLOW] = "follow",
		[UN_REDIRECT_NOFOLLOW] = "nofollow",
		[UN_REDIRECT_OFF] = "off",
	};
	struct un_options *o = p->o;
	const char *redirect = names[o->redirect_dir];
	/* Without an upper nothing is written, and to follow is all there is to do. */
	bool excluded = o->redirect_dir == UN_REDIRECT_NOFOLLOW ||
			(o->upper && o->redirect_dir != UN_REDIRECT_ON);

	if (o->metacopy_set && o->metacopy && (excluded || o->redirect_dir == UN_REDIRECT_OFF))
		return un_parse_fail(p,
				     "option metacopy=on excludes redirect_dir=%s: a renamed file "
				     "without data finds its data by a redirect",
				     redirect);
	if (!o->metacopy_set && excluded)
		o->metacopy = false;
	if (o->verity == UN_VERITY_REQUIRE && !o->metacopy)
		return un_parse_fail(p,
				     "option verity=require excludes %s=%s: digests are kept in "
				     "metacopy files only",
				     o->metacopy_set ? "metacopy" : "redirect_dir",
				     o->metacopy_set ? "off" : redirect);
	return 0;
}

/*
 * As the kernel has it, what the user gave wins over defaults, and two given ones that contradict
 * each other are an error. Unlike there userxattr forbids none of them: the marks of a plain user
 * are as good to that user as root's are to root.
 */
static int finish_format(struct un_parse *p)
{
	struct un_options *o = p->o;
	int r;

	r = finish_metacopy(p);
	if (r < 0)
		return r;
	/* Without an upper the kernel has it with nofollow only, and else drops it first. */
	if (p->nfs_export && (o->upper || o->redirect_dir == UN_REDIRECT_NOFOLLOW)) {
		if (o->index_set && !o->index)
			return un_parse_fail(p, "option nfs_export=on excludes index=off");
		if (o->metacopy_set && o->metacopy)
			return un_parse_fail(p, "option nfs_export=on excludes metacopy=on");
		/* So that a kernel with the same options can read the upper. */
		if (o->verity == UN_VERITY_OFF)
			o->metacopy = false;
	}
	if (p->nfs_export)
		un_parse_warn(p, "option 'nfs_export=on': file handles through the mount are not "
				 "offered");
	/* Both live in the upper and the workdir. */
	if (!o->upper) {
		o->index = o->index_set = false;
		if (o->uuid == UN_UUID_ON)
			o->uuid = UN_UUID_NULL;
	}
	return 0;
}

static int finish_rest(struct un_parse *p)
{
	struct un_options *o = p->o;
	const char *fsname = o->source && *o->source ? o->source : "fuse-unionfs";

	if (p->mount[UN_MOUNT_ALLOW_OTHER] && p->mount[UN_MOUNT_ALLOW_ROOT])
		return un_parse_fail(p, "options allow_other and allow_root exclude each other");
	/* A dirty page or size in the kernel wins over the layer: a mix that never existed. */
	if (o->cache == UN_CACHE_NONE)
		o->timeout = 0;
	if (o->writeback && o->timeout == 0)
		return un_parse_fail(
			p,
			"option writeback=1 excludes timeout=0 and cache=none: what the kernel has "
			"not written back yet would hide changes made to the layers");
	if (o->writeback && o->passthrough == UN_PASSTHROUGH_ON)
		return un_parse_fail(
			p,
			"option passthrough=on excludes writeback=1: the kernel collects writes, or "
			"makes them in the layer's file itself, not both");
	o->max_threads = MIN(o->max_threads, MAX_THREADS);
	/* Below what 0 stands for, a cap is a number. */
	if (o->max_threads &&
	    o->max_threads < (o->threads ? o->threads : MAX(2, g_get_num_processors())))
		o->threads = o->max_threads;
	if (!o->fsname)
		o->fsname = g_strdup(fsname);
	if (!o->subtype)
		o->subtype = g_strdup("fuse-unionfs");
	return 0;
}

/*
 * Only words that libfuse 3.14 knows: it refuses the mount for any other. Containers run as other
 * ids and hold set-id programs and devices, and their engines never ask for what that takes;
 * hence root's defaults. fusermount3 drops suid and dev for anybody else.
 */
static void format_mount_opts(struct un_parse *p, bool is_root)
{
	static const char *const names[UN_MOUNT_FLAGS][2] = {
		[UN_MOUNT_ALLOW_OTHER] = { "allow_other", NULL },
		[UN_MOUNT_ALLOW_ROOT] = { "allow_root", NULL },
		[UN_MOUNT_SUID] = { "suid", "nosuid" },
		[UN_MOUNT_DEV] = { "dev", "nodev" },
		[UN_MOUNT_EXEC] = { "exec", "noexec" },
		[UN_MOUNT_SYNC] = { "sync", "async" },
		[UN_MOUNT_DIRSYNC] = { "dirsync", NULL },
		[UN_MOUNT_ATIME] = { "atime", "noatime" },
	};
	/* The flags of a descriptor are up to who has mounted it; mount.fuse3 hands them on all the same. */
	bool mounted = g_str_has_prefix(p->o->mountpoint, "/dev/fd/");
	GString *out = p->o->mount_opts;

	if (is_root && !p->mount[UN_MOUNT_ALLOW_ROOT])
		p->mount[UN_MOUNT_ALLOW_OTHER] = 1;
	for (int i = UN_MOUNT_SUID; i <= UN_MOUNT_DEV; i++) {
		if (is_root && !p->mount[i])
			p->mount[i] = 1;
		if (is_root || p->mount[i] <= 0)
			continue;
		if (!mounted)
			un_parse_warn(p, "option '%s' is ignored: it takes root", names[i][0]);
		p->mount[i] = 0;
	}
	p->o->allow_root = p->mount[UN_MOUNT_ALLOW_ROOT] > 0;
	p->o->noatime = p->mount[UN_MOUNT_ATIME] < 0;
	if (p->o->read_only || !p->o->upper)
		g_string_append(out, "ro");
	for (int i = 0; i < UN_MOUNT_FLAGS; i++) {
		const char *name = p->mount[i] ? names[i][p->mount[i] < 0] : NULL;

		if (name)
			g_string_append_printf(out, "%s%s", out->len ? "," : "", name);
	}
}

static int parse(struct un_parse *p, int argc, char **argv, bool is_root)
{
	int r;

	r = parse_argv(p, argc, argv);
	if (r < 0 || p->o->help || p->o->version)
		return r;
	r = finish_words(p);
	if (r < 0)
		return r;
	r = finish_layers(p);
	if (r < 0)
		return r;
	r = finish_format(p);
	if (r < 0)
		return r;
	r = finish_rest(p);
	if (r < 0)
		return r;
	if (p->o->squash_to_root) {
		p->o->squash_uid_set = true;
		p->o->squash_gid_set = true;
	}
	format_mount_opts(p, is_root);
	return 0;
}

static struct un_options *options_new(const char *program)
{
	struct un_options *o = g_new0(struct un_options, 1);

	o->lowers = g_ptr_array_new_with_free_func(g_free);
	o->datadirs = g_ptr_array_new_with_free_func(g_free);
	o->warnings = g_ptr_array_new_with_free_func(g_free);
	o->mount_opts = g_string_new(NULL);
	o->clone_fd = true;
	o->metacopy = true;
	o->index = !un_called_fuse_overlayfs(program);
	o->timeout = UN_TIMEOUT_FOREVER;
	o->spin = UN_DEFAULT_SPIN;
	o->max_write = UN_DEFAULT_MAX_WRITE;
	return o;
}

struct un_options *un_options_parse(int argc, char **argv, bool is_root, char **ret_err)
{
	/* execve(2) can be called without any word at all. */
	const char *program = argc > 0 ? argv[0] : "";
	struct un_parse p = { .o = options_new(program), .words = g_ptr_array_new() };
	int r;

	r = parse(&p, argc, argv, is_root);
	if (r == 0 && (p.o->help || p.o->version)) {
		bool help = p.o->help;

		/* What came before the word does not matter any more. */
		un_options_free(p.o);
		p.o = options_new(program);
		p.o->help = help;
		p.o->version = !help;
	}
	g_ptr_array_free(p.words, TRUE);
	if (r < 0) {
		un_options_free(p.o);
		*ret_err = p.err;
		return NULL;
	}
	return p.o;
}

void un_options_free(struct un_options *o)
{
	if (!o)
		return;
	g_ptr_array_free(o->lowers, TRUE);
	g_ptr_array_free(o->datadirs, TRUE);
	g_ptr_array_free(o->warnings, TRUE);
	g_string_free(o->mount_opts, TRUE);
	for (int i = 0; i < UN_LABELS; i++)
		g_free(o->labels[i]);
	un_idmap_done(&o->uidmap);
	un_idmap_done(&o->gidmap);
	g_free(o->upper);
	g_free(o->work);
	g_free(o->source);
	g_free(o->mountpoint);
	g_free(o->fsname);
	g_free(o->subtype);
	g_free(o);
}
