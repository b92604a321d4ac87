/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command line to `struct un_options`, or one sentence of error. Touches no file.
 *
 *   struct un_options *o = un_options_parse(argc, argv, geteuid() == 0, &err);
 *   if (!o) { print err; exit 1 }   for each o->warnings: print
 *   ... un_options_free(o)
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "layer/choices.h"
#include "util/idmap.h"
#include "util/label.h"

#define UN_DEFAULT_SPIN 50
/* What is copied stays in the processor's cache: 1 GiB in pieces of 1 MiB takes twice as long (tests/bench). */
#define UN_DEFAULT_MAX_WRITE 524288
#define UN_TIMEOUT_FOREVER (-1.0)
/* A longer timeout becomes this. */
#define UN_TIMEOUT_MAX 1e9

enum un_sync {
	UN_SYNC_AUTO,   /* data is on disk before a copied-up file becomes visible */
	UN_SYNC_STRICT, /* ... and metadata and directories too */
	UN_SYNC_VOLATILE,
};

/* The options of the format on disk; names, values and sense are those of the kernel. */

/* overlay.redirect on directories: written by a rename, and followed? */
enum un_redirect_dir {
	UN_REDIRECT_ON,       /* written and followed */
	UN_REDIRECT_FOLLOW,   /* followed */
	UN_REDIRECT_NOFOLLOW, /* neither: a name with one gives EPERM */
	UN_REDIRECT_OFF,      /* follow, create none */
};

/* Inode numbers of layers on several file systems. */
enum un_xino {
	UN_XINO_AUTO, /* unique as far as the layers allow it */
	UN_XINO_ON,
	UN_XINO_OFF,
};

/* overlay.uuid on the upper: the identity of the union, seen in statfs. */
enum un_uuid {
	UN_UUID_AUTO, /* the stored one; stored in a fresh upper */
	UN_UUID_ON,   /* stored if there is none */
	UN_UUID_OFF,  /* none, and file handles in the layers do not name their file system */
	UN_UUID_NULL, /* none */
};

enum un_io_uring {
	UN_IO_URING_AUTO,
	UN_IO_URING_ON,
	UN_IO_URING_OFF
};

enum un_passthrough {
	UN_PASSTHROUGH_AUTO,
	UN_PASSTHROUGH_ON,
	UN_PASSTHROUGH_OFF
};

struct un_options {
	GPtrArray *lowers; /* char *, unescaped, top first, at least 1 */
	/*
	 * char *: data-only layers, top first; may be empty. They lie below all lowers; lowers and
	 * they are at most UN_MAX_LOWERS.
	 */
	GPtrArray *datadirs;
	char *upper;  /* NULL: read-only union */
	char *work;   /* NULL exactly if upper is */
	char *source; /* first positional of two, or NULL */
	char *mountpoint;
	char *fsname;  /* never NULL: fsname=, else SOURCE, else "fuse-unionfs" */
	char *subtype; /* never NULL: "fuse-unionfs" unless given */
	GString *
		mount_opts; /* for the mount itself, comma separated: "allow_other,suid,dev,noatime" */
	char *labels[UN_LABELS]; /* NULL: not given */
	GPtrArray *warnings;     /* char *: sentences */
	bool help;
	bool version; /* with help or version nothing else is filled in */
	bool foreground;
	bool debug;
	bool read_only;  /* asked for (ro); a union without upper is so anyway */
	bool allow_root; /* only who mounts and root may use it; mount_opts has it as well */
	bool noatime;    /* the mount has it; the upper is to be read so, too */
	bool writeback;
	bool noxattrs;
	bool noacl;
	bool static_nlink; /* a directory shows one link */
	bool ino32;        /* inode numbers of 32 bits */
	bool userxattr;    /* asked for; without it the dialect follows from the privilege */
	bool clone_fd;     /* default true */
	enum un_io_uring io_uring;
	enum un_passthrough passthrough;
	bool auto_unmount;
	/*
	 * What contradicts itself was refused, and what follows from another option is done: metacopy
	 * is off if redirect_dir or nfs_export make it so, index if there is no upper.
	 */
	enum un_redirect_dir redirect_dir; /* default UN_REDIRECT_ON */
	bool metacopy;                     /* default true */
	bool index;                        /* default true */
	/* The user gave the option: what cannot be had is then warned of, or refused. */
	bool metacopy_set;
	bool index_set;
	enum un_xino xino;
	enum un_verity verity;
	enum un_uuid uuid;
	struct un_idmap uidmap, gidmap; /* empty: ids are shown as stored */
	/*
	 * All files are shown to belong to one user, or one group. With squash_to_root both are 0.
	 */
	bool squash_to_root;
	bool squash_uid_set, squash_gid_set;
	unsigned squash_uid, squash_gid;
	enum un_override xattr_permissions;
	enum un_sync sync;
	enum un_cache cache;
	unsigned watches;   /* directories to watch at most; 0: as many as are fair */
	double timeout;     /* seconds, up to UN_TIMEOUT_MAX; UN_TIMEOUT_FOREVER */
	unsigned threads;   /* that are always there; 0: as many as CPUs, two at least */
	unsigned max_threads; /* at most; 0: as many as it takes, within reason */
	unsigned spin;      /* microseconds a thread keeps asking before it sleeps */
	unsigned max_write; /* bytes */
	unsigned read_ahead; /* bytes; 0: what the kernel does by itself */
};

/* NULL and *ret_err (a sentence, no newline, owned by the caller) for a bad command line. */
struct un_options *un_options_parse(int argc, char **argv, bool is_root, char **ret_err);

/* What is in effect, "NAME=VALUE" each, for people and programs to read; g_strfreev(). */
char **un_options_effect(const struct un_options *o);

/* Accepts NULL. */
void un_options_free(struct un_options *o);

/* Texts for --help and --version; static. */
const char *un_usage_help(void);
/*
 * Was the program called by the name fuse-overlayfs? Container engines do; they use the upper of
 * one mount as a lower of the next, without its workdir, so an index is off by default.
 */
bool un_called_fuse_overlayfs(const char *program);
/* @program: argv[0]; under the name fuse-overlayfs the first line is what its callers parse. */
const char *un_usage_version(const char *program);
