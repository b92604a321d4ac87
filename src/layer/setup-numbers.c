/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Do the inode numbers of a layer's file system last? There the kernel may forget an object, and
 * meet it again with another number, or give its number to something else:
 *
 *   - FUSE, of libraries that number by the node (libfuse's high-level one without use_ino)
 *   - FAT and exFAT, which have no numbers on disk
 *   - directories of an overlay on several file systems
 *   - SMB with noserverino, VirtualBox's shared folders
 *
 * What cannot be told now is believed until an object is seen to have changed its number
 * (un_is_same()).
 */
#include "setup_i.h"

#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "util/fd.h"
#include "util/log.h"

#ifndef EXFAT_SUPER_MAGIC
#define EXFAT_SUPER_MAGIC 0x2011BAB0
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif
#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#define VBOXSF_SUPER_MAGIC 0x786f4256

/* The number of a FUSE file system's root, unless the server tells its own. */
#define FUSE_ROOT 1

/* FUSE file systems of which it is known. */
static const struct {
	const char *type;
	enum un_numbers numbers;
} fuse_types[] = {
	{ "virtiofs", UN_NUMBERS_LAST },
	{ "fuse.fuse-unionfs", UN_NUMBERS_LAST },
	{ "fuse.fuse-overlayfs", UN_NUMBERS_LAST },
	{ "fuse.squashfuse_ll", UN_NUMBERS_LAST },
	{ "fuse.bindfs", UN_NUMBERS_LAST },
	{ "fuse.ext2", UN_NUMBERS_LAST }, /* fuse2fs */
	{ "fuse.ext3", UN_NUMBERS_LAST },
	{ "fuse.ext4", UN_NUMBERS_LAST },
	{ "fuse.sshfs", UN_NUMBERS_NONE },
	{ "fuse.mergerfs", UN_NUMBERS_NONE },
	{ "fuse.unionfs", UN_NUMBERS_NONE },
	{ "fuse.squashfuse", UN_NUMBERS_NONE },
	{ "fuse.rclone", UN_NUMBERS_NONE },
};

/* The type of the mount that shows device @dev, as /proc has it; NULL: none is to be seen. */
static char *type_of(uint64_t dev)
{
	g_autofree char *all = NULL;
	g_autofree char *want =
		g_strdup_printf("%u:%u", (unsigned)(dev >> 32), (unsigned)(uint32_t)dev);
	g_auto(GStrv) lines = NULL;

	if (!g_file_get_contents("/proc/self/mountinfo", &all, NULL, NULL))
		return NULL;
	lines = g_strsplit(all, "\n", -1);
	for (char **l = lines; *l; l++) {
		g_auto(GStrv) words = g_strsplit(*l, " ", -1);
		unsigned n = g_strv_length(words);

		if (n < 7 || strcmp(words[2], want) != 0)
			continue;
		for (unsigned i = 6; i + 1 < n; i++)
			if (strcmp(words[i], "-") == 0)
				return g_strdup(words[i + 1]);
	}
	return NULL;
}

/* Does the entry's number in the listing differ from its own? 1, 0, or -1: it tells nothing. */
static int differs(struct un_layer *l, int fd, const struct dirent64 *d)
{
	struct statx st;

	if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
		return -1;
	if (l->ops->stat(l, fd, d->d_name, &st) < 0 || un_stx_is_mountpoint(&st))
		return -1;
	return d->d_ino != st.stx_ino;
}

/*
 * A server that knows the numbers of its objects tells the same in a listing. 1: it does; 0: it does not, or
 * there is nothing to ask about.
 */
static int is_consistent(struct un_layer *l, int dirfd)
{
	char buf[4096] __attribute__((aligned(8)));
	un_autofd int fd = l->ops->open(l, dirfd, "", O_RDONLY | O_DIRECTORY, 0);
	ssize_t n = fd < 0 ? 0 : l->ops->getdents(l, fd, buf, sizeof(buf));
	int r = -1;

	for (ssize_t at = 0; at < n && r < 0;) {
		const struct dirent64 *d = (const void *)(buf + at);

		at += d->d_reclen;
		r = differs(l, fd, d);
	}
	return r == 0;
}

static enum un_numbers of_fuse(struct un_layer *l)
{
	g_autofree char *type = type_of(l->dev);
	struct statx st;

	for (size_t i = 0; type && i < G_N_ELEMENTS(fuse_types); i++)
		if (strcmp(type, fuse_types[i].type) == 0)
			return fuse_types[i].numbers;
	if (l->ops->stat(l, l->root, "", &st) < 0 || st.stx_ino == FUSE_ROOT)
		return UN_NUMBERS_NONE;
	return is_consistent(l, l->root) ? UN_NUMBERS_LAST : UN_NUMBERS_NONE;
}

void un_setup_probe_numbers(struct un_layer *l)
{
	enum un_numbers numbers = UN_NUMBERS_LAST;
	struct statfs fs;

	if (fstatfs(l->root, &fs) < 0)
		return;
	switch ((uint32_t)fs.f_type) {
	case FUSE_SUPER_MAGIC:
		numbers = of_fuse(l);
		l->doubtful = true;
		break;
	case OVERLAYFS_SUPER_MAGIC:
		numbers = UN_NUMBERS_FILES;
		l->doubtful = true;
		break;
	case MSDOS_SUPER_MAGIC:
	case EXFAT_SUPER_MAGIC:
	case VBOXSF_SUPER_MAGIC:
		numbers = UN_NUMBERS_NONE;
		break;
	case SMB2_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
		l->doubtful = true;
		break;
	default:
		break;
	}
	atomic_store(&l->numbers, numbers);
	/* What they name may be another object next time. */
	if (numbers == UN_NUMBERS_NONE)
		l->caps.handles = false;
}

int un_setup_probe_numbers_upper(struct un_layer *l, int work, const char *a, const char *b)
{
	struct statfs fs;
	struct statx x, y;
	int r;

	if (fstatfs(l->root, &fs) < 0 || (uint32_t)fs.f_type != FUSE_SUPER_MAGIC)
		return 0;
	r = l->ops->mknod(l, work, a, S_IFREG | 0600, 0);
	if (r == 0)
		r = l->ops->link(l, work, a, work, b);
	if (r == 0)
		r = l->ops->stat(l, work, a, &x);
	if (r == 0)
		r = l->ops->stat(l, work, b, &y);
	/* Two names of one file have one number, if the server has a say in it. */
	if (r == 0)
		atomic_store(&l->numbers,
			     x.stx_ino == y.stx_ino ? UN_NUMBERS_LAST : UN_NUMBERS_NONE);
	return 0;
}

bool un_layer_number_changed(struct un_layer *l, bool dir)
{
	unsigned now = atomic_load(&l->numbers);

	if (!un_layer_numbers_last(l, dir))
		return true;
	if (!l->doubtful)
		return false;
	if (atomic_compare_exchange_strong(&l->numbers, &now,
					   dir ? UN_NUMBERS_FILES : UN_NUMBERS_NONE)) {
		l->surprised = true;
		un_log(LOG_INFO,
		       "%s: inode numbers of %s change there while they are in use: they are known by "
		       "their names from now on",
		       l->path, dir ? "directories" : "files");
	}
	return true;
}
