/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mounted union as a whole. */
#pragma once

#include "layer/choices.h"
#include "layer/owner.h"
#include "layer/setup.h"
#include "object/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct un_fs;

struct un_fs_config {
	struct un_layers *layers; /* taken over on success */
	bool read_only;           /* asked for; without an upper it is so anyway */
	bool sync;                /* data of a copy-up is on disk before it becomes visible */
	bool sync_strict;         /* ... and metadata and directories too */
	bool redirect_follow; /* redirects in layers lead somewhere; otherwise they are refused */
	bool redirect_create; /* directories with something below can be renamed */
	bool metacopy_follow; /* files without data have it from below; otherwise refused */
	bool metacopy_create; /* attributes are copied up without data */
	enum un_verity verity;
	bool new_uuid;   /* give a fresh upper an identity */
	bool any_uuid;   /* ... and one that is not fresh as well */
	bool watch;      /* layers may be changed by others, which is to be seen */
	unsigned watches; /* directories to watch at most; 0: as many as are fair */
	bool revalidate; /* timeout=0: ask the layers at every lookup */
	bool writeback; /* the kernel may have more of a file than there is in it, and write it at any time */
	/*
	 * To whom files are shown to belong; NULL: as stored. Borrowed for as long as the layers
	 * live.
	 */
	const struct un_owners *owners;
	const char *shown_at; /* where it is mounted, for messages; NULL: not known */
	unsigned other_fds;   /* descriptors that the process needs beside the union's */
	unsigned spare_fds;   /* and what it may need at times */
};

/* NULL and a sentence in *ret_err on failure. */
struct un_fs *un_fs_new(const struct un_fs_config *config, char **ret_err);

/* Has the kernel SELinux? */
bool un_fs_has_selinux(const struct un_fs *fs);

/* Closes the layers as well. Accepts NULL. Nobody may use the file system any more. */
void un_fs_free(struct un_fs *fs);
