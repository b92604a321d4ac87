/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wires the rooms: parse, open the layers, build the union, mount, serve, take down. */
#include "cli/options.h"
#include "ctl/ctl.h"
#include "layer/owner.h"
#include "layer/setup.h"
#include "ops/ops.h"
#include "transport/daemon.h"
#include "transport/mount.h"
#include "transport/process.h"
#include "transport/transport.h"
#include "transport/wire.h"
#include "union/fs.h"
#include "union/union.h"
#include "util/caps.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* In the order of coming to life. */
struct app {
	struct un_options *options;
	struct un_mount *mount;
	struct un_owners owners; /* maps are those of options */
	struct un_fs *fs;
	char **effect; /* options as they turned out */
	struct un_ops *ops;
	struct fuse_session *se;
	struct un_daemon daemon;
	struct un_transport *transport;
	pthread_t signal_thread;
	sigset_t signals;
	atomic_bool ended; /* the signal thread is to end as well */
};

/* That serve at a time, unless the user says otherwise: each may wait for a slow disk. */
#define MOST_THREADS 32u

/* That are always there. */
static unsigned threads(const struct un_options *o)
{
	return o->threads ? o->threads : MAX(g_get_num_processors(), 2);
}

/* More, while requests wait and those are busy. */
static unsigned max_threads(const struct un_options *o)
{
	return MAX(o->max_threads ? o->max_threads : MOST_THREADS, threads(o));
}

static void find_owners(struct app *a)
{
	const struct un_options *o = a->options;

	a->owners = (struct un_owners){
		.uids = o->uidmap,
		.gids = o->gidmap,
		.squash_uid = o->squash_uid_set,
		.squash_gid = o->squash_gid_set,
		.uid = o->squash_uid,
		.gid = o->squash_gid,
		.override = o->xattr_permissions,
	};
	if (un_owners_any(&a->owners))
		un_owners_set_overflow(&a->owners);
}

/* Options that depend on what the layers can do are shown as they turned out. */
static char **effect(struct app *a)
{
	struct un_options o = *a->options;
	struct un_fs_effect e;

	un_fs_effect(a->fs, &e);
	o.read_only = e.read_only;
	o.userxattr = e.userxattr;
	o.metacopy = e.metacopy_create || (o.metacopy && e.read_only);
	o.index = e.index;
	if (o.redirect_dir == UN_REDIRECT_ON && !e.redirect_create)
		o.redirect_dir = UN_REDIRECT_FOLLOW;
	o.threads = threads(&o);
	o.max_threads = max_threads(&o);
	return un_options_effect(&o);
}

/*
 * It takes an answer to each OPEN, which costs more than small files gain (tests/bench/README.md). So by default
 * it is asked for where that is answered anyway.
 */
static bool wants_passthrough(const struct un_options *o)
{
	if (o->passthrough == UN_PASSTHROUGH_AUTO)
		return o->timeout == 0 && un_caps_rule();
	return o->passthrough == UN_PASSTHROUGH_ON;
}

/*
 * A ring is closed some time after the process has been killed, and only then is the connection dead. fusermount3
 * looks at once, and leaves a mount alone that seems alive.
 */
static enum un_transport_uring uring(const struct un_options *o)
{
	if (o->auto_unmount && o->io_uring == UN_IO_URING_AUTO)
		return UN_TRANSPORT_URING_OFF;
	return (enum un_transport_uring)o->io_uring;
}

static int open_union(struct app *a, char **ret_err)
{
	const struct un_options *o = a->options;
	const struct un_setup_request setup = {
		.lowers = (const char *const *)o->lowers->pdata,
		.n_lowers = o->lowers->len,
		.data = (const char *const *)o->datadirs->pdata,
		.n_data = o->datadirs->len,
		.index = o->index,
		.index_asked = o->index && o->index_set,
		.alone = o->index,
		.patience = o->index ? 2000 : 200,
		.no_uuid = o->uuid == UN_UUID_OFF,
		.upper = o->upper,
		.work = o->work,
		.userxattr = o->userxattr,
		.noatime = o->noatime || o->read_only,
		.is_volatile = o->sync == UN_SYNC_VOLATILE,
	};
	struct un_fs_config fs = {
		.read_only = o->read_only,
		.sync = o->sync != UN_SYNC_VOLATILE,
		.sync_strict = o->sync == UN_SYNC_STRICT,
		.watch = o->cache == UN_CACHE_AUTO,
		.watches = o->watches,
		.revalidate = o->cache == UN_CACHE_NONE,
		.writeback = o->writeback,
		.redirect_follow = o->redirect_dir != UN_REDIRECT_NOFOLLOW,
		.redirect_create = o->redirect_dir == UN_REDIRECT_ON,
		.new_uuid = o->uuid == UN_UUID_AUTO || o->uuid == UN_UUID_ON,
		.any_uuid = o->uuid == UN_UUID_ON,
		.metacopy_follow = o->metacopy,
		.metacopy_create = o->metacopy && o->redirect_dir == UN_REDIRECT_ON,
		.verity = o->verity,
		.owners = &a->owners,
		.shown_at = un_mount_inherited(a->mount) ? NULL : un_mount_path(a->mount),
		.other_fds = threads(o) * UN_TRANSPORT_FDS +
			     (o->cache == UN_CACHE_AUTO ? UN_LIVE_FDS : 0),
		.spare_fds = un_transport_spare_fds(uring(o), threads(o), max_threads(o)),
	};
	struct un_ops_config ops = {
		.timeout = o->timeout,
		.noxattrs = o->noxattrs,
		.noacl = o->noacl,
		.static_nlink = o->static_nlink,
		.ino32 = o->ino32,
		.writeback = o->writeback,
		.volatile_ = o->sync == UN_SYNC_VOLATILE,
		.passthrough = wants_passthrough(o),
		.passthrough_asked = o->passthrough == UN_PASSTHROUGH_ON,
		.max_write = o->max_write,
		.read_ahead = o->read_ahead,
		.max_background = 2 * max_threads(o),
	};

	find_owners(a);
	fs.layers = un_layers_open(&setup, ret_err);
	if (!fs.layers)
		return -1;
	if (o->debug && fs.layers->has_upper && g_getenv("UN_TRACE"))
		un_layer_trace(&fs.layers->v[0]);
	a->fs = un_fs_new(&fs, ret_err);
	if (!a->fs) {
		un_layers_close(fs.layers);
		return -1;
	}
	a->effect = effect(a);
	ops.options = (const char *const *)a->effect;
	a->ops = un_ops_new(a->fs, &ops);
	return 0;
}

static int try_mount(struct app *a, bool labels, char **ret_err)
{
	const struct un_options *o = a->options;
	struct un_session_request req = {
		.fsname = o->fsname,
		.subtype = o->subtype,
		.mount_opts = o->mount_opts->str,
		.auto_unmount = o->auto_unmount,
		.table = un_ops_table(),
		.userdata = a->ops,
	};

	for (int i = 0; labels && i < UN_LABELS; i++)
		req.labels[i] = o->labels[i];
	a->se = un_mount_session(&req, ret_err);
	if (!a->se)
		return -1;
	if (un_mount(a->mount, a->se, ret_err) == 0)
		return 0;
	fuse_session_destroy(a->se);
	a->se = NULL;
	return -1;
}

static bool in_initial_user_namespace(void)
{
	g_autofree char *map = NULL;
	unsigned inside, outside, length;

	return !g_file_get_contents("/proc/self/uid_map", &map, NULL, NULL) ||
	       (sscanf(map, "%u %u %u", &inside, &outside, &length) == 3 && length == UINT32_MAX);
}

/*
 * With SELinux labels, where they can be had. The engines of containers ask for them everywhere; the
 * kernel gives them to real root only, and fusermount3 does not know the words.
 */
static int mount_union(struct app *a, char **ret_err)
{
	g_autofree char *why = NULL;
	bool labels = false;

	for (int i = 0; i < UN_LABELS; i++)
		labels = labels || a->options->labels[i];
	if (labels && !un_fs_has_selinux(a->fs)) {
		un_log(LOG_WARNING, "SELinux labels (context= and the like) have no effect: the "
				    "kernel has no SELinux");
		labels = false;
	}
	if (!labels)
		return try_mount(a, false, ret_err);
	if (try_mount(a, true, ret_err) == 0)
		return 0;
	why = g_steal_pointer(ret_err);
	/* Who may have them has asked for a wrong one. */
	if (geteuid() == 0 && in_initial_user_namespace()) {
		*ret_err = g_strdup_printf("%s (with SELinux labels, context= and the like)", why);
		return -1;
	}
	un_log(LOG_WARNING, "SELinux labels (context= and the like) have no effect: it takes root "
			    "to mount with them");
	return try_mount(a, false, ret_err);
}

/* Signals. */

static void log_counts(struct app *a)
{
	uint64_t counts[UN_TRANSPORT_OPCODES];
	g_autoptr(GString) line = g_string_new("requests:");
	struct un_fs_stats stats;
	uint64_t sum = 0;

	un_transport_counts(a->transport, counts);
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++) {
		const char *name = un_wire_opcode_name(op);

		if (!counts[op])
			continue;
		sum += counts[op];
		if (name)
			g_string_append_printf(line, " %s=%" PRIu64, name, counts[op]);
		else
			g_string_append_printf(line, " %u=%" PRIu64, op, counts[op]);
	}
	un_log(LOG_INFO, "%s total=%" PRIu64, line->str, sum);
	un_fs_stats(a->fs, &stats);
	un_log(LOG_INFO,
	       "state: inodes=%" PRIu64 " descriptors=%" PRIu64 " copyups=%" PRIu64
	       " copied_bytes=%" PRIu64,
	       stats.inodes, stats.descriptors, stats.copyups, stats.copied_bytes);
}

static void *signal_main(void *arg)
{
	struct app *a = arg;
	int sig;

	while (sigwait(&a->signals, &sig) == 0) {
		if (a->ended)
			break;
		if (sig == SIGUSR1) {
			log_counts(a);
			continue;
		}
		/* In the background there is no terminal whose end would matter. */
		if (sig == SIGHUP && !a->options->foreground)
			continue;
		un_debug("signal %d: unmounting", sig);
		/* Requests go on: who has files open there may use them to the end. */
		un_unmount(a->mount, a->transport, a->options->writeback);
	}
	return NULL;
}

static void end_signals(struct app *a)
{
	a->ended = true;
	pthread_kill(a->signal_thread, SIGUSR1);
	pthread_join(a->signal_thread, NULL);
}

/*
 * Before any thread is started, so that all have them blocked; and before mounting, so that none
 * leaves a mount behind that nobody serves.
 */
static void block_signals(struct app *a)
{
	un_process_block_signals(&a->signals);
}

/* Serving. */

/* With allow_root libfuse refuses other users' requests. It does not see those; so have none. */
static const struct un_transport_ops *raw_ops(const struct un_options *o)
{
	static struct un_transport_ops limited;

	if (!o->allow_root)
		return un_ops_raw();
	limited.worker_start = un_ops_raw()->worker_start;
	return &limited;
}

/* It was mounted, and unmounted before the kernel had said a word: nothing to do, and no failure. */
#define GONE 1

/*
 * Mounts of ours may be idmapped. Requests then come without the caller's ids (un_cred), which libfuse
 * would need to keep others out with allow_root.
 */
static uint32_t init_flags2(const struct app *a)
{
	return un_ops_init_flags2(a->ops, !a->options->allow_root, !un_mount_inherited(a->mount));
}

static int start_passthrough(struct app *a, char **ret_err)
{
	int r = un_ops_pass(a->ops);
	const char *why =
		r == -EOPNOTSUPP
			? "the kernel does not offer it (since Linux 6.9, with CONFIG_FUSE_PASSTHROUGH)"
		: r == -EPERM ? "it takes CAP_SYS_ADMIN in the initial user namespace"
			      : g_strerror(-r);

	if (r == 0)
		return 0;
	if (a->options->passthrough == UN_PASSTHROUGH_ON) {
		*ret_err = g_strdup_printf("passthrough=on: %s", why);
		return -1;
	}
	un_debug("no passthrough: %s", why);
	return 0;
}

static int start_transport(struct app *a, char **ret_err)
{
	const struct un_options *o = a->options;
	const struct un_transport_config config = {
		.threads = threads(o),
		.max_threads = max_threads(o),
		.spin = o->spin,
		.clone_fd = o->clone_fd,
		.uring = uring(o),
		.max_write = o->max_write,
		.init_flags = un_ops_init_flags(a->ops),
		.init_flags2 = init_flags2(a),
		.ops = raw_ops(o),
		.data = a->ops,
	};
	int r;

	a->transport = un_transport_new(a->se, &config);
	if (!a->transport) {
		*ret_err = g_strdup("the FUSE transport cannot be set up");
		return -1;
	}
	un_ops_attach(a->ops, a->se, a->transport);
	r = un_transport_init(a->transport);
	if (un_transport_why_no_uring(a->transport)) {
		*ret_err = g_strdup(un_transport_why_no_uring(a->transport));
		return -1;
	}
	if (r == -EPERM) {
		*ret_err = g_strdup_printf("mountpoint '%s': the descriptor is not mounted",
					   un_mount_path(a->mount));
		return -1;
	}
	if (r == -ENODEV)
		return GONE;
	if (r < 0) {
		*ret_err = g_strdup_printf(
			"mountpoint '%s': the kernel's first request (INIT) failed: %s",
			un_mount_path(a->mount), g_strerror(-r));
		return -1;
	}
	if (wants_passthrough(o) && start_passthrough(a, ret_err) < 0)
		return -1;
	if (o->read_ahead)
		un_mount_read_ahead(a->mount, o->read_ahead);
	r = un_process_thread(&a->signal_thread, signal_main, a);
	if (r < 0) {
		*ret_err = g_strdup_printf("no thread can be started: %s", g_strerror(-r));
		return -1;
	}
	/* Limits are raised and the mount is made: from here on files are served. */
	r = un_caps_reduce();
	if (r < 0)
		un_log(LOG_WARNING,
		       "capabilities that are not needed cannot be given up: %s: limits of quotas "
		       "do not bind",
		       g_strerror(-r));
	r = un_ops_start(a->ops);
	if (r == 0)
		r = un_transport_start(a->transport);
	if (r < 0) {
		const char *why = un_transport_why_no_uring(a->transport);

		*ret_err = why ? g_strdup(why)
			       : g_strdup_printf("no thread can serve: %s", g_strerror(-r));
		end_signals(a);
	}
	return r;
}

/* Success is said when requests are being served, not before. */
static void serve(struct app *a)
{
	un_ops_open_first(a->ops, un_mount_path(a->mount), un_mount_device(a->mount));
	un_daemon_ready(&a->daemon);
	un_transport_wait(a->transport);
	un_ops_stop(a->ops);
	end_signals(a);
	un_fs_settle(a->fs);
}

/* Takes down whatever exists. */
static void app_done(struct app *a)
{
	un_unmount(a->mount, NULL, false);
	/* Runs what is left to do for the union, so before it; libfuse knows the union, too. */
	un_transport_free(a->transport);
	if (a->se)
		un_mount_end(a->mount, a->se);
	un_ops_free(a->ops);
	g_strfreev(a->effect);
	un_fs_free(a->fs);
	un_mount_free(a->mount);
	un_options_free(a->options);
}

static int parent_report(struct app *a, enum un_daemon_side side, const char *sentence)
{
	if (side == UN_DAEMON_READY)
		return 0;
	if (side == UN_DAEMON_DIED)
		un_unmount(a->mount, NULL, false);
	fprintf(stderr, "fuse-unionfs: %s\n", sentence);
	return 1;
}

static int run(struct app *a)
{
	g_autofree char *err = NULL;
	int r;

	a->mount = un_mount_new(a->options->mountpoint, &err);
	if (!a->mount || un_process_prepare(&err) < 0 || open_union(a, &err) < 0)
		goto fail;
	block_signals(a);
	if (mount_union(a, &err) < 0)
		goto fail;
	un_layer_own_device(un_mount_device(a->mount));

	if (!a->options->foreground) {
		enum un_daemon_side side = un_daemon_fork(&a->daemon, &err);

		if (side == UN_DAEMON_NO_FORK)
			goto fail;
		if (side != UN_DAEMON_CHILD)
			_exit(parent_report(a, side, err));
	}
	r = start_transport(a, &err);
	if (r < 0)
		goto fail;
	if (r == GONE) {
		un_daemon_ready(&a->daemon);
		return 0;
	}
	serve(a);
	return 0;

fail:
	un_daemon_fail(&a->daemon, err);
	return 1;
}

int main(int argc, char **argv)
{
	struct app a = { .daemon = UN_DAEMON_INIT };
	/* execve(2) can be called without any word at all. */
	const char *program = argc > 0 ? argv[0] : "";
	g_autofree char *err = NULL;
	int status;

	/* One heap for each thread would keep what only one of them needs, and grow page by page. */
	mallopt(M_ARENA_MAX, 2);
	un_process_standard_fds();
	if (un_ctl_asked(argc, argv))
		return un_ctl_main(argc, argv);
	a.options = un_options_parse(argc, argv, geteuid() == 0, &err);
	if (!a.options) {
		fprintf(stderr, "fuse-unionfs: %s\n", err);
		return 1;
	}
	if (a.options->help || a.options->version) {
		fputs(a.options->help ? un_usage_help() : un_usage_version(program), stdout);
		un_options_free(a.options);
		return fflush(stdout) ? 1 : 0;
	}
	if (a.options->debug)
		un_log_set_level(LOG_DEBUG);
	for (guint i = 0; i < a.options->warnings->len; i++)
		un_log(LOG_WARNING, "%s", (const char *)g_ptr_array_index(a.options->warnings, i));

	status = run(&a);
	app_done(&a);
	return status;
}
