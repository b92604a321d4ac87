/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A layer: one directory tree taking part in the union, seen through descriptors. Index 0 is the
 * upper (writable), 1..n are the lowers from top to bottom.
 *
 * Everything anyone does to a layer goes through its operation table, so that a decorator can trace
 * it (src/layer/layer-trace.c) or make the Nth call fail (tests/lib/layer-fault.c).
 *
 * A name is always ONE component, relative to a directory descriptor of the layer (one with a slash in
 * it, or "..", is -EINVAL); "" means the descriptor itself. Symlinks are never followed. Sub-mounts are
 * never entered: in a layer that is not a private clone of its mount a name that is a mountpoint stats
 * with STATX_ATTR_MOUNT_ROOT set in stx_attributes, and opening it fails with -EXDEV. But a file of a
 * lower cannot lead anywhere: it is shown as the file that covers it (UN_STATX_COVERED), and opened for
 * reading, unless that lies in our own mount.
 *
 * All functions return 0, a count or a descriptor (O_CLOEXEC, owned by the caller), or -errno. Where
 * descriptors are wanting, the union gives some back and the call is tried again (util/fd.h); what is left of
 * it is -ENFILE, never -EMFILE.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

struct file_handle;
struct statvfs;
struct un_layer;

/* What every stat of a layer asks for. */
#define UN_STATX_MASK (STATX_BASIC_STATS | STATX_BTIME)

struct un_layer_ops {
	/* Asking. */
	int (*open)(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode);
	int (*stat)(struct un_layer *l, int dirfd, const char *name, struct statx *ret);
	/*
	 * Is there @name in the directory @dir? 1, 0 or -errno; -ENOTDIR if @dir is none any more, whatever
	 * it is now: a symlink that has been put into its place is not followed. The one question about
	 * two components, which costs one call where there is nothing.
	 */
	int (*has)(struct un_layer *l, int dirfd, const char *dir, const char *name);
	ssize_t (*readlink)(struct un_layer *l, int dirfd, const char *name, char *buf,
			    size_t size);
	ssize_t (*getxattr)(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			    void *buf, size_t size);
	ssize_t (*listxattr)(struct un_layer *l, int dirfd, const char *name, char *buf,
			     size_t size);
	/* getdents64(2): @fd is open for reading. */
	ssize_t (*getdents)(struct un_layer *l, int fd, void *buf, size_t size);
	ssize_t (*pread)(struct un_layer *l, int fd, void *buf, size_t size, off_t off);
	/*
	 * The same of what is in memory; less than is there, where the rest is not. -EAGAIN: nothing is; -EOPNOTSUPP: that
	 * cannot be told, without a system call from the second time on.
	 */
	ssize_t (*pread_cached)(struct un_layer *l, int fd, void *buf, size_t size, off_t off);
	/* Is the beginning of it in memory? 1, 0 or -errno; -ENOSYS: not before Linux 6.5. The disk is not asked. */
	int (*is_cached)(struct un_layer *l, int fd);
	/* It is about to be read: the disk may begin. Does not wait for that. */
	int (*will_need)(struct un_layer *l, int fd, off_t off, off_t size);
	/* As lseek(2). */
	off_t (*seek)(struct un_layer *l, int fd, off_t off, int whence);
	int (*statfs)(struct un_layer *l, struct statvfs *ret);
	/*
	 * FS_XFLAG_* of linux/fs.h, without opening the file. -ENOSYS: not before Linux 6.17; -EBADF: of a
	 * file, by a descriptor with O_PATH.
	 */
	int (*xflags)(struct un_layer *l, int dirfd, const char *name, uint64_t *ret);
	/* @ret->handle_bytes: how long it may be. -EOVERFLOW: it is longer. */
	int (*handle)(struct un_layer *l, int dirfd, const char *name, struct file_handle *ret);
	/* An O_PATH descriptor. -ESTALE: it is gone; -EPERM: not allowed in the mount of this layer. */
	int (*open_handle)(struct un_layer *l, struct file_handle *handle);

	/*
	 * One of linux/fs.h that asks for something (FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_MEASURE_VERITY)
	 * or, on the upper, changes it. @fd is no O_PATH descriptor.
	 */
	int (*ioctl)(struct un_layer *l, int fd, unsigned long cmd, void *arg);

	/* Changing; on the upper only. */
	int (*setxattr)(struct un_layer *l, int dirfd, const char *name, const char *xattr,
			const void *value, size_t size, int flags);
	int (*removexattr)(struct un_layer *l, int dirfd, const char *name, const char *xattr);
	int (*mkdir)(struct un_layer *l, int dirfd, const char *name, mode_t mode);
	int (*mknod)(struct un_layer *l, int dirfd, const char *name, mode_t mode, dev_t rdev);
	int (*symlink)(struct un_layer *l, const char *target, int dirfd, const char *name);
	/* @from "" links the open file @from_dirfd, an O_TMPFILE for instance. */
	int (*link)(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
		    const char *name);
	int (*rename)(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
		      const char *name, unsigned flags);
	int (*unlink)(struct un_layer *l, int dirfd, const char *name, int flags);
	int (*chown)(struct un_layer *l, int dirfd, const char *name, uid_t uid, gid_t gid);
	/* Never on a symlink. */
	int (*chmod)(struct un_layer *l, int dirfd, const char *name, mode_t mode);
	int (*utimens)(struct un_layer *l, int dirfd, const char *name,
		       const struct timespec ts[2]);
	/* Times as truncate(2): a file that keeps its size has changed if the file system says so. */
	int (*truncate)(struct un_layer *l, int fd, off_t size);
	ssize_t (*pwrite)(struct un_layer *l, int fd, const void *buf, size_t size, off_t off);
	/* FICLONE of the whole of @from into @fd. */
	int (*clone)(struct un_layer *l, int fd, int from);
	ssize_t (*copy_range)(struct un_layer *l, int from, off_t from_off, int fd, off_t off,
			      size_t size);
	int (*fallocate)(struct un_layer *l, int fd, int mode, off_t off, off_t len);
	int (*fsync)(struct un_layer *l, int fd, bool data_only);
	/*
	 * The dirty pages of a range, without what leads to them, are written from now on, or, with @wait, have
	 * been. An error that it tells is told by no fsync any more.
	 */
	int (*flush_range)(struct un_layer *l, int fd, off_t off, off_t size, bool wait);
	/* What write-back since @fd was opened has failed with and nobody was told by it; never waits. */
	int (*wb_error)(struct un_layer *l, int fd);
};

/*
 * The lower @l is to stay open, whether or not it is taken out of the union meanwhile. False: it has been. The
 * union itself has one hold on each.
 */
bool un_layer_hold(struct un_layer *l);
void un_layer_release(struct un_layer *l);

/* The real thing. */
extern const struct un_layer_ops un_layer_posix;

/* The device number of the mount that this process serves, whose files it must not ask. 0: none yet. */
void un_layer_own_device(uint64_t dev);

/* Does the ioctl @cmd change the file? */
bool un_layer_ioctl_changes(unsigned long cmd);

/*
 * A decorator, around the operations that @l has now: logs every change of an upper with its
 * result.
 */
void un_layer_trace(struct un_layer *l);

/*
 * What a layer's file system can do, asked once at mount (layer/setup.h). Code that needs a
 * capability looks here first, and does without it if the call is refused all the same
 * (un_cap_refused).
 */
struct un_layer_caps {
	atomic_bool xattr;           /* marks of the dialect in use can be set (upper) */
	atomic_bool tmpfile;         /* O_TMPFILE and linking it (upper) */
	atomic_bool rename_whiteout; /* RENAME_WHITEOUT (upper) */
	atomic_bool rename_exchange; /* RENAME_EXCHANGE (upper) */
	atomic_bool rename_new;      /* RENAME_NOREPLACE (upper) */
	atomic_bool mknod_whiteout;  /* mknod of a 0:0 character device (upper) */
	atomic_bool link;            /* hard links (upper) */
	atomic_bool acl;             /* POSIX ACLs */
	atomic_bool handles;         /* name_to_handle_at works */
	atomic_bool d_type;          /* getdents tells the type */
};

/* Which objects of a layer keep their inode number for as long as they live? */
enum un_numbers {
	UN_NUMBERS_LAST,  /* all */
	UN_NUMBERS_FILES, /* all but directories */
	UN_NUMBERS_NONE, /* none: one that the kernel forgets may have another number next time */
};

/* Which xattrs carry the marks. */
enum un_dialect {
	UN_DIALECT_TRUSTED, /* trusted.overlay.* */
	UN_DIALECT_USER,    /* user.overlay.* */
};

struct un_layer {
	/*
	 * 0 = upper; of two lowers the upper one has the smaller. There is room between them for others, which
	 * come later: none ever changes.
	 */
	unsigned index;
	/* A lower that was taken out of the union (un_layers_remove_lower()), but is still in use. */
	atomic_bool gone;
	atomic_uint users; /* who needs its root: un_layer_hold() */
	int root;       /* O_PATH of the layer's root directory, owned */
	int clone; /* the detached mount it lies in, owned, may be root; -1: none, it is in the visible tree */
	char *path; /* as given by the user, for messages; owned */
	const struct un_layer_ops *ops;
	void *ops_data;             /* of a decorator */
	enum un_dialect dialect;    /* of all layers of a union the same */
	void *owner;                /* for whoever uses the layer: the union (struct un_fs) */
	atomic_int handle_fd;       /* for open_by_handle_at(2), owned; 0: not opened yet */
	atomic_bool no_handle_open; /* that call was refused: what a handle says has to do */
	uint64_t dev;               /* st_dev of the root (makedev form) */
	uint8_t uuid[16];           /* of the file system's superblock; zeros: unknown */
	uint64_t subvol;            /* btrfs: the subvolume; handles tell it, the uuid does not */
	bool twin; /* another lower is on another file system that nothing tells from this one */
	struct un_layer_caps caps;
	atomic_uint refusals; /* those of caps whose refusal was logged, a bit each, in order */
	bool tar_names; /* an upper without xattrs: `.wh.` names are marks in it, as in a lower */
	bool fresh; /* an upper that was empty: no `.wh.` name in it is a mark, but for tar_names */
	/*
	 * Its file system has no flags of chattr(1): what statx(2) says of immutable and append-only is
	 * what it says of all its files (erofs), and is not told.
	 */
	bool flagless;
	bool noatime;          /* reading is to move no times of access, ... */
	bool noatime_by_open;  /* ... which takes O_NOATIME, as its mount does not see to it */
	atomic_uint numbers;   /* enum un_numbers */
	atomic_bool surprised; /* ... which was found out only when numbers were in use */
	bool doubtful;         /* it may turn out later that its numbers do not last */
	atomic_bool never_cached; /* pread_cached() is refused */
	bool remote;           /* changes made elsewhere are not told on this machine */
	bool xattrless;        /* its root has no xattrs, and so has nothing in it */
	atomic_bool told_xattrless;
	bool data_only; /* its names are not merged; only redirects of metacopy files lead into it */
};

/*
 * A place on a layer: an object's name in a directory, or "" for what the descriptor is of. Borrows all.
 */
struct un_at {
	struct un_layer *layer;
	int dirfd;
	const char *name;
	void *pin;   /* for whoever made this: what keeps dirfd open */
	bool hollow; /* a mountpoint of the layer: only stat may be called on it */
};

/* For a call: lives until the end of the block it is in. */
#define UN_AT(l, fd, n) (&(const struct un_at){ .layer = (l), .dirfd = (fd), .name = (n) })

static inline int un_at_open(const struct un_at *at, int flags, mode_t mode)
{
	return at->layer->ops->open(at->layer, at->dirfd, at->name, flags, mode);
}

/*
 * A call that needs @cap (one of @l->caps) failed with @r (-errno): was it refused, by the file
 * system or by a sandbox, so that the caller must do without it? The first refusal is logged
 * (@what: the call). Where @r can have no other meaning the capability is withdrawn; EPERM may also
 * be about one object, and the next call is tried again.
 */
bool un_cap_refused(struct un_layer *l, atomic_bool *cap, const char *what, ssize_t r);

/*
 * Renames to a free name: with RENAME_NOREPLACE if the layer has it, else replacing what is there.
 */
int un_layer_rename_new(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
			const char *name);

/* Makes an empty file without mknod(2), which sandboxes refuse altogether. */
int un_layer_make_file(struct un_layer *l, int dirfd, const char *name, mode_t mode);

static inline uint64_t un_stx_dev(const struct statx *st)
{
	return ((uint64_t)st->stx_dev_major << 32) | st->stx_dev_minor;
}

/*
 * Do numbers tell objects of this kind apart? If not, an object is known by where it is, and the
 * inode number shown for it is a stand-in (object/stand-in.c).
 */
static inline bool un_layer_numbers_last(const struct un_layer *l, bool dir)
{
	unsigned numbers = atomic_load_explicit(&l->numbers, memory_order_relaxed);

	return numbers == UN_NUMBERS_LAST || (numbers == UN_NUMBERS_FILES && !dir);
}

/*
 * An object that is where it was, of the same kind, has another number. True: that happens in this layer
 * (from now on, and said once, if that is news); false: it is another object.
 */
bool un_layer_number_changed(struct un_layer *l, bool dir);

/*
 * In stx_attributes, set by a layer that is not a private clone of its mount: a file of the lower
 * is covered, that is, something is mounted on it, as on /etc/hosts in containers. The other
 * attributes, and the data read, are those of the file that covers it, whose numbers and marks mean
 * nothing here.
 */
#define UN_STATX_COVERED (1ull << 63)

static inline bool un_stx_is_covered(const struct statx *st)
{
	return st->stx_attributes & UN_STATX_COVERED;
}

/*
 * A mountpoint that was not entered: its attributes are what the kernel tells without asking the
 * mount.
 */
static inline bool un_stx_is_mountpoint(const struct statx *st)
{
	return st->stx_attributes & STATX_ATTR_MOUNT_ROOT;
}
