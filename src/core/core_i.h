/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live file system: objects with lifetimes, their locks, and what core's files offer each other.
 *
 * Locks, outermost first; one further down may be taken while one further up is held:
 *
 *   1. copying (a flag of an inode, un_copyup): one copy-up per inode; of a parent before its child
 *   2. dirinfo.ns of directories: several at once only through un_ns_write_set(), in the order of
 *      their node ids. (Parent before child would be no order: a rename turns it round.)
 *   3. inode.lock: one at a time; two (a rename's) in the order of their node ids
 *   4. leaves: table shards, fs->tree, the fd cache, the whiteout pool, the number maps
 *
 * No lock is held across system calls for an unrelated inode: ns is held while names in that very
 * directory are looked up or changed, inode.lock while that very inode's location is used.
 */
#pragma once

#include "core/fdcache.h"
#include "core/union.h"
#include "layer/marks.h"
#include "layer/owner.h"
#include "layer/setup.h"
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/number-map.h"

#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- a directory on a layer ----------------------------------------------------------------------- */

struct un_realdir {
	struct un_layer *layer;
	atomic_uint refs;
	/* To check what is opened again; where numbers do not last, the one made up for it. */
	uint64_t dev, ino;
	struct un_fd *fd;  /* home in the fd cache; of a layer's root: its own, never evicted */
	struct un_realdir *parent; /* guarded by fs->tree; a reference; NULL: the layer's root */
	char *name;                /* guarded by fs->tree */
	char *redirect;            /* upper: where the layers below have it; guarded by fs->tree */
	bool is_root;              /* of a layer (or the work directory): no parent, ever */
	bool hollow;               /* a sub-mount of the layer, not entered: shown empty */
	bool opaque;               /* carries an opaque mark */
	bool xwhiteouts;           /* marked opaque=x */
	atomic_bool impure;        /* upper: may hold objects with an origin */
	atomic_uint impure_seq;    /* counts when such a one was about to appear */
};

/* ---- merged inodes ------------------------------------------------------------------------------ */

struct un_name {
	struct un_inode *dir; /* a reference */
	struct un_inode *inode;
	struct un_name *next; /* of the same inode; guarded by inode->lock */
	bool gone; /* from the layer, and about to be dropped here; guarded by inode->lock */
	char name[];
};

struct un_hidden {
	struct statx_timestamp real, shown, mtime;
};

struct un_dirinfo {
	pthread_rwlock_t ns;       /* names in the directory, and what follows */
	struct un_realdir **stack; /* layers that have it, top first; references */
	unsigned n;
	struct un_listing *listing; /* complete, or NULL */
	atomic_uint asked;          /* layers asked for names since there is no listing */
	atomic_uint looked_up;      /* names, one by one, since there is one of many names */
	/*
	 * When the upper's time of access was last moved for somebody who listed it (monotonic seconds); 0: not
	 * since it was changed.
	 */
	atomic_uint accessed;
	/* Its upper is marked impure: is it? A listing that is under way; guarded by the inode's lock. */
	struct un_pure {
		uint64_t next; /* the position up to which nothing with an origin was seen */
		unsigned seq;  /* un_realdir.impure_seq at the beginning */
	} pure;
	bool dead;          /* removed */
	uint64_t salt; /* not 0: what is in it below is shown elsewhere, too, with numbers of its own */
	struct statx *last; /* dead: its attributes */
	/*
	 * A copy-up of something in it has moved its time of change, which nobody has to see: while the
	 * layer says .real, .shown is shown. Guarded by the inode's lock.
	 */
	struct un_hidden hidden;
};

enum un_xattr_state {
	UN_XATTR_UNKNOWN,
	UN_XATTR_NONE, /* none that the user could see */
	UN_XATTR_SOME,
};

/* Where the data of a metacopy file is; guarded by the inode's lock, freed when it is copied up. */
struct un_data {
	struct un_layer *layer;
	struct un_realdir *rdir; /* a reference; NULL: */
	char *rname;             /* GRefString */
	char *path;              /* not looked for yet, in the layers with data only */
	char *redirect;          /* the mark of the upper file, or NULL */
	uint64_t dev, rino;
	uint64_t blocks;  /* 512 bytes, as shown */
	bool lower_links; /* the lower file has several names */
	bool said;        /* that it is missing */
	bool filling;     /* is being copied: times as shown are those of ... */
	struct statx before;
	struct un_fd *io;
};

/*
 * A lower file with several names, which an index keeps together through copy-up
 * (fuse-unionfs-format(5), INDEX). One inode stands for all its names. Guarded by the inode's
 * lock but for the first three.
 */
struct un_index {
	struct un_inode *inode;
	uint64_t dev, ino;    /* of the lower file; ino 0: not known, then not in fs->links */
	unsigned known;       /* names in @inode's list */
	unsigned shown;       /* link count when it was last told */
	unsigned lower_nlink; /* 0: not known */
	int delta;            /* link count shown = the real one + delta */
	int told;             /* unresolved: the difference to the lower's count, ... */
	bool unresolved;      /* ... which has to be seen first; until then no count is final */
	bool published;       /* the upper file is in the index, ... */
	bool absolute;        /* the mark tells the count from the lower's, not from the upper's */
	struct un_hidden hidden; /* a time of change that came by an alias nobody asked for */
	char name[];          /* ... under this name */
};

#define UN_PROT_IMMUTABLE 1
#define UN_PROT_APPEND 2

struct un_inode {
	uint64_t id;
	uint64_t nlookup; /* what the kernel holds; guarded by the id shard's lock */
	atomic_uint refs; /* what we hold, and one for nlookup > 0 */
	uint8_t type;     /* DT_* */

	struct un_mutex lock;    /* all below, but for dirinfo */
	atomic_bool upper;       /* the real object is in the upper; never back */
	bool origin;             /* it carries an origin (upper) */
	bool copying;            /* a copy-up is under way; guarded by fs->copying */
	bool unlinked;           /* it has lost its last name */
	bool tmpfile;            /* it never had one */
	atomic_bool maybe_setid; /* mode may hold set-id bits */
	bool prot_known;         /* prot holds the protattr mark too */
	bool keyed;              /* in the table by real number */
	bool orphan;             /* has a link in the work directory, which does not count */
	bool covered;            /* a lower file that something is mounted on: shown as that */
	uint8_t prot;            /* UN_PROT_* */
	uint8_t xattrs;          /* enum un_xattr_state */
	atomic_uint
		mtime_set; /* when mtime was last set by hand (monotonic seconds), 0: written since */
	/*
	 * Changes of what the upper shows of it which fdatasync(2) does not commit, how many are on disk, and
	 * the last one that gave a name to what was the lower's (sync.c).
	 */
	atomic_uint published, committed, named;
	uint64_t ino;      /* as shown */
	uint64_t dev, rino; /* of the real object, or made up (ino.c) */
	uint64_t seen_ino;  /* of a lower file whose number is made up: what the layer said last */
	bool stand_in;      /* ino is in fs->stand_ins */
	struct un_name *names;

	/* Non-directories: where the real object is; rdir NULL if only the descriptor leads to it. */
	struct un_realdir *rdir;
	char *rname; /* GRefString */
	/* Open for reading or writing only if the object has its data, that is, !metacopy. */
	struct un_fd *io;
	atomic_bool metacopy; /* data is elsewhere: */
	struct un_data *data;
	struct un_index *ix; /* set before it is in any table, then fixed */

	struct un_dirinfo *d; /* directories */
};

/* ---- the file system ---------------------------------------------------------------------------- */

#define UN_SHARDS 16

struct un_shard {
	struct un_mutex lock;
	GHashTable *set;
};

struct un_fs {
	struct un_layers *layers;
	struct un_layer *upper; /* NULL: none */
	bool read_only;
	bool sync, sync_strict;
	bool revalidate;
	bool privileged; /* may give files away */
	bool any_uid;    /* ... or need not: what cannot be kept is not seen, or kept elsewhere */
	bool any_gid;
	bool override; /* owner and mode are in an xattr, and the real mode always lets us in */
	uid_t uid;     /* of the daemon's own files, as shown */
	gid_t gid;
	uid_t euid; /* the same, as stored */
	gid_t egid;
	gid_t *groups; /* of the daemon, besides egid */
	unsigned n_groups;
	const struct un_owners *owners; /* borrowed; NULL: what is stored is what is shown */
	int work;                       /* borrowed from layers */
	struct un_statkey {
		uint64_t dev, ino;
	} traps[2];                 /* upper root, WORK/work: not in a lower */
	struct un_realdir *workdir; /* the same, as a place where orphans are */
	bool redirect_follow, redirect_create;
	bool metacopy_follow, metacopy_create;
	enum un_digests digests;
	bool selinux;                /* the kernel has it */
	struct un_realdir *indexdir; /* NULL: no index */
	atomic_bool index_used;      /* may hold something */
	atomic_uint index_seq;       /* counts entries made */
	atomic_bool index_marked;    /* it is known whose it is */
	char *stage_prefix;
	atomic_uint_fast64_t stage_seq;

	struct un_fdcache *fds;
	struct un_whiteout_pool *whiteouts;
	struct un_inode *root;

	struct un_shard ids[UN_SHARDS];   /* inodes by id */
	struct un_shard names[UN_SHARDS]; /* struct un_name by (dir, name) */
	struct un_shard keys[UN_SHARDS];  /* upper non-directories by (dev, rino) */
	struct un_shard links[UN_SHARDS]; /* struct un_index by (dev, ino) of the lower file */
	atomic_uint_fast64_t next_id;
	atomic_uint_fast64_t n_inodes;
	atomic_uint_fast64_t n_freed; /* inodes, since their memory was last given back */
	uint64_t freed_seen;          /* that number, when un_fs_idle() last looked; its caller's */

	struct un_mutex tree;          /* parent and name of every realdir, and: */
	unsigned tree_changing;        /* renames under way on the layer, which are not in them yet */
	pthread_cond_t tree_settled;   /* with tree: one of those has come to its end */
	atomic_uint_fast64_t tree_seq; /* counts renames of real directories */
	struct un_mutex copying;       /* every inode's `copying` */
	pthread_cond_t copied;

	struct un_mutex ino_lock; /* what follows */
	uint64_t ino_devs[128];   /* devices in the order they were met */
	unsigned n_ino_devs;
	struct un_number_sieve ino_shown; /* src/core/ino.c */
	struct un_number_map ino_claimed; /* number shown -> own number of who claimed it */
	struct un_number_map ino_kept;    /* own number -> shown */
	struct un_number_map ino_salts;   /* of directories in ino_kept, where it is not 0 */
	GHashTable *stand_ins;            /* &inode->ino of upper objects whose number is made up */

	struct un_failures *failures; /* writeback.c */
	atomic_uint_fast64_t copyups, copied_bytes;
	struct un_said *said;       /* say.c */
	struct un_aliases *aliases; /* alias.c */
	void (*wake)(void *data);   /* un_fs_idle() is to be called */
	void *wake_data;
	un_stale_fn stale;
	void *stale_data;
};

/* A listing is given with attributes up to so many names; beyond, after so many were looked up. */
#define UN_ATTRS_FIRST 4096u
#define UN_ATTRS_WANTED 16u

/* ---- link.c ---------------------------------------------------------------------------------------- */

/* A nameless upper file has a name (again): from now on that leads to it. */
void un_inode_locate(struct un_fs *fs, struct un_inode *inode, struct un_realdir *rd,
		     const char *name);

/* ---- realdir.c ------------------------------------------------------------------------------------ */

/* @parent: a reference is taken. */
struct un_realdir *un_realdir_new(struct un_layer *l, struct un_realdir *parent, const char *name,
				  const struct statx *st);
struct un_realdir *un_realdir_ref(struct un_realdir *rd);
void un_realdir_put(struct un_fs *fs, struct un_realdir *rd);
/* A descriptor (O_PATH) of it; give back with un_fdcache_put(). -ESTALE: it is not there any more. */
int un_realdir_open(struct un_fs *fs, struct un_realdir *rd, struct un_fd **ret);
/*
 * Around a rename of real directories, which may take long: whoever finds the one state on the layer and
 * the other here can tell, and waits for un_tree_settled_locked(). Nobody else does: no lock is held between.
 */
void un_tree_changes(struct un_fs *fs);
void un_tree_settled_locked(struct un_fs *fs);
/*
 * It has been renamed on its layer; fs->tree is held. Returns what is left to be given back when the
 * lock is not held any more.
 */
struct un_realdir *un_realdir_moved_locked(struct un_fs *fs, struct un_realdir *rd,
					   struct un_realdir *parent, const char *name);
/* The merged directory as merge/ wants it; the caller holds ns. */
void un_dir_merge(struct un_fs *fs, struct un_inode *dir, struct un_merge_dir *ret);
/*
 * Is something mounted on one of its real directories, which is not entered; or, @top, on the topmost, so
 * that only a stand-in is shown? The inode's lock is taken.
 */
bool un_dir_is_mountpoint(struct un_inode *dir, bool top);
/* Its directory in the upper, or NULL. */
struct un_realdir *un_dir_upper(struct un_fs *fs, const struct un_inode *dir);
/* What is found at a place in the lower or the upper from now on. */
void un_realdir_set_redirect(struct un_fs *fs, struct un_realdir *rd, const char *redirect);
/* Let an upper directory be marked impure (an object with an origin is about to appear in it). */
int un_dir_mark_impure(struct un_fs *fs, struct un_realdir *rd, int dirfd);
/* Nothing with an origin is in @dir, whose ns is held for writing: its upper need not say so. */
void un_dir_mark_pure(struct un_fs *fs, struct un_inode *dir);
/* open() of a layer, once more after making room if there are no descriptors left. */
int un_open_retry(struct un_fs *fs, struct un_layer *l, int dirfd, const char *name, int flags,
		  mode_t mode);

/* ---- inode.c ---------------------------------------------------------------------------------------- */

void un_table_init(struct un_fs *fs);
void un_table_done(struct un_fs *fs);
/* One reference, in no table but that of the ids. */
struct un_inode *un_inode_new(struct un_fs *fs, uint8_t type);
struct un_inode *un_inode_ref(struct un_inode *inode);
/* A reference to the child known under the name, or NULL. */
struct un_inode *un_name_find(struct un_fs *fs, struct un_inode *dir, const char *name);
/*
 * Give @inode the name, unless somebody was faster: then returns a reference to that one, else NULL.
 * @replace: it takes the name over in any case.
 */
struct un_inode *un_name_add(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			     const char *name, bool replace);
/* Returns true if it was the last name. */
bool un_name_drop(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name);
/* A copy of one (directory reference, name), false if it has none. @name: NAME_MAX + 1 bytes. */
bool un_name_any(struct un_inode *inode, struct un_inode **dir, char *name);
struct un_inode *un_key_find(struct un_fs *fs, uint64_t dev, uint64_t rino);
/* What was just made: it takes the number over. */
void un_key_add(struct un_fs *fs, struct un_inode *inode);
/* What was found: NULL, or a reference to the inode that already stands for that file. */
struct un_inode *un_key_claim(struct un_fs *fs, struct un_inode *inode);
void un_key_drop(struct un_fs *fs, struct un_inode *inode);
/* The inode that stands for a lower file with several names, or NULL. */
struct un_inode *un_links_find(struct un_fs *fs, uint64_t dev, uint64_t ino);
/* @inode->ix is found from now on, or somebody was faster: then a reference to that one, else NULL. */
struct un_inode *un_links_claim(struct un_fs *fs, struct un_inode *inode);
void un_links_drop(struct un_fs *fs, struct un_inode *inode);

/* ---- ino.c ------------------------------------------------------------------------------------------- */

void un_ino_init(struct un_fs *fs);
void un_ino_done(struct un_fs *fs);
/*
 * The number shown for a real one of a layer, found at the place where it is by itself: unique over the
 * layers' file systems. @salt: of the directory it was found in, for what is in a lower.
 */
uint64_t un_ino_natural(struct un_fs *fs, uint64_t dev, uint64_t ino, uint64_t salt);
/* The same for what a listing of @rd tells, without looking for marks; what it knows of is kept. */
uint64_t un_ino_listed(struct un_fs *fs, const struct un_realdir *rd, uint64_t ino);
/*
 * What the upper non-directory @name in @rd (@dirfd) is to show, 0: its own (un_ino_own()); *ret_origin: it
 * carries an origin. @look: it may.
 */
uint64_t un_ino_of_upper(struct un_fs *fs, struct un_realdir *rd, int dirfd, const char *name,
			 const struct statx *st, bool look, bool *ret_origin);
/* Number and salt of the directory @inode that was found as @name in @dir; its stack is complete. */
void un_ino_of_dir(struct un_fs *fs, const struct un_inode *dir, const char *name,
		   const struct un_found *f, struct un_inode *inode);
/* The lower file an origin speaks of: as far as it is known, else zeros. */
struct un_origin;
void un_ino_of_origin(struct un_fs *fs, const struct un_origin *origin, uint64_t *ret_dev,
		      uint64_t *ret_ino, unsigned *ret_nlink);
/*
 * An upper object shows this number as long as it lives, wherever it is found: copied up, or moved;
 * until it is forgotten.
 */
void un_ino_keep(struct un_fs *fs, uint64_t dev, uint64_t rino, uint64_t shown);
void un_ino_keep_dir(struct un_fs *fs, struct un_inode *dir);
void un_ino_unkeep(struct un_fs *fs, uint64_t dev, uint64_t rino);

/* ---- stand-in.c ------------------------------------------------------------------------------------- */

/*
 * Where numbers do not last: a stand-in, a function of where the object is on the layer. Unique among what
 * is in lowers; in an upper, where things move, see un_ino_own().
 */
uint64_t un_stand_in(const struct un_realdir *dir, const char *name);
/* @inode is in the upper (dir NULL: nameless) and shows the number of its own object there. */
void un_ino_own(struct un_fs *fs, struct un_inode *inode, const struct un_realdir *dir,
		const char *name);
/*
 * Such a directory's number is also what those of its names are made of; un_realdir_new() cannot know it.
 */
void un_ino_own_dir(struct un_fs *fs, struct un_inode *dir);
/* It is being freed. */
void un_ino_release(struct un_fs *fs, struct un_inode *inode);
/* Is what @st tells of, found where it should be and of the kind it should be, the object (dev, ino)? */
bool un_is_same(struct un_layer *l, const struct statx *st, uint64_t dev, uint64_t ino);

/* ---- lookup.c --------------------------------------------------------------------------------------- */

/* As un_lookup(), ns of @dir is held (for reading at least). @st may be NULL. */
int un_lookup_locked(struct un_fs *fs, struct un_inode *dir, const char *name,
		     struct un_inode **ret, struct statx *st);
/* What is at a name, as far as changing it needs to know. ns is held. */
struct un_state {
	bool exists;   /* shown */
	bool in_upper; /* the upper has the object */
	bool whiteout; /* the upper has a whiteout */
	bool lower;    /* something below would show through */
	uint8_t type;
};
int un_name_state(struct un_fs *fs, struct un_inode *dir, const char *name, bool want_lower,
		  struct un_state *ret);
/* Make sure there is a complete listing; ns is held for writing. */
int un_dir_list_locked(struct un_fs *fs, struct un_inode *dir);
/* The same for somebody who lists it. */
int un_dir_read_locked(struct un_fs *fs, struct un_inode *dir);
/* Tell the listing, if there is one, what is at the name now. ns is held for writing. */
void un_dir_note(struct un_fs *fs, struct un_inode *dir, const char *name,
		 const struct un_state *now, uint64_t ino);
bool un_name_too_long(const char *name);
/* A name that the upper's format keeps for itself (an upper without xattrs). */
bool un_name_reserved(struct un_fs *fs, const char *name);

/* ---- attr.c ----------------------------------------------------------------------------------------- */

int un_getattr_locked(struct un_fs *fs, struct un_inode *inode, struct statx *st);
/* Number and link count as shown; @inode's lock is held, or it is new. */
void un_attr_adjust(struct un_fs *fs, struct un_inode *inode, struct statx *st);
/*
 * A copy-up has changed @dir on the layer, which said @before and says @after, times but that of change
 * restored: go on showing the time of before. @dir's lock is not held.
 */
void un_attr_hide_change(struct un_inode *dir, const struct statx *before,
			 const struct statx *after);
/* The same for an indexed file that got a name nobody asked for; its inode's lock is held. */
void un_attr_hide_alias_locked(struct un_index *ix, const struct statx *before,
			       const struct statx *after);
/* UN_PROT_* bits in force, or -errno. */
int un_prot(struct un_fs *fs, struct un_inode *inode);
/* May names in the directory change? @remove: taking one away. 0 or -EPERM, ... */
int un_prot_dir(struct un_fs *fs, struct un_inode *dir, bool remove);
int un_prot_victim(struct un_fs *fs, struct un_inode *inode);
/* Clear set-id bits as a change of data by @cred does. 1 cleared, 0 nothing to do, or -errno. */
int un_kill_setid(struct un_fs *fs, struct un_inode *inode, const struct un_cred *cred);

/*
 * Where to reach the real object by one system call: (dirfd, name), name "" for an open descriptor.
 * The inode's lock is held until un_at_done().
 */
struct un_at {
	struct un_layer *layer;
	int dirfd;
	const char *name;
	struct un_fd *pin;
	bool hollow; /* a mountpoint of the layer: not to be touched but by stat */
};
int un_at_locked(struct un_fs *fs, struct un_inode *inode, struct un_at *ret);
void un_at_done(struct un_fs *fs, struct un_at *at);

/* ---- copyup.c ------------------------------------------------------------------------------------- */

/* Nothing is cut off: copy all data. */
#define UN_COPY_ALL ((off_t)-1)
/* Data is not about to change: it may stay where it is (metacopy). */
#define UN_COPY_META ((off_t)-2)
/*
 * The object, and its parents before it, are in the upper afterwards; unless UN_COPY_META its data
 * as well. @size: it appears with that size, changed now; 1 if so, 0 if it was in the upper before.
 * -EROFS, -EPERM (ownership that cannot be kept), -ENOSPC, ...: then nothing of it is visible.
 */
int un_copyup(struct un_fs *fs, struct un_inode *inode, off_t size);
/* The same for a file of several names: this one is to be in the upper. */
int un_copyup_name(struct un_fs *fs, struct un_inode *inode, off_t size, struct un_inode *dir,
		   const char *name);

/* ---- data.c ----------------------------------------------------------------------------------------- */

/* From a lookup's result; NULL if the object has its data itself. */
struct un_data *un_data_new(const struct un_found *f, const char *name);
void un_data_free(struct un_fs *fs, struct un_data *data);
/* The real file with the data, open for reading; @inode's lock is held. -EIO: it is not there. */
int un_data_get_locked(struct un_fs *fs, struct un_inode *inode, struct un_fd **ret);
/*
 * The value of a metacopy mark that tells the digest fs-verity has of the open file @fd: its length, or
 * -errno of asking (-ENODATA, -ENOTTY, -EOPNOTSUPP: it has none). @ret: UN_META_MAX bytes.
 */
#define UN_META_MAX (4 + 64)
ssize_t un_data_digest(int fd, uint8_t *ret);
/* Copy the data of a metacopy file up; @size as in un_copyup(). Its `copying` is held. */
int un_data_fill(struct un_fs *fs, struct un_inode *inode, off_t size);

/* ---- redirect.c ------------------------------------------------------------------------------------- */

/*
 * Write where the layers below have @inode, which is in the upper as @name in @dir: before it goes to
 * another name in the same directory (@same_dir), or anywhere. 0, or -EXDEV: it cannot be.
 */
int un_redirect_set(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		    const char *name, bool same_dir);

/* Could un_redirect_set() write it? Before anything is changed. */
bool un_redirect_fits(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		      const char *name, bool same_dir);

/* ---- index.c ---------------------------------------------------------------------------------------- */

/* Is a lower object of this kind kept together by the index? */
bool un_index_wanted(struct un_fs *fs, const struct un_layer *l, const struct statx *st);
/*
 * For a lower file: *ret, in no table, or NULL if it has no handle. 0, or -errno if that cannot be found
 * out while the index may have the file: then nobody knows what it contains.
 */
int un_index_new(struct un_fs *fs, struct un_layer *l, int dirfd, const char *name,
		 const struct statx *st, struct un_index **ret);
/*
 * One name of a lower file with several is about to go: the index can tell how many are left only of what
 * it has. Copied up for that are metadata; where others are to read the index, who may not read metacopy
 * files, a page of data as well. A file whose owner it cannot keep is hidden all the same, and its count
 * is right for as long as this mount knows it.
 */
int un_index_victim(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		    const char *name);
/* What the index has for @ix: 1 and @st, 0, or -errno (-EIO: something that does not belong). */
int un_index_look(struct un_fs *fs, const struct un_index *ix, const struct statx *lower,
		  struct statx *st);
/* Has the file in the index its data below (1, 0, -errno)? What redirect does it carry (owned, or NULL)? */
int un_index_is_metacopy(struct un_fs *fs, const struct un_index *ix);
char *un_index_redirect(struct un_fs *fs, const struct un_index *ix);
/* @inode (new, not shared yet) is the upper file in the index: its place, its link count. */
void un_index_attach(struct un_fs *fs, struct un_inode *inode, struct un_index *ix,
		     const struct statx *st);
/* The upper file (dirfd, name) has an origin and several names: if it is in the index, so be it. */
void un_index_of_upper(struct un_fs *fs, struct un_inode *inode, int dirfd, const char *name,
		       const struct statx *st);
/*
 * The name is in a lower only, its inode in the index: give it the name in the upper too. ns of @dir is
 * held for writing, its upper directory is @dirfd. @quiet: nobody asked for it, so no time of change is
 * seen to move. -ESTALE: the name is taken; -ENOENT: the index has lost the file.
 */
int un_index_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, int dirfd,
		   const char *name, bool quiet);
/*
 * The lower's count has been seen: what a mark said can be understood; names that came or went below
 * behind our back are counted.
 */
void un_index_resolve(struct un_fs *fs, struct un_inode *inode, unsigned lower_nlink);
/* A name of it was looked up: the count is at least that of the names known. */
void un_index_named(struct un_fs *fs, struct un_inode *inode);
/* Before a name in the upper comes or goes: let the count be told from that of the upper. */
int un_index_relative_locked(struct un_fs *fs, struct un_inode *inode);
/* A name of it has gone from the upper: with the last one the index lets go of it. */
void un_index_unlinked_locked(struct un_fs *fs, struct un_inode *inode);

/* ---- alias.c ---------------------------------------------------------------------------------------- */

void un_aliases_init(struct un_fs *fs);
void un_aliases_done(struct un_fs *fs);
/* The name, of a file in the index, may be in a lower only: soon it is in the upper. Any lock may be held. */
void un_alias_later(struct un_fs *fs, struct un_inode *dir, const char *name);
/*
 * The name is in the upper afterwards as well, if its inode is in the index. -EAGAIN: it is not the name
 * of @inode (any more). @dir must be in the upper. No lock is held.
 */
int un_alias(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir, const char *name,
	     bool quiet);
/* All names known of a file that has come into the index: later, or if they are few @now. No lock is held. */
void un_alias_known(struct un_fs *fs, struct un_inode *inode, bool now);
/* Some of those asked for later; true if there are more. */
bool un_alias_idle(struct un_fs *fs);

/* ---- owner.c ---------------------------------------------------------------------------------------- */

/* Decorates the layers if @o (or NULL) wishes so. 0, or -1 and a sentence. */
int un_owners_init(struct un_fs *fs, const struct un_owners *o, char **ret_err);
/* Whom files made by @cred belong to, as stored. */
struct un_cred un_cred_stored(struct un_fs *fs, const struct un_cred *cred);
/* Can such ids be stored (-EOVERFLOW) by this daemon (-EPERM)? */
int un_may_own(struct un_fs *fs, uid_t uid, gid_t gid);
/* For a setattr: no more ids than those it sets. */
int un_may_chown(struct un_fs *fs, const struct un_setattr *a);
/* The owner of the new (dirfd, name) in the upper, in a directory with the attributes @parent. */
int un_own_new(struct un_fs *fs, int dirfd, const char *name, int parent_fd,
	       const struct statx *parent, const struct un_cred *cred);
/* The owner of (from_dir, from_name) for (dirfd, name) in the upper; @st: of the former, as shown. */
int un_own_as(struct un_fs *fs, struct un_layer *from, int from_dir, const char *from_name,
	      const struct statx *st, int dirfd, const char *name);

/* ---- stage.c ---------------------------------------------------------------------------------------- */

#define UN_STAGE_NAME 64
void un_stage_name(struct un_fs *fs, char ret[UN_STAGE_NAME]);
/* Remove what a directory that shows nothing holds (whiteouts and the like). */
int un_stage_empty(struct un_fs *fs, int dirfd, const char *name);
/* Remove a staged directory with what it holds. */
void un_stage_discard(struct un_fs *fs, const char *name);
/*
 * Make the object in @dirfd, owned by @cred, with the kernel's own rules for umask, default ACL and
 * set-gid. Returns a descriptor for regular files (opened O_RDWR), else 0; -EACCES: the directory
 * does not let @cred in by itself, stage it.
 */
int un_make_direct(struct un_fs *fs, int dirfd, const char *name, const struct un_create *what,
		   const struct un_cred *cred);
/*
 * The same in the work directory, inheriting from the upper directory @parent. Regular files are
 * opened. The caller publishes or discards @name.
 */
int un_make_staged(struct un_fs *fs, int parent, const char *name, const struct un_create *what,
		   const struct un_cred *cred);
/* Staging by the daemon itself: the umask of the last caller does not apply. */
void un_stage_umask(void);
/* A mode that was lifted comes down again; tried twice, and logged if it does not. */
void un_stage_mode(struct un_fs *fs, int dirfd, const char *name, mode_t mode);
/* atime and mtime of @st. */
int un_stage_times(struct un_fs *fs, int dirfd, const char *name, const struct statx *st);
/* All that a user would see of one object to a staged one; with @caps security.capability too. */
int un_stage_copy_xattrs(struct un_fs *fs, struct un_layer *from, int from_dir,
			 const char *from_name, int dir, const char *name, bool caps);
/*
 * Run @fn; if a plain user's daemon is refused (-EACCES) because the upper directory (dirfd, name) has
 * a mode that keeps its own owner out, run it again with that mode lifted for an instant. A kill in
 * that instant leaves the mode lifted: the last rung, for read-only directories only.
 */
int un_lifted(struct un_fs *fs, int dirfd, const char *name, int (*fn)(void *data), void *data);
/* un_mark_set() on an object of the upper, lifted if need be; @value NULL: un_mark_clear(). */
int un_mark_lifted(struct un_fs *fs, int dirfd, const char *name, enum un_mark mark,
		   const void *value, size_t size);
int un_mark_dir(struct un_fs *fs, int dirfd, const char *name, enum un_mark mark,
		const char *value);
/*
 * rename() in the upper of a staged @name from work (a directory if @mode says so, with that mode) to
 * (dirfd, to): a plain user's read-only directory cannot be moved as it is.
 */
int un_publish_rename(struct un_fs *fs, const char *name, mode_t mode, int dirfd, const char *to,
		      unsigned flags);
/*
 * Set-gid files: made with the caller's ids alone they would lose the bit where the caller is in the
 * group only by a supplementary one, which the daemon cannot take on.
 */
bool un_make_needs_stage(struct un_fs *fs, const struct un_create *what,
			 const struct un_cred *cred);
/* O_TMPFILE in the upper directory @dirfd, owned by @cred; a descriptor or -errno. */
int un_make_tmpfile(struct un_fs *fs, int dirfd, const struct un_create *what,
		    const struct un_cred *cred);

/* ---- file.c --------------------------------------------------------------------------------------- */

/*
 * A descriptor of the real file's data with UN_FD_READ and/or UN_FD_WRITE; give back with put. To write,
 * the file must have been copied up.
 */
int un_file_get(struct un_fs *fs, struct un_inode *inode, unsigned flags, struct un_fd **ret);

/* The object itself, not remembered anywhere, whoever has its data. */
int un_file_open(struct un_fs *fs, struct un_inode *inode, unsigned flags);

/* ---- remove.c ------------------------------------------------------------------------------------- */

/*
 * @inode (non-directory, in the upper; its lock is held) is about to lose a name: keep hold of it, in
 * case it is open. *ret_orphan: it must be moved to this name in the work directory instead of being
 * removed, or "". un_unhold_locked(): it has not happened.
 */
int un_hold_locked(struct un_fs *fs, struct un_inode *inode, char ret_orphan[UN_STAGE_NAME]);
void un_unhold_locked(struct un_fs *fs, struct un_inode *inode);
/* A descriptor that stays open leads to it. 0, or -ENFILE: there is none to spare. */
int un_pin_locked(struct un_fs *fs, struct un_inode *inode);
/* No names below it are left: put (dirfd, name), an upper directory full of whiteouts, out of sight. */
int un_clear_dir(struct un_fs *fs, int dirfd, const char *name, bool lower);
/* The name is gone from @dir: bookkeeping for the inode. @orphan: name in work, or "". */
void un_note_unlinked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		      const char *name);
/*
 * To be called with @inode's lock held from before the name goes on the layer: where is the file
 * without the name (dir, name)? @orphan: under this one in work, or "".
 */
void un_relocate_locked(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
			const char *name, const char *orphan);
/* The sole descriptor of a nameless file cannot be pinned: give the file a name in work. */
int un_orphan_nameless(struct un_fs *fs, struct un_inode *inode);
/* A directory is gone; @last: its attributes before. Its lock is held from before that on. */
void un_dead_locked(struct un_inode *inode, const struct statx *last);
/* 1: shows no names; 0; -errno. ns of @dir is held for writing. */
int un_dir_empty_locked(struct un_fs *fs, struct un_inode *dir);

static inline uint32_t un_monotonic_seconds(void)
{
	return (uint32_t)(g_get_monotonic_time() / G_USEC_PER_SEC) + 1;
}

static inline void un_ns_read(struct un_inode *dir)
{
	pthread_rwlock_rdlock(&dir->d->ns);
}

static inline void un_ns_write(struct un_inode *dir)
{
	pthread_rwlock_wrlock(&dir->d->ns);
}

static inline void un_ns_unlock(struct un_inode *dir)
{
	pthread_rwlock_unlock(&dir->d->ns);
}

/* Several directories at once, the same one twice or NULL allowed; at most 3. */
struct un_ns_set {
	struct un_inode *dirs[3];
	unsigned n;
};
static inline void un_ns_write_set(struct un_ns_set *set, struct un_inode *a, struct un_inode *b,
				   struct un_inode *c)
{
	struct un_inode *all[3] = { a, b, c };

	set->n = 0;
	for (int i = 0; i < 3; i++) {
		unsigned at = set->n;

		if (!all[i] || (i > 0 && all[i] == a) || (i > 1 && all[i] == b))
			continue;
		for (; at > 0 && set->dirs[at - 1]->id > all[i]->id; at--)
			set->dirs[at] = set->dirs[at - 1];
		set->dirs[at] = all[i];
		set->n++;
	}
	for (unsigned i = 0; i < set->n; i++)
		un_ns_write(set->dirs[i]);
}

static inline void un_ns_unlock_set(struct un_ns_set *set)
{
	for (unsigned i = set->n; i-- > 0;)
		un_ns_unlock(set->dirs[i]);
}

/* All that makes a change of names in @dir possible: 0, or -EROFS, -EPERM, -ENOENT, ... */
int un_dir_prepare(struct un_fs *fs, struct un_inode *dir, bool remove);
