/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Data. Reads and writes go to the inode's real file, wherever it is now; nothing is remembered of who
 * opened it. A write to a lower file copies it up first.
 */
#include "mtime_i.h"
#include "setattr_i.h"

#include "copyup/copyup.h"
#include "layer/layer.h"
#include "object/cred.h"
#include "object/fdcache.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/open.h"
#include "object/prot.h"
#include "object/writeback.h"
#include "union/union.h"
#include "util/cancel.h"
#include "util/err.h"
#include "util/piece.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- reading ------------------------------------------------------------------------------------------ */

/*
 * Fewer bytes than asked for are the end of the file, and need no second question, unless a signal or a
 * network came in between: those stop between pages.
 */
static bool is_end(off_t at)
{
	return at % 4096 != 0;
}

/* What is in memory costs the one call that reads it, whoever asks; what is not, one more. */
static ssize_t read_some(const struct un_fd *f, void *buf, size_t size, off_t off, bool *ret_cold)
{
	if (off == 0 && ret_cold && !*ret_cold) {
		ssize_t n = f->layer->ops->pread_cached(f->layer, f->fd, buf, size, 0);

		if (n >= 0)
			return n;
		*ret_cold = n == -EAGAIN;
	}
	return f->layer->ops->pread(f->layer, f->fd, buf, size, off);
}

ssize_t un_read(struct un_fs *fs, struct un_inode *inode, void *buf, size_t size, off_t off,
		bool *ret_cold)
{
	struct un_fd *f;
	size_t done = 0;
	bool end = false;
	int r = un_file_get_data(fs, inode, &f);

	if (ret_cold)
		*ret_cold = false;
	if (r < 0)
		return r;
	while (done < size && !end) {
		ssize_t n =
			read_some(f, (char *)buf + done, size - done, off + (off_t)done, ret_cold);

		if (n == -EINTR)
			continue;
		if (n < 0 && done == 0)
			r = (int)n;
		if (n < 0)
			break;
		done += (size_t)n;
		end = n == 0 || is_end(off + (off_t)done);
	}
	/* The whole file was read, and the kernel keeps it from now on. */
	if (off == 0 && end && r == 0)
		un_fdcache_put_done(fs->fds, f);
	else
		un_fdcache_put(fs->fds, f);
	return r < 0 ? r : (ssize_t)done;
}

off_t un_lseek(struct un_fs *fs, struct un_inode *inode, off_t off, int whence)
{
	struct un_fd *f;
	off_t at;
	int r = un_file_get_data(fs, inode, &f);

	if (r < 0)
		return r;
	at = f->layer->ops->seek(f->layer, f->fd, off, whence);
	un_fdcache_put(fs->fds, f);
	return at;
}

/* ---- writing ------------------------------------------------------------------------------------------ */

static int check_write(struct un_fs *fs, struct un_inode *inode, bool append)
{
	int p = un_prot(fs, inode);

	if (p < 0)
		return p;
	if ((p & UN_PROT_IMMUTABLE) || ((p & UN_PROT_APPEND) && !append))
		return -EPERM;
	return 0;
}

/* The real file, in the upper, open for writing. */
static int get_for_write(struct un_fs *fs, struct un_inode *inode, bool append, struct un_fd **ret)
{
	int r;

	if (fs->read_only)
		return -EROFS;
	if (inode->type != DT_REG)
		return inode->type == DT_DIR ? -EISDIR : -EINVAL;
	r = check_write(fs, inode, append);
	if (r == 0)
		r = un_copyup(fs, inode, UN_COPY_ALL);
	return r < 0 ? r : un_file_get(fs, inode, UN_FD_WRITE, ret);
}

/*
 * The real file may only be appended to. *@f is for that alone and not for @w, unless the flag is gone by
 * now; how much of @w is there already and is not written again (pages of a write-back cache), or -EPERM.
 * @f is given back on failure.
 */
static ssize_t append_only(struct un_fs *fs, struct un_inode *inode, const struct un_write *w,
			   struct un_fd **f)
{
	struct un_layer *u = fs->upper;
	g_autofree char *there = NULL;
	struct statx st;
	size_t n = 0;
	int r;

	if (!(*f)->append || w->append)
		return 0;
	r = un_file_get_anew(fs, inode, f);
	if (r < 0 || !(*f)->append)
		return r;
	r = u->ops->stat(u, (*f)->fd, "", &st);
	if (r == 0 && (w->off > (off_t)st.stx_size || (!w->cached && w->off < (off_t)st.stx_size)))
		r = -EPERM;
	if (r == 0) {
		n = MIN(w->size, (size_t)((off_t)st.stx_size - w->off));
		there = g_malloc(n + 1);
		if (n > 0 && (u->ops->pread(u, (*f)->fd, there, n, w->off) != (ssize_t)n ||
			      memcmp(there, w->buf, n) != 0))
			r = -EPERM;
	}
	if (r < 0)
		un_fdcache_put(fs->fds, *f);
	return r < 0 ? r : (ssize_t)n;
}

static int kill_bits(struct un_fs *fs, struct un_inode *inode, const struct un_cred *cred,
		     bool *ret_killed)
{
	int r;

	if (!inode->maybe_setid)
		return 0;
	r = un_kill_setid(fs, inode, cred);
	if (r > 0)
		*ret_killed = true;
	return r < 0 ? r : 0;
}

/*
 * Pages of a mapping reach us when the kernel gets to it, which may be after somebody has set the
 * times by hand; those then stay (src/transport/README.md, Dirty pages). Dirty pages are not
 * kept longer than this.
 */
#define DIRTY_SECONDS 40

static bool keeps_mtime(struct un_inode *inode, const struct un_write *w)
{
	uint32_t set = inode->mtime_set;

	if (w->keep_mtime)
		return true;
	if (!w->cached) {
		inode->mtime_set = 0;
		un_mtime_written(inode);
		return false;
	}
	return set && un_monotonic_seconds() - set < DIRTY_SECONDS;
}

/*
 * Returns what was written before an error, if anything was. @done: bytes that are there already.
 */
static ssize_t write_all(struct un_layer *u, int fd, const struct un_write *w, size_t done)
{
	while (done < w->size) {
		ssize_t n = u->ops->pwrite(u, fd, (const char *)w->buf + done, w->size - done,
					   w->off + (off_t)done);

		if (n == -EINTR)
			continue;
		if (n < 0 && done == 0)
			return n;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t un_write(struct un_fs *fs, struct un_inode *inode, const struct un_write *w,
		 const struct un_cred *cred, bool *ret_killed)
{
	struct un_layer *u = fs->upper;
	struct un_fd *f;
	ssize_t done;
	bool keep;
	int r;

	*ret_killed = false;
	/* Pages of a mapping were writable when they were mapped: flags have no say any more. */
	r = get_for_write(fs, inode, w->append || w->cached, &f);
	if (r < 0)
		return r;
	done = append_only(fs, inode, w, &f);
	if (done < 0)
		return done;
	if (w->kill)
		r = kill_bits(fs, inode, cred, ret_killed);
	keep = r == 0 && keeps_mtime(inode, w) && un_mtime_keep(fs, inode, f->fd);
	if (r == 0)
		done = write_all(u, f->fd, w, (size_t)done);
	if (keep)
		un_mtime_kept(fs, inode, f->fd);
	un_writeback_anew(fs, inode, w->off, (size_t)MAX(done, 0));
	un_fdcache_put(fs->fds, f);
	return r < 0 ? r : done;
}

/*
 * Modes that do to a range what they do to its parts one after the other; of less than this much nobody waits
 * for the end, and of more nobody can.
 */
#define IN_PIECES (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)
#define PIECES_FROM ((off_t)16 << 20)
#define PIECES_TO ((off_t)1 << 40)
/* Pieces end where blocks and pages end. */
#define ALIGN ((off_t)64 << 10)

static bool goes_in_pieces(struct un_layer *u, int mode, off_t len)
{
	struct statvfs st;

	if (len < PIECES_FROM || len > PIECES_TO || (mode & ~IN_PIECES))
		return false;
	/* A file system that counts before it begins is not made to fill the disk first. */
	return (mode & FALLOC_FL_PUNCH_HOLE) ||
	       (u->ops->statfs(u, &st) == 0 &&
		(uint64_t)len / MAX(st.f_frsize, 1) < (uint64_t)st.f_bavail);
}

/* A call that was stopped by anything but the end of its caller (a debugger, say) begins anew. */
static bool begins_anew(ssize_t r)
{
	return r == -EINTR && !un_cancelled();
}

static int allocate_piece(struct un_layer *u, int fd, int mode, off_t off, off_t len)
{
	int r;

	do
		r = un_cancelled() ? -EINTR : u->ops->fallocate(u, fd, mode, off, len);
	while (begins_anew(r));
	return r;
}

/*
 * Is all room behind the end of the file of our making? Not if the file, as it was, had more room than its size needs: somebody has
 * set it aside. And with a write-back cache the kernel may have moved the end meanwhile, and may at any moment.
 */
static bool is_ours_behind(const struct un_fs *fs, const struct statx *before)
{
	const uint64_t need = (before->stx_size + (uint64_t)ALIGN - 1) & ~((uint64_t)ALIGN - 1);

	return !fs->writeback && before->stx_blocks * 512 <= need;
}

/*
 * For the sake of a caller that is killed meanwhile, in pieces. The size changes with the last one. If that is not
 * reached, room that was taken stays in holes of the file, as on other file systems; behind the end it is given
 * back, if it was taken now and nobody else can have moved the end (older kernels do not lock the file for modes
 * that keep the size).
 */
static int allocate(struct un_fs *fs, int fd, int mode, off_t off, off_t len)
{
	struct un_layer *u = fs->upper;
	const off_t all = off + len;
	struct un_piece piece = { 0 };
	struct statx before;
	int r = 0;

	if (!goes_in_pieces(u, mode, len) || u->ops->stat(u, fd, "", &before) < 0)
		return allocate_piece(u, fd, mode, off, len);
	for (off_t at = off; r == 0 && at < all;) {
		size_t n = un_piece_begin(&piece, (uint64_t)(all - at));
		off_t end = at + (off_t)n < all ? (at + (off_t)n) & ~(ALIGN - 1) : all;

		r = allocate_piece(u, fd, end < all ? mode | FALLOC_FL_KEEP_SIZE : mode, at,
				   end - at);
		/* Some can do the one thing, but not the other. */
		if (r == -EOPNOTSUPP && at == off && end < all)
			return allocate_piece(u, fd, mode, off, len);
		un_piece_end(&piece, r == 0 ? n : 0);
		at = end;
	}
	off = MAX(off, (off_t)before.stx_size);
	if (r < 0 && mode == 0 && off < all && is_ours_behind(fs, &before))
		un_ignore(u->ops->fallocate(u, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
					    all - off));
	return r;
}

int un_fallocate(struct un_fs *fs, struct un_inode *inode, int mode, off_t off, off_t len,
		 const struct un_cred *cred, bool *ret_killed)
{
	struct un_fd *f;
	int r;

	*ret_killed = false;
	/* As vfs_fallocate() has it: to allocate room is like an append, it changes no data. */
	r = get_for_write(fs, inode, !(mode & ~FALLOC_FL_KEEP_SIZE), &f);
	if (r < 0)
		return r;
	r = allocate(fs, f->fd, mode, off, len);
	un_fdcache_put(fs->fds, f);
	/* The request says nothing of clearing bits (src/transport/README.md, Set-id bits). */
	if (r == 0 && inode->maybe_setid && !un_is_root(cred))
		r = kill_bits(fs, inode, cred, ret_killed);
	return r;
}

/* In pieces, too. Less than @size: the rest failed, or nobody waits for it; or the source ends. */
static ssize_t copy_range(struct un_layer *u, int src, off_t in_off, int dst, off_t out_off,
			  size_t size)
{
	struct un_piece piece = { 0 };
	size_t done = 0;

	while (done < size) {
		size_t want = un_piece_begin(&piece, size - done);
		ssize_t n = un_cancelled() ? -EINTR
					   : u->ops->copy_range(u, src, in_off + (off_t)done, dst,
								out_off + (off_t)done, want);

		if (begins_anew(n))
			continue;
		if (n < 0 && done == 0)
			return n;
		if (n <= 0)
			break;
		un_piece_end(&piece, (size_t)n);
		done += (size_t)n;
		if ((size_t)n < want)
			break;
	}
	return (ssize_t)done;
}

ssize_t un_copy_file_range(struct un_fs *fs, struct un_inode *in, off_t in_off,
			   struct un_inode *out, off_t out_off, size_t size,
			   const struct un_cred *cred, bool *ret_killed)
{
	struct un_fd *src, *dst;
	ssize_t n;
	int r;

	*ret_killed = false;
	r = get_for_write(fs, out, false, &dst);
	if (r < 0)
		return r;
	/* After the copy-up: both may be one file. */
	r = un_file_get_data(fs, in, &src);
	if (r < 0) {
		un_fdcache_put(fs->fds, dst);
		return r;
	}
	n = dst->append ? -EPERM : copy_range(fs->upper, src->fd, in_off, dst->fd, out_off, size);
	un_fdcache_put(fs->fds, src);
	un_fdcache_put(fs->fds, dst);
	/* Between file systems below, or refused: the kernel then copies through the page cache itself. */
	if (n == -EXDEV || n == -EPERM || n == -ENOSYS)
		n = -EOPNOTSUPP;
	if (n > 0 && out->maybe_setid && !un_is_root(cred)) {
		r = kill_bits(fs, out, cred, ret_killed);
		if (r < 0)
			return r;
	}
	return n;
}
