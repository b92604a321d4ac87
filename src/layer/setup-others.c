/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who else uses a directory as upper or workdir: mounts of ours hold it locked (setup-work.c), which
 * /proc/locks tells without disturbing anybody; those of the kernel's overlayfs are in mountinfo. What is
 * not found out, because it is in another namespace or another user's, is not said.
 */
#include "setup-others_i.h"

#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer/layer.h"

struct key {
	uint64_t dev, ino;
};

struct un_others {
	GHashTable *users; /* key -> text: where it is mounted, or "" */
};

static unsigned key_hash(const void *p)
{
	const struct key *k = p;

	return (unsigned)((k->ino ^ k->dev << 32 ^ k->dev >> 32) * 0x9e3779b97f4a7c15u >> 32);
}

static gboolean key_equal(const void *pa, const void *pb)
{
	const struct key *a = pa, *b = pb;

	return a->dev == b->dev && a->ino == b->ino;
}

static void add(struct un_others *o, uint64_t dev, uint64_t ino, const char *mounted_at)
{
	const struct key k = { dev, ino };

	g_hash_table_replace(o->users, g_memdup2(&k, sizeof(k)), g_strdup(mounted_at));
}

/* "1: FLOCK  ADVISORY  READ  PID MAJOR:MINOR:INODE 0 EOF", device numbers in hex. */
static void read_locks(struct un_others *o)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;

	if (!g_file_get_contents("/proc/locks", &text, NULL, NULL))
		return;
	lines = g_strsplit(text, "\n", -1);
	for (char **l = lines; *l; l++) {
		unsigned major, minor;
		uint64_t ino;

		if (sscanf(*l, "%*u: FLOCK ADVISORY READ %*d %x:%x:%" G_GUINT64_FORMAT, &major,
			   &minor, &ino) == 3)
			add(o, (uint64_t)major << 32 | minor, ino, "");
	}
}

/* NAME=PATH among the options of an overlay: commas in it are escaped once more than in a line. */
static void add_option(struct un_others *o, const char *options, const char *name, const char *at)
{
	const char *p = strstr(options, name);
	g_autofree char *raw = NULL, *path = NULL;
	struct statx st;

	if (!p)
		return;
	p += strlen(name);
	raw = g_strndup(p, strcspn(p, ", \n"));
	path = g_strcompress(raw);
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &st) == 0)
		add(o, un_stx_dev(&st), st.stx_ino, at);
}

static void read_mounts(struct un_others *o)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;

	if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
		return;
	lines = g_strsplit(text, "\n", -1);
	for (char **l = lines; *l; l++) {
		const char *options = strstr(*l, " - overlay ");
		g_auto(GStrv) words = options ? g_strsplit(*l, " ", 6) : NULL;

		if (!words || g_strv_length(words) < 6)
			continue;
		add_option(o, options, ",upperdir=", words[4]);
		add_option(o, options, ",workdir=", words[4]);
	}
}

struct un_others *un_others_new(void)
{
	struct un_others *o = g_new0(struct un_others, 1);

	o->users = g_hash_table_new_full(key_hash, key_equal, g_free, g_free);
	read_locks(o);
	read_mounts(o);
	return o;
}

void un_others_free(struct un_others *o)
{
	if (!o)
		return;
	g_hash_table_destroy(o->users);
	g_free(o);
}

/* Does the process have the directory open? */
static bool has_open(const char *pid, uint64_t dev, uint64_t ino)
{
	g_autofree char *path = g_strdup_printf("/proc/%s/fd", pid);
	DIR *d = opendir(path);
	bool found = false;
	struct dirent *e;

	while (d && !found && (e = readdir(d))) {
		struct statx st;

		found = e->d_name[0] != '.' &&
			statx(dirfd(d), e->d_name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO,
			      &st) == 0 &&
			un_stx_dev(&st) == dev && st.stx_ino == ino;
	}
	if (d)
		closedir(d);
	return found;
}

/* The mountpoint of a daemon of ours: the last word of its command line. */
static char *mountpoint_of(const char *pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid), *text = NULL;
	const char *last = NULL;
	size_t len;

	if (!g_file_get_contents(path, &text, &len, NULL))
		return NULL;
	for (size_t i = 0; i + 1 < len; i += strlen(text + i) + 1)
		last = text + i;
	return last ? g_strdup_printf("%s (process %s)", last, pid) : NULL;
}

/* Who holds the lock: the number that /proc/locks tells is of a process that has ended since. */
static char *find_holder(uint64_t dev, uint64_t ino)
{
	DIR *d = opendir("/proc");
	char *who = NULL;
	struct dirent *e;

	while (d && !who && (e = readdir(d)))
		if (g_ascii_isdigit(e->d_name[0]) && atol(e->d_name) != getpid() &&
		    has_open(e->d_name, dev, ino))
			who = mountpoint_of(e->d_name);
	if (d)
		closedir(d);
	return who;
}

char *un_others_at(const struct un_others *o, uint64_t dev, uint64_t ino)
{
	const struct key k = { dev, ino };
	const char *at = g_hash_table_lookup(o->users, &k);
	char *who;

	if (!at)
		return NULL;
	who = *at ? g_strcompress(at) : find_holder(dev, ino);
	return who ? who : g_strdup("unknown where");
}
