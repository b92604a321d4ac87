/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The union as a whole: built from its layers, its housekeeping, taken down. */
#include "union/fs.h"

#include "root_i.h"

#include "copyup/alias.h"
#include "layer/layer.h"
#include "layer/marks.h"
#include "layer/origin.h"
#include "layer/setup.h"
#include "layer/whiteout.h"
#include "merge/merge.h"
#include "object/fdcache.h"
#include "object/ino.h"
#include "object/inode.h"
#include "object/later.h"
#include "object/live.h"
#include "object/missing.h"
#include "object/object.h"
#include "object/owner.h"
#include "object/pending.h"
#include "object/realdir.h"
#include "object/say.h"
#include "object/writeback.h"
#include "union/union.h"
#include "util/err.h"
#include "util/fd.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

/* Left for everything that is not in the cache: layers, sockets, what is open for an instant. */
#define FDS_RESERVED 48
#define FDS_MAX 32768
/*
 * Each keeps an inode of a layer in memory, and many mounts add up. These serve what is in use; what was
 * only walked over costs an openat when it is wanted again. When all is quiet, FDS_QUIET are enough.
 */
#define FDS_KEPT 4096
#define FDS_QUIET 128
/* Few, but then the cache gives back what is in the way of others (give_back). */
#define FDS_LEAST 64
#define FDS_NEEDED 40

/* How many descriptors the cache may have; 0: there are too few, and *ret_err says so. */
static unsigned fd_budget(const struct un_layers *ls, const struct un_fs_config *c, char **ret_err)
{
	rlim_t always = c->other_fds + (rlim_t)ls->n + (rlim_t)ls->n_data;
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return FDS_LEAST;
	if (lim.rlim_cur < always + FDS_NEEDED) {
		*ret_err = g_strdup_printf(
			"RLIMIT_NOFILE (ulimit -n) of %" G_GUINT64_FORMAT
			" is too low for these layers and threads: at least %" G_GUINT64_FORMAT
			" descriptors are needed",
			(guint64)lim.rlim_cur, (guint64)(always + FDS_NEEDED));
		return 0;
	}
	/* Where there are few, threads beyond those that are always there may have to do without. */
	if (lim.rlim_cur <= always + c->spare_fds + FDS_RESERVED + FDS_LEAST)
		return FDS_LEAST;
	return (unsigned)MIN(lim.rlim_cur - always - c->spare_fds - FDS_RESERVED, FDS_MAX);
}

/*
 * First mount of a fresh upper: give the union an identity, as the kernel does
 * (fuse-unionfs-format(5), UNION IDENTITY).
 */
static void ensure_uuid(struct un_fs *fs, bool any)
{
	unsigned marks;
	uint8_t uuid[16];

	if (!fs->upper->caps.xattr ||
	    un_marks_scan(UN_AT(fs->upper, fs->upper->root, ""), &marks) < 0)
		return;
	if (marks & (UN_HAS(UN_MARK_UUID) | (any ? 0 : UN_HAS(UN_MARK_IMPURE))))
		return;
	if (getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid))
		return;
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	un_ignore(un_mark_set(UN_AT(fs->upper, fs->upper->root, ""), UN_MARK_UUID, uuid,
			      sizeof(uuid)));
}

/* A directory beside the upper's tree, by its descriptor, which is borrowed. */
static int beside(struct un_fs *fs, int fd, struct un_realdir **ret, char **ret_err)
{
	struct statx st;
	int r = fs->upper->ops->stat(fs->upper, fd, "", &st);

	if (r < 0) {
		*ret_err = g_strdup_printf("workdir: %s", g_strerror(-r));
		return r;
	}
	*ret = un_realdir_new(fs->upper, NULL, "", &st);
	(*ret)->fd = g_new0(struct un_fd, 1);
	(*ret)->fd->layer = fs->upper;
	(*ret)->fd->fd = fd;
	(*ret)->fd->users = 1;
	return 0;
}

static int make_workdir(struct un_fs *fs, char **ret_err)
{
	struct statx st;
	int r = beside(fs, fs->work, &fs->workdir, ret_err);

	if (r == 0 && fs->layers->index >= 0)
		r = beside(fs, fs->layers->index, &fs->indexdir, ret_err);
	if (r < 0)
		return r;
	fs->index_used = fs->layers->index_used;
	fs->index_marked = fs->layers->index_marked;
	fs->traps[1] = (struct un_statkey){ fs->workdir->dev, fs->workdir->ino };
	r = fs->upper->ops->stat(fs->upper, fs->upper->root, "", &st);
	if (r == 0)
		fs->traps[0] = (struct un_statkey){ un_stx_dev(&st), st.stx_ino };
	return 0;
}

static int make_root(struct un_fs *fs, char **ret_err)
{
	struct un_inode *root = un_inode_new(fs, DT_DIR);
	const struct un_layer *failed;
	int r;

	fs->root = root;
	r = un_root_stack(fs, NULL, &root->d->stack, &root->d->n, &failed);
	if (r < 0) {
		*ret_err = g_strdup_printf("%s: %s: %s", failed->index ? "lowerdir" : "upperdir",
					   failed->path, g_strerror(-r));
		return r;
	}
	root->upper = fs->upper != NULL;
	root->dev = root->d->stack[0]->dev;
	root->rino = root->d->stack[0]->ino;
	root->ino = un_ino_natural(fs, root->dev, root->rino, 0);
	if (fs->upper)
		un_ino_own_dir(fs, root);
	un_inode_remember(fs, root);
	return 0;
}

/* Has the kernel anybody who labels files? Unknown: yes. */
static bool kernel_has_selinux(void)
{
	g_autofree char *known = NULL;

	return !g_file_get_contents("/proc/filesystems", &known, NULL, NULL) ||
	       strstr(known, "selinuxfs") != NULL;
}

static bool give_back(void *data)
{
	struct un_fs *fs = data;

	return un_fdcache_squeeze(fs->fds);
}

bool un_fs_has_selinux(const struct un_fs *fs)
{
	return fs->selinux;
}

struct un_fs *un_fs_new(const struct un_fs_config *config, char **ret_err)
{
	struct un_layers *ls = config->layers;
	unsigned budget = fd_budget(ls, config, ret_err);
	struct un_fs *fs;

	if (!budget)
		return NULL;
	fs = g_new0(struct un_fs, 1);
	fs->layers = ls;
	fs->upper = ls->has_upper ? &ls->v[0] : NULL;
	fs->read_only = config->read_only || !fs->upper;
	fs->sync = config->sync;
	fs->sync_strict = config->sync_strict;
	fs->revalidate = config->revalidate;
	fs->writeback = config->writeback;
	/* Whoever else puts something into it is to be seen. */
	if (fs->upper && fs->revalidate)
		fs->upper->fresh = false;
	fs->redirect_follow = config->redirect_follow;
	fs->redirect_create = config->redirect_create && fs->upper && fs->upper->caps.xattr;
	fs->metacopy_follow = config->metacopy_follow;
	fs->verity = config->verity;
	fs->metacopy_create = config->metacopy_create && fs->upper && fs->upper->caps.xattr;
	fs->uid = geteuid();
	fs->gid = getegid();
	fs->privileged = fs->uid == 0;
	fs->selinux = kernel_has_selinux();
	fs->work = ls->work;
	fs->fds = un_fdcache_new(budget, MIN(budget, FDS_KEPT));
	un_fd_giver(give_back, fs);
	un_later_init(fs);
	un_writeback_init(fs);
	un_mutex_init(&fs->restacking);
	un_mutex_init(&fs->tree);
	pthread_cond_init(&fs->tree_settled, NULL);
	un_mutex_init(&fs->copying);
	un_cond_init(&fs->copied);
	un_table_init(fs);
	un_missing_init(fs);
	un_say_init(fs, config->shown_at);
	un_pending_init(fs);
	for (unsigned i = 0; i <= ls->n + ls->n_data; i++)
		ls->v[i].owner = fs;
	un_ino_init(fs);
	if (fs->upper) {
		fs->stage_prefix = g_strdup_printf("#%s", ls->stage_id);
		fs->whiteouts = un_whiteout_pool_new(fs->upper, fs->work,
						     ls->index >= 0 ? ls->index : fs->work,
						     fs->stage_prefix);
		if (config->new_uuid)
			ensure_uuid(fs, config->any_uuid);
	}
	if (un_owners_init(fs, config->owners, ret_err) < 0 ||
	    (fs->upper && make_workdir(fs, ret_err) < 0) || make_root(fs, ret_err) < 0) {
		fs->layers = NULL; /* still the caller's */
		un_fs_free(fs);
		return NULL;
	}
	if (config->watch)
		un_live_init(fs, config->watches);
	return fs;
}

void un_fs_free(struct un_fs *fs)
{
	if (!fs)
		return;
	fs->stale = NULL;
	un_live_done(fs);
	un_pending_done(fs);
	un_table_forget(fs);
	un_inode_put(fs, fs->root);
	un_realdir_put(fs, fs->workdir);
	un_realdir_put(fs, fs->indexdir);
	un_whiteout_pool_free(fs->whiteouts);
	un_table_done(fs);
	un_missing_done(fs);
	un_say_done(fs);
	un_ino_done(fs);
	un_fd_giver(NULL, NULL);
	un_fdcache_free(fs->fds);
	un_writeback_done(fs);
	un_later_done(fs);
	pthread_cond_destroy(&fs->copied);
	un_mutex_done(&fs->copying);
	pthread_cond_destroy(&fs->tree_settled);
	un_mutex_done(&fs->tree);
	un_mutex_done(&fs->restacking);
	g_free(fs->groups);
	g_free(fs->stage_prefix);
	un_layers_close(fs->layers);
	g_free(fs);
}

void un_fs_on_stale(struct un_fs *fs, un_stale_fn fn, void *data)
{
	fs->stale = fn;
	fs->stale_data = data;
}

void un_fs_on_wake(struct un_fs *fs, void (*fn)(void *data), void *data)
{
	fs->wake = fn;
	fs->wake_data = data;
}

/* So many freed inodes are worth a walk through the heap (some ms, while allocations wait). */
#define TRIM_WORTH 16384

bool un_fs_wants_trim(struct un_fs *fs)
{
	return atomic_load(&fs->n_freed) >= TRIM_WORTH;
}

/* The allocator keeps what lies below something that lives on. When forgetting has paused: */
static bool trim(struct un_fs *fs)
{
	uint64_t freed = atomic_load(&fs->n_freed);

	if (freed < TRIM_WORTH)
		return false;
	if (freed != fs->freed_seen) {
		fs->freed_seen = freed;
		return true;
	}
	atomic_fetch_sub(&fs->n_freed, freed);
	malloc_trim(0);
	return false;
}

bool un_fs_idle(struct un_fs *fs)
{
	bool more = trim(fs);

	more = un_alias_idle(fs) || more;
	return un_fdcache_idle(fs->fds) || more;
}

bool un_fs_wants_closing(struct un_fs *fs)
{
	return un_fdcache_count(fs->fds) > FDS_QUIET;
}

bool un_fs_close_idle(struct un_fs *fs)
{
	return un_fdcache_age(fs->fds, FDS_QUIET);
}

void un_fs_stats(struct un_fs *fs, struct un_fs_stats *ret)
{
	ret->inodes = fs->n_inodes;
	ret->descriptors = un_fdcache_count(fs->fds);
	ret->copyups = fs->copyups;
	ret->copied_bytes = fs->copied_bytes;
}

int un_statfs(struct un_fs *fs, struct statvfs *ret)
{
	struct un_layer *l;
	int r;

	/* The root's stack changes under this lock, too (un_stack_set_root()), and nobody asks a layer with it held. */
	do {
		un_tree_lock(fs);
		l = fs->root->d->stack[0]->layer;
		un_tree_unlock(fs);
	} while (!un_layer_hold(l));
	r = l->ops->statfs(l, ret);
	un_layer_release(l);
	if (r < 0)
		return r;
	ret->f_namemax = NAME_MAX;
	if (fs->read_only)
		ret->f_flag |= ST_RDONLY;
	return 0;
}

bool un_fs_has_acl(struct un_fs *fs)
{
	for (unsigned i = fs->upper ? 0 : 1; i <= fs->layers->n; i++)
		if (fs->layers->v[i].caps.acl)
			return true;
	return false;
}
