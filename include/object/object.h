/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live file system: objects with lifetimes, and their locks. What can be done with them is in the
 * headers named after the files.
 * Their locks and the order of these: lock.h.
 */
#pragma once

#include "layer/choices.h"
#include "object/types.h"
#include "util/lock.h"
#include "util/number-map.h"

#include <dirent.h>
#include <glib.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* The lock of some inode, some directory's names, ... (util/lock.h). */
UN_ROLE(un_inode_role);
UN_ROLE(un_ns_role);
UN_ROLE(un_tree_role);
UN_ROLE(un_copying_role);
UN_ROLE(un_inos_role);
UN_ROLE(un_shard_role);
UN_ROLE(un_children_role);

struct un_fdcache;
struct un_layer;
struct un_layers;
struct un_listing;
struct un_live_budget;
struct un_missing;
struct un_missing_table;
struct un_owners;
struct un_watch;
struct un_whiteout_pool;

/* ---- a directory on a layer ----------------------------------------------------------------------- */

struct un_realdir {
	struct un_layer *layer;
	atomic_uint refs;
	/*
	 * To check the directory when it is opened again; ino: a stand-in where numbers do not
	 * last.
	 */
	uint64_t dev, ino;
	struct un_fd *fd;  /* home in the fd cache; of a layer's root: its own, never evicted */
	/* A reference; NULL: the layer's root. */
	struct un_realdir *parent UN_GUARDED_BY(un_tree_role);
	char *name UN_GUARDED_BY(un_tree_role);
	unsigned moving
		UN_GUARDED_BY(un_tree_role); /* renames of it that are under way on the layer */
	/* In the upper: the value of its redirect mark, or NULL. */
	char *redirect UN_GUARDED_BY(un_tree_role);
	bool holds;                /* the layer stays open for it (un_layer_hold()) */
	bool is_root;              /* a layer's root, or WORK/work, WORK/index: no parent, ever */
	bool hollow;               /* a mountpoint inside the layer: not entered, shown empty */
	bool opaque;               /* carries an opaque mark */
	bool xwhiteouts;           /* marked opaque=x */
	atomic_bool impure;        /* upper: may hold objects with an origin */
	atomic_uint impure_seq;    /* counted up before one appears */
};

/* ---- merged inodes ------------------------------------------------------------------------------ */

struct un_name {
	struct un_inode *dir; /* a reference */
	struct un_inode *inode;
	struct un_name *next UN_GUARDED_BY(un_inode_role); /* of the same inode */
	struct un_name *sibling UN_GUARDED_BY(un_children_role);     /* in the same directory */
	struct un_name **sibling_at UN_GUARDED_BY(un_children_role); /* what points to this one */
	atomic_uint stamp; /* un_live_stamp() of the directory when it was last seen to be so */
	/* The name is gone from the layer, and about to be dropped here. */
	bool gone UN_GUARDED_BY(un_inode_role);
	char name[];
};

/* A ctime that no user is to see: while the layer says .real and .mtime, .shown is shown. */
struct un_hidden {
	struct statx_timestamp real, shown, mtime;
};

/* Times that are shown while changes of a directory are under way that are to be hidden: @n of them. */
struct un_hiding {
	unsigned n;
	struct statx_timestamp ctime, mtime;
};

struct un_dirinfo {
	pthread_rwlock_t ns;       /* names in the directory, and what follows */
	unsigned writes;           /* how often it was taken for writing */
	struct un_realdir **stack; /* layers that have it, top first; references */
	unsigned n;
	struct un_listing *listing UN_GUARDED_BY(un_ns_role); /* complete, or NULL */
	unsigned listing_stamp UN_GUARDED_BY(un_ns_role); /* un_live_stamp() before it was read */
	atomic_uint changed; /* how often others changed what is in it (live.c) */
	atomic_int watched;  /* enum un_watched */
	atomic_bool watching; /* somebody is about to watch it */
	atomic_uint
		stack_seen; /* un_fs.stacks when the stack was last seen to be what its path leads to */
	atomic_uint tried;  /* when that was last tried; monotonic seconds; 0: not yet */
	atomic_uint used;   /* when a request last needed it; seconds of CLOCK_MONOTONIC_COARSE */
	guint budget_at;    /* guarded by the lock in live-budget.c */
	struct un_mutex children_lock;
	struct un_name *
		children UN_GUARDED_BY(un_children_role); /* all names that are known in it */
	struct un_missing *missing; /* names told as missing; guarded by the lock in missing.c */
	atomic_uint n_missing;      /* of them */
	atomic_bool blind; /* a redirect from here leads by a directory that cannot be watched */
	atomic_uint asked;          /* questions for names to layers, while there is no listing */
	atomic_uint looked_up;      /* names looked up one by one, with a very long listing */
	atomic_bool bare; /* the kernel may keep a listing in which some names had no attributes */
	/*
	 * When the upper's time of access was last moved for somebody who listed it (monotonic
	 * seconds); 0: not since the directory was changed.
	 */
	atomic_uint accessed;
	/*
	 * How far a listing has got that may prove a directory marked impure to be pure
	 * (un_readdir()).
	 */
	struct un_pure {
		uint64_t next; /* the position up to which nothing with an origin was seen */
		unsigned seq;  /* un_realdir.impure_seq at the beginning */
	} pure UN_GUARDED_BY(un_inode_role);
	bool dead;          /* removed */
	uint64_t salt; /* not 0: its lower objects show other numbers than their own */
	struct statx *last; /* of a dead directory: its last attributes */
	/* A copy-up of an object in it has moved its ctime, which no user is to see. */
	struct un_hidden hidden UN_GUARDED_BY(un_inode_role);
	struct un_hiding hiding UN_GUARDED_BY(un_inode_role);
};

/* Are the real directories of a merged one watched for changes by others? */
enum un_watched {
	UN_WATCHED_NOT_YET, /* or not all of them any more */
	UN_WATCHED,
	UN_WATCHED_TIMED, /* they cannot be: what is known of it is true for a second */
};

enum un_xattr_state {
	UN_XATTR_UNKNOWN,
	UN_XATTR_NONE, /* none that the user could see */
	UN_XATTR_SOME,
};

/* Where the data of a metacopy file is; guarded by the inode's lock, freed when it is copied up. */
struct un_data {
	struct un_layer *layer;
	struct un_realdir *rdir; /* where the file with the data is, a reference; NULL: at `path` */
	char *rname;             /* its name there; GRefString */
	char *path;              /* not looked for yet; a path in the data-only layers */
	char *redirect;          /* the redirect mark of the upper file, or NULL */
	uint64_t dev, rino;
	uint64_t blocks;  /* shown, of 512 bytes */
	uint64_t size;    /* of the file with the data, and ... */
	struct statx_timestamp mtime; /* ... when it was written to, as found */
	bool lower_links; /* the lower file has several names */
	bool said;        /* the log was told that the data is missing */
	bool filling;     /* the data is being copied up: attributes shown are ... */
	struct statx before; /* ... these */
	struct un_fd *io;
};

/*
 * A lower file with several names, which an index keeps together through copy-up
 * (fuse-unionfs-format(5), INDEX). One inode stands for all its names.
 */
struct un_index {
	struct un_inode *inode;
	uint64_t dev, ino;    /* of the lower file; ino 0: not known, then not in fs->links */
	unsigned known UN_GUARDED_BY(un_inode_role);       /* names in @inode's list */
	unsigned shown UN_GUARDED_BY(un_inode_role);       /* link count that was shown last */
	unsigned lower_nlink UN_GUARDED_BY(un_inode_role); /* 0: not known */
	int delta UN_GUARDED_BY(un_inode_role);            /* link count shown = the real one + delta */
	/* With unresolved: the n of a mark "L+n", which is relative to the lower's count. */
	int told UN_GUARDED_BY(un_inode_role);
	/* The lower's count has to be seen first; until then no count is final. */
	bool unresolved UN_GUARDED_BY(un_inode_role);
	/* The upper file is in the index, under `name`. */
	bool published UN_GUARDED_BY(un_inode_role);
	/* The nlink mark is "L+n", relative to the lower's count, not "U+n", to the upper's. */
	bool absolute UN_GUARDED_BY(un_inode_role);
	/* A ctime that moved by an alias nobody asked for. */
	struct un_hidden hidden UN_GUARDED_BY(un_inode_role);
	char name[]; /* of its entry in the index: the origin in hexadecimal */
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
	bool copying UN_GUARDED_BY(un_copying_role);            /* a copy-up is under way */
	bool unlinked UN_GUARDED_BY(un_inode_role);           /* it has lost its last name */
	bool gone UN_GUARDED_BY(un_inode_role); /* the real object has lost its last one */
	bool tmpfile UN_GUARDED_BY(un_inode_role);            /* it never had one */
	atomic_bool told; /* the kernel has its attributes, and no reason to ask again (node.h) */
	atomic_bool timed;   /* it was found in a directory that is not watched */
	atomic_bool changed; /* by others: xattrs and prot are to be asked again */
	/* Others changed its own marks, or what a redirect leads to: is it still what its name means? */
	atomic_bool doubted;
	unsigned all_seen
		UN_GUARDED_BY(un_inode_role); /* un_fs.all_changed when they were last asked */
	uint32_t settled UN_GUARDED_BY(un_inode_role); /* when; monotonic seconds */
	bool prot_again
		UN_GUARDED_BY(un_inode_role); /* others changed it: ask for prot once more */
	atomic_bool maybe_setid; /* mode may hold set-id bits */
	bool prot_known UN_GUARDED_BY(un_inode_role);         /* prot holds the protattr mark too */
	bool keyed;              /* it is in fs->keys */
	/* It is reached by a link in the work directory, which nlink as shown does not count. */
	bool orphan UN_GUARDED_BY(un_inode_role);
	/* A lower file that something is mounted on: that is shown instead. */
	bool covered;
	uint8_t prot UN_GUARDED_BY(un_inode_role);            /* UN_PROT_* */
	atomic_uchar xattrs; /* enum un_xattr_state; a copy-up asks without the lock */
	atomic_uint
		mtime_set; /* when mtime was last set by hand (monotonic seconds), 0: written since */
	/*
	 * For sync.c: published counts changes in the upper that fdatasync(2) does not commit;
	 * committed is the count up to which they are on disk; named, the count when it last got a
	 * name in the upper.
	 */
	atomic_uint published, committed, named;
	atomic_uint in_hand; /* requests for its data that are being served (un_inode_in_hand()) */
	/* Passthrough (union/pass.c): how many have it open for writing so. */
	atomic_uint pass_writers;
	atomic_bool
		passed; /* it was open so: pages that the kernel keeps of it here may be older */
	atomic_bool
		pass_mapped; /* for reading and writing: it may be mapped, and written, ever since */
	atomic_bool
		pass_missed; /* since somebody has it so: by whom it is written to is not known */
	struct un_kept *kept UN_GUARDED_BY(un_inode_role); /* union/mtime.c, or NULL */
	uint64_t ino;      /* as shown */
	uint64_t dev, rino; /* of the real object, or made up (ino.c) */
	/* Of a lower file with a stand-in: the number that the layer told last. */
	uint64_t born; /* when the real object was made; 0: not known */
	uint64_t seen_ino UN_GUARDED_BY(un_inode_role);
	bool stand_in;      /* ino is in fs->stand_ins */
	struct un_name *names UN_GUARDED_BY(un_inode_role);
	atomic_uint n_names; /* of them, for who does not hold the lock */

	/* Non-directories: where the real object is; rdir NULL if only the descriptor leads to it. */
	struct un_realdir *rdir UN_GUARDED_BY(un_inode_role);
	char *rname UN_GUARDED_BY(un_inode_role); /* GRefString */
	/* Open for reading or writing only if the object has its data, that is, !metacopy. */
	struct un_fd *io;
	atomic_bool metacopy; /* its data is in a lower: */
	struct un_data *data UN_GUARDED_BY(un_inode_role);
	struct un_index *ix; /* set before it is in any table, then fixed */

	struct un_dirinfo *d; /* directories */
};

/* ---- the file system ---------------------------------------------------------------------------- */

#define UN_SHARDS 16

struct un_shard {
	struct un_mutex lock;
	GHashTable *set UN_GUARDED_BY(un_shard_role);
};

struct un_fs {
	struct un_layers *layers;
	struct un_layer *upper; /* NULL: none */
	bool read_only;
	bool sync, sync_strict;
	bool writeback; /* the kernel writes what is behind a file's end at any time */
	bool revalidate;
	atomic_bool removing_lower; /* no metacopy file is made */
	atomic_uint making_meta;    /* who is about to make one, before he has looked at that */
	bool live;               /* layers may change while they are mounted */
	struct un_watch *watch;  /* NULL: that cannot be told, if so */
	struct un_followed *followed; /* follow.c; NULL with watch */
	atomic_uint all_changed; /* how often anything may have changed */
	atomic_uint live_seq;    /* counts changes by others */
	atomic_uint pass_writers; /* of all inodes */
	atomic_uint stacks;      /* how often a directory may have got another stack (refresh.c) */
	atomic_uint timed_dirs;  /* known for a second only, as they cannot be watched */
	struct un_live_budget *budget;
	struct un_missing_table *missing; /* NULL: none is remembered */
	bool gives_up;                    /* directories may lose their watch to others */
	atomic_uint given_up;             /* how often that was so */
	atomic_uint lost;                 /* how often events were lost */
	void (*freeing)(struct un_fs *fs, struct un_inode *inode); /* live.c, or NULL */
	un_change_fn change;
	void *change_data;
	bool privileged; /* the daemon may give files away */
	bool any_uid;    /* ... or need not: all show one owner, or owners are kept in an xattr */
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
	} traps[2];                 /* upper root, WORK/work: ELOOP if seen through a lower */
	struct un_realdir *workdir; /* WORK/work, as the directory that orphans are in */
	bool redirect_follow, redirect_create;
	bool metacopy_follow, metacopy_create;
	enum un_verity verity;
	bool selinux;                /* the kernel has it */
	struct un_realdir *indexdir; /* NULL: no index */
	atomic_bool index_used;      /* the index may have entries */
	atomic_uint index_seq;       /* counts entries made in it */
	atomic_bool index_marked;    /* marks say which upper and lower it belongs to */
	char *stage_prefix;
	atomic_uint_fast64_t stage_seq;

	struct un_mutex
		restacking; /* one change of the lowers at a time (union/lowers.c); the outermost lock of all */

	struct un_fdcache *fds;
	struct un_whiteout_pool *whiteouts;
	struct un_inode *root;

	struct un_shard ids[UN_SHARDS];   /* inodes by id */
	struct un_shard names[UN_SHARDS]; /* struct un_name by (dir, name) */
	struct un_shard keys[UN_SHARDS];  /* upper non-directories by (dev, rino) */
	struct un_shard links[UN_SHARDS]; /* struct un_index by (dev, ino) of the lower file */
	atomic_uint_fast64_t next_id;
	atomic_uint_fast64_t n_inodes;
	atomic_uint_fast64_t n_freed; /* inodes, since memory was last given back to the system */
	uint64_t freed_seen;          /* n_freed when un_fs_idle() last looked; its caller's */

	struct un_mutex tree;          /* parent and name of every realdir, and which are moving */
	pthread_cond_t tree_settled;   /* with tree: one of them does not move any more */
	atomic_uint_fast64_t tree_seq; /* counts renames of real directories */
	struct un_mutex copying;       /* every inode's `copying` */
	pthread_cond_t copied;

	struct un_mutex ino_lock; /* what follows */
	uint64_t ino_devs[128] UN_GUARDED_BY(un_inos_role);   /* devices in the order they were met */
	unsigned n_ino_devs UN_GUARDED_BY(un_inos_role);
	struct un_number_sieve ino_shown UN_GUARDED_BY(un_inos_role); /* object/ino.c */
	/* Number shown -> own number of the object that claimed it. */
	struct un_number_map ino_claimed UN_GUARDED_BY(un_inos_role);
	/* Own number of an object -> number that it shows. */
	struct un_number_map ino_kept UN_GUARDED_BY(un_inos_role);
	/* Own number of a directory in ino_kept -> its salt, if that is not 0. */
	struct un_number_map ino_salts UN_GUARDED_BY(un_inos_role);
	/* &inode->ino of upper objects that show a stand-in. */
	GHashTable *stand_ins UN_GUARDED_BY(un_inos_role);

	struct un_failures *failures; /* writeback.c */
	atomic_uint_fast64_t copyups, copied_bytes;
	struct un_said *said;       /* say.c */
	struct un_aliases *aliases; /* alias.c */
	void (*wake)(void *data);   /* un_fs_idle() is to be called */
	void *wake_data;
	struct un_later_jobs *later; /* later.c */
	un_run_fn run;               /* its thread; or NULL */
	void *run_data;
	un_stale_fn stale;
	void *stale_data;
};
