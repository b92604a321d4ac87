/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several threads on one union. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/core-fixture.h"
#include "../lib/stack.h"
#include "util/err.h"
/* Included for what the daemon cannot be asked for: descriptors that are gone at a chosen moment. */
#include "object/fdcache.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"

#define THREADS 8

struct worker {
	pthread_t thread;
	struct fixture *f;
	unsigned index;
	unsigned seed;
	uint64_t until; /* monotonic, us */
	uint64_t done;
	char wrong[400];
};

static bool may_happen(int r)
{
	switch (-r) {
	case ENOENT:
	case EEXIST:
	case ENOTEMPTY:
	case EISDIR:
	case ENOTDIR:
	case EXDEV:
	case EINVAL:     /* into itself; not a regular file */
	case EOPNOTSUPP: /* chmod of a symlink */
	case EPERM:      /* link of a directory */
	case ELOOP:
	case ESTALE: /* the kernel looks again then */
	case ENODATA:
		return true;
	default:
		return r >= 0;
	}
}

static void random_path(unsigned *seed, char *ret, size_t size)
{
	static const char *const dirs[] = { "d0", "d1", "d2/e", "d2", "" };
	const char *dir = dirs[(unsigned)rand_r(seed) % G_N_ELEMENTS(dirs)];

	snprintf(ret, size, "%s%sn%u", dir, *dir ? "/" : "", (unsigned)rand_r(seed) % 12);
}

static void random_op(unsigned *seed, char *op, size_t size)
{
	static const char *const one[] = {
		"lookup %s",
		"lookup %s",
		"create %s 0644",
		"create %s 0600",
		"mkdir %s 0755",
		"symlink %s tgt",
		"unlink %s",
		"unlink %s",
		"rmdir %s",
		"write %s AAAAAAAA",
		"write %s BBBBBBBBBBBB 2",
		"truncate %s 3",
		"chmod %s 0750",
		"setxattr %s user.a b",
		"rmxattr %s user.a",
		"fifo %s 0644",
		"utime %s 12345",
		"list %s",
	};
	static const char *const two[] = { "rename %s %s", "rename %s %s", "rename %s %s exchange",
					   "rename %s %s noreplace", "link %s %s" };
	char a[32], b[32];
	unsigned k = (unsigned)rand_r(seed) % (G_N_ELEMENTS(one) + 2 * G_N_ELEMENTS(two) + 1);

	random_path(seed, a, sizeof(a));
	random_path(seed, b, sizeof(b));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	if (k < G_N_ELEMENTS(one))
		snprintf(op, size, one[k], a);
	else if (k < G_N_ELEMENTS(one) + 2 * G_N_ELEMENTS(two))
		snprintf(op, size, two[(k - G_N_ELEMENTS(one)) / 2], a, b);
	else
		snprintf(op, size, "tmpfile d0 temporary %s", a);
#pragma GCC diagnostic pop
}

static void *mixed_work(void *data)
{
	struct worker *w = data;
	char op[200];

	un_ignore(unshare(CLONE_FS)); /* as the daemon's workers: a umask of its own */
	while ((uint64_t)g_get_monotonic_time() < w->until && !w->wrong[0]) {
		int r;

		random_op(&w->seed, op, sizeof(op));
		r = stack_do(w->f->fs, op);
		w->done++;
		if (!may_happen(r))
			snprintf(w->wrong, sizeof(w->wrong), "%s: %s", op, g_strerror(-r));
		if (rand_r(&w->seed) % 64 == 0)
			un_fs_idle(w->f->fs);
	}
	return NULL;
}

static void run_threads(struct worker w[THREADS], struct fixture *f, void *(*fn)(void *data))
{
	for (unsigned i = 0; i < THREADS; i++) {
		w[i].f = f;
		w[i].index = i;
		w[i].seed += i * 7919 + 1;
		assert_int_equal(pthread_create(&w[i].thread, NULL, fn, &w[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		if (w[i].wrong[0])
			fail_msg("%s", w[i].wrong);
}

static void eight_threads(void **state, bool few_descriptors)
{
	struct fixture *f = *state;
	struct worker w[THREADS] = { 0 };
	g_autofree char *lower = NULL, *after = NULL, *names = NULL;
	const char *seed_text = getenv("UN_TEST_SEED");
	unsigned seed = seed_text ? (unsigned)atoi(seed_text) : (unsigned)g_random_int();
	uint64_t done = 0;
	GString *all;

	stack_init(&f->s, "1 d0/\n1 d1/\n1 d2/e/\nu d1/\nu d2/e/\n2 d2/\n");
	for (int i = 0; i < 12; i++) {
		g_autofree char *line = g_strdup_printf(
			"1 d0/n%d = lower user.a=b\n%s d1/n%d = x\n2 d2/e/n%d = deep\n"
			"1 d2/n%d/n1 = y\n1 n%d -> t",
			i, i % 2 ? "u" : "1", i, i, i, i);
		if (i < 9)
			stack_add(&f->s, line);
	}
	lower = stack_disk(&f->s, "1");
	if (few_descriptors)
		limit_descriptors();
	f->fs = stack_fs(&f->s);
	for (unsigned i = 0; i < THREADS; i++) {
		w[i].seed = seed;
		w[i].until = (uint64_t)g_get_monotonic_time() + 2000000;
	}
	print_message("seed %u\n", seed);
	run_threads(w, f, mixed_work);
	for (unsigned i = 0; i < THREADS; i++)
		done += w[i].done;
	print_message("%" PRIu64 " operations\n", done);
	all = g_string_new("");
	for (int i = 0; i < 12; i++)
		g_string_append_printf(all, "n%d ", i);
	names = g_string_free(all, FALSE);
	{
		g_autofree char *living = stack_view(f->fs, STACK_VIEW_NAMES, names);
		g_autofree char *outside = NULL;

		assert_null(strstr(living, " !"));
		restart(f);
		outside = stack_view(f->fs, STACK_VIEW_NAMES, names);
		assert_string_equal(living, outside);
	}
	after = stack_disk(&f->s, "1");
	assert_string_equal(lower, after);
}

static void eight_threads_at_work(void **state)
{
	eight_threads(state, false);
}

static void eight_threads_few_descriptors(void **state)
{
	eight_threads(state, true);
}

static pthread_barrier_t barrier;

#define ROUNDS 40

static void *last_unlinker(void *data)
{
	struct worker *w = data;

	un_ignore(unshare(CLONE_FS));
	for (int i = 0; i < ROUNDS * 10; i++) {
		char op[100];
		int r;

		snprintf(op, sizeof(op), "unlink d%u/%d", w->index, i);
		pthread_barrier_wait(&barrier);
		r = stack_do(w->f->fs, op);
		if (r < 0)
			snprintf(w->wrong, sizeof(w->wrong), "%s: %s", op, g_strerror(-r));
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/*
 * All names of an open file go at once: it stays usable, whatever is evicted then.
 */
static void names_that_go_at_once(void **state)
{
	struct fixture *f = *state;
	struct worker w[THREADS] = { 0 };
	struct un_inode *held[ROUNDS * 10];
	unsigned lost = 0, linked = 0;
	struct un_fs *fs;

	stack_init(&f->s, "u x = 1");
	for (int i = 0; i < THREADS; i++) {
		g_autofree char *line = g_strdup_printf("u d%d/", i);

		stack_add(&f->s, line);
	}
	f->fs = fs = stack_fs(&f->s);
	for (int i = 0; i < ROUNDS * 10; i++) {
		g_autofree char *create = g_strdup_printf("create d0/%d 0644", i);
		g_autofree char *write = g_strdup_printf("write d0/%d text", i);

		must(fs, create);
		must(fs, write);
		for (int k = 1; k < THREADS; k++) {
			g_autofree char *link = g_strdup_printf("link d0/%d d%d/%d", i, k, i);

			must(fs, link);
		}
		write[strlen(write) - strlen(" text")] = '\0';
		held[i] = find(fs, write + strlen("write "));
	}
	pthread_barrier_init(&barrier, NULL, THREADS);
	run_threads(w, f, last_unlinker);
	pthread_barrier_destroy(&barrier);
	/* What happens if other threads need the room. */
	while (un_fdcache_squeeze(fs->fds))
		;
	for (int i = 0; i < ROUNDS * 10; i++) {
		g_autofree char *text = read_inode(fs, held[i]);
		struct statx st;

		lost += strcmp(text, "text") != 0;
		un_inode_is_ours(held[i]);
		linked +=
			un_getattr(fs, held[i], &st) < 0 || st.stx_nlink != 0 || !held[i]->unlinked;
		un_inode_put(fs, held[i]);
	}
	if (lost || linked)
		fail_msg("%u of %d files are lost, %u do not look unlinked", lost, ROUNDS * 10,
			 linked);
	same_from_outside(f);
}

struct finders {
	struct worker w;
	struct un_inode *inode, *dir; /* borrowed */
};

/* "g" is another name of the inode, not known: all look it up at once. */
static void *look_up_together(void *data)
{
	struct finders *l = data;
	struct un_fs *fs = l->w.f->fs;
	struct un_inode *found = NULL;

	for (int i = 0; i < ROUNDS * 50; i++) {
		int r;

		pthread_barrier_wait(&barrier);
		r = un_lookup(fs, l->dir, "g", &found, NULL);
		if (r < 0 || found != l->inode)
			snprintf(l->w.wrong, sizeof(l->w.wrong), "round %d: %d, %s", i, r,
				 r < 0 ? g_strerror(-r) : "another inode");
		un_inode_put(fs, r < 0 ? NULL : found);
		pthread_barrier_wait(&barrier);
		if (l->w.index > 0)
			continue;
		found = un_name_find(fs, l->dir, "g");
		if (found != l->inode)
			snprintf(l->w.wrong, sizeof(l->w.wrong), "round %d: not in the table", i);
		un_inode_put(fs, found);
		un_name_drop(fs, l->inode, l->dir, "g");
		un_inode_lock(l->inode);
		for (struct un_name *n = l->inode->names; n; n = n->next)
			if (n->dir == l->dir)
				snprintf(l->w.wrong, sizeof(l->w.wrong), "round %d: twice", i);
		un_inode_unlock(l->inode);
	}
	return NULL;
}

/* A name of a hard link that several look up for the first time is known once, in both places. */
static void name_is_found_at_once(void **state)
{
	struct fixture *f = *state;
	struct finders l[THREADS] = { 0 };
	struct un_fs *fs = start(f, "u d/x = 1");
	struct un_inode *inode, *dir;

	must(fs, "create f 0644");
	must(fs, "link f d/g");
	inode = find(fs, "f");
	dir = find(fs, "d");
	un_name_drop(fs, inode, dir, "g");
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++) {
		l[i].w.f = f;
		l[i].w.index = (unsigned)i;
		l[i].inode = inode;
		l[i].dir = dir;
		assert_int_equal(pthread_create(&l[i].w.thread, NULL, look_up_together, &l[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(l[i].w.thread, NULL);
	pthread_barrier_destroy(&barrier);
	for (int i = 0; i < THREADS; i++)
		if (l[i].w.wrong[0])
			fail_msg("thread %d: %s", i, l[i].w.wrong);
	un_inode_put(fs, inode);
	un_inode_put(fs, dir);
	same_from_outside(f);
}

static void *first_writer(void *data)
{
	struct worker *w = data;

	for (int i = 0; i < ROUNDS; i++) {
		char op[100];
		int r;

		snprintf(op, sizeof(op), "write d%d/e/f %c%c %u", i, 'a' + w->index, 'a' + w->index,
			 w->index * 2);
		pthread_barrier_wait(&barrier);
		r = stack_do(w->f->fs, op);
		if (r < 0)
			snprintf(w->wrong, sizeof(w->wrong), "%s: %s", op, g_strerror(-r));
	}
	return NULL;
}

static void first_writers_copy_once(void **state)
{
	struct fixture *f = *state;
	struct worker w[THREADS] = { 0 };
	struct un_fs_stats stats;

	stack_init(&f->s, "");
	for (int i = 0; i < ROUNDS; i++) {
		g_autofree char *line = g_strdup_printf("1 d%d/e/f = 0123456789012345TAIL", i);

		stack_add(&f->s, line);
	}
	f->fs = stack_fs(&f->s);
	pthread_barrier_init(&barrier, NULL, THREADS);
	run_threads(w, f, first_writer);
	pthread_barrier_destroy(&barrier);
	un_fs_stats(f->fs, &stats);
	assert_int_equal(stats.copyups, 3 * ROUNDS);
	assert_int_equal(stats.copied_bytes, ROUNDS * strlen("0123456789012345TAIL"));
	for (int i = 0; i < ROUNDS; i++) {
		g_autofree char *path = g_strdup_printf("d%d/e/f", i);

		reads(f->fs, path, "aabbccddeeffgghhTAIL");
	}
	same_from_outside(f);
}

struct user {
	struct worker w;
	struct un_inode *inode;
	const char *const *ops; /* one after the other, for ever; NULL: use the inode instead */
};

static void *use_or_change(void *data)
{
	struct user *u = data;
	struct un_fs *fs = u->w.f->fs;
	const struct un_cred me = { geteuid(), getegid(), 0 };
	const struct un_write write = { .buf = "x", .size = 1 };

	un_ignore(unshare(CLONE_FS));
	for (unsigned i = 0; (uint64_t)g_get_monotonic_time() < u->w.until && !u->w.wrong[0]; i++) {
		struct statx st;
		char buf[8];
		bool killed, cold;
		int r;

		if (u->ops) {
			if (!u->ops[i])
				i = 0;
			r = stack_do(fs, u->ops[i]);
			if (r < 0)
				snprintf(u->w.wrong, sizeof(u->w.wrong), "%s: %s", u->ops[i],
					 g_strerror(-r));
			u->w.done++;
			continue;
		}
		r = i % 3 == 0   ? un_getattr(fs, u->inode, &st)
		    : i % 3 == 1 ? (int)un_write(fs, u->inode, &write, &me, &killed)
				 : (int)un_read(fs, u->inode, buf, sizeof(buf), 0, &cold);
		/* The descriptor went, as when others need the room. */
		un_fs_idle(fs);
		un_fs_idle(fs);
		if (r < 0)
			snprintf(u->w.wrong, sizeof(u->w.wrong), "%s after %u uses: %s",
				 i % 3 == 0   ? "getattr"
				 : i % 3 == 1 ? "write"
					      : "read",
				 i, g_strerror(-r));
		u->w.done++;
	}
	return NULL;
}

/* One thread changes the names of a file that two others have open. */
static void used_while_renamed(struct fixture *f, const char *const *ops)
{
	struct user u[3] = { 0 };
	struct un_fs *fs = start(f, "1 other = o\nu f = text\nu d/\n1 w = w\nu w whiteout\n");

	for (int i = 0; i < 3; i++) {
		u[i].w.f = f;
		u[i].w.until = (uint64_t)g_get_monotonic_time() + 500000;
		u[i].inode = find(fs, "f");
		u[i].ops = i ? NULL : ops;
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&u[i].w.thread, NULL, use_or_change, &u[i]), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(u[i].w.thread, NULL);
	for (int i = 0; i < 3; i++)
		un_inode_put(fs, u[i].inode);
	for (int i = 0; i < 3; i++)
		if (u[i].w.wrong[0])
			fail_msg("%s", u[i].w.wrong);
	same_from_outside(f);
}

/*
 * Between the change on the disk and its bookkeeping the inode must not be sought under the name it
 * had: that is ESTALE, or what comes of opening something else that is there now (ENXIO of a fifo).
 */
static void open_file_is_renamed(void **state)
{
	static const char *const ops[] = { "rename f d/g", "rename d/g f", NULL };

	used_while_renamed(*state, ops);
}

static void open_file_is_exchanged(void **state)
{
	static const char *const ops[] = { "rename f other exchange", NULL };

	used_while_renamed(*state, ops);
}

static void open_file_is_linked_and_unlinked(void **state)
{
	static const char *const ops[] = { "link f d/g", "unlink f", "link d/g f", "unlink d/g",
					   NULL };

	used_while_renamed(*state, ops);
}

/* The last name goes while the file is written. */
static void open_file_is_unlinked(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 x = 1");
	struct user u[2] = { 0 };

	for (int round = 0; round < 300; round++) {
		must(fs, "create f 0644");
		for (int i = 0; i < 2; i++) {
			u[i].w.f = f;
			u[i].w.until = (uint64_t)g_get_monotonic_time() + 2000;
			u[i].inode = find(fs, "f");
			assert_int_equal(pthread_create(&u[i].w.thread, NULL, use_or_change, &u[i]),
					 0);
		}
		must(fs, "unlink f");
		must(fs, "fifo f 0644");
		must(fs, "unlink f");
		for (int i = 0; i < 2; i++) {
			pthread_join(u[i].w.thread, NULL);
			un_inode_put(fs, u[i].inode);
			if (u[i].w.wrong[0])
				fail_msg("round %d: %s", round, u[i].w.wrong);
		}
	}
	same_from_outside(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(eight_threads_at_work),
		T(eight_threads_few_descriptors),
		T(first_writers_copy_once),
		T(name_is_found_at_once),
		T(names_that_go_at_once),
		T(open_file_is_renamed),
		T(open_file_is_exchanged),
		T(open_file_is_linked_and_unlinked),
		T(open_file_is_unlinked),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
