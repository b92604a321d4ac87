/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A layer does not answer for a while, and meanwhile something else happens, or has to go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/core-fixture.h"
#include "../lib/stack.h"
/* Included for what the daemon cannot be asked for: who waits for which lock, and when a descriptor is gone. */
#include "layer/layer.h"
#include "object/changes.h"
#include "object/fdcache.h"
#include "object/inode.h"
#include "object/live.h"
#include "object/lock.h"
#include "object/object.h"

/* A layer whose operations do more: @op once, when @name has been asked for, or a directory been read. */
static struct {
	const struct un_layer_ops *real;
	struct un_layer_ops ops;
	struct un_fs *fs;
	const char *name; /* NULL: not armed */
	const char *op;
	sem_t reached, go_on; /* of a rename of @name */
	unsigned opened;
} hook;

/* No name. */
#define READ "/"

static void happen(const char *name)
{
	if (!hook.op || !hook.name || strcmp(name, hook.name) != 0)
		return;
	hook.name = NULL;
	must(hook.fs, hook.op);
}

static int hooked_stat(struct un_layer *l, int dirfd, const char *name, struct statx *ret)
{
	int r = hook.real->stat(l, dirfd, name, ret);

	happen(name);
	return r;
}

static ssize_t hooked_getdents(struct un_layer *l, int fd, void *buf, size_t size)
{
	ssize_t n = hook.real->getdents(l, fd, buf, size);

	happen(READ);
	return n;
}

static int hooked_open(struct un_layer *l, int dirfd, const char *name, int flags, mode_t mode)
{
	hook.opened++;
	return hook.real->open(l, dirfd, name, flags, mode);
}

static int hooked_rename(struct un_layer *l, int from_dirfd, const char *from, int dirfd,
			 const char *name, unsigned flags)
{
	if (hook.name && !hook.op && strcmp(from, hook.name) == 0) {
		sem_post(&hook.reached);
		sem_wait(&hook.go_on);
	}
	return hook.real->rename(l, from_dirfd, from, dirfd, name, flags);
}

static void hook_into(struct un_fs *fs, struct un_layer *l)
{
	memset(&hook, 0, sizeof(hook));
	hook.fs = fs;
	hook.real = l->ops;
	hook.ops = *l->ops;
	hook.ops.stat = hooked_stat;
	hook.ops.getdents = hooked_getdents;
	hook.ops.open = hooked_open;
	hook.ops.rename = hooked_rename;
	sem_init(&hook.reached, 0, 0);
	sem_init(&hook.go_on, 0, 0);
	l->ops = &hook.ops;
}

static void arm(const char *name, const char *op)
{
	hook.name = name;
	hook.op = op;
}

static void close_idle(struct un_fs *fs)
{
	/* The first call gives a second chance. */
	for (int i = 0; i < 2; i++)
		un_fdcache_age(fs->fds, 0);
}

/* ---- names change while a layer is asked ------------------------------------------------------------ */

static void made_while_it_is_looked_up(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u d/\n1 d/other = o\n");

	hook_into(fs, fs->upper);
	arm("x", "create d/x 0644");
	must(fs, "lookup d/x");
	assert_null(hook.name);
	must(fs, "write d/x text");
	reads(fs, "d/x", "text");
	same_from_outside(f);
}

static void removed_while_it_is_looked_up(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u d/x = text\n1 d/x = other\n");

	hook_into(fs, fs->upper);
	arm("x", "unlink d/x");
	must_fail(fs, "lookup d/x", ENOENT);
	assert_null(hook.name);
	same_from_outside(f);
}

/* What it is made of begins with a directory of the upper from then on. */
static void directory_is_copied_up_while_it_is_asked(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 d/x = one\n2 d/y = two\n");

	hook_into(fs, &fs->layers->v[2]);
	arm("y", "chmod d 0711");
	reads(fs, "d/y", "two");
	assert_null(hook.name);
	must(fs, "write d/y TWO");
	reads(fs, "d/x", "one");
	reads(fs, "d/y", "TWO");
	same_from_outside(f);
}

static void directory_is_removed_while_it_is_asked(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u d/\n1 other = o\n");

	hook_into(fs, fs->upper);
	arm("x", "rmdir d");
	must_fail(fs, "lookup d/x", ENOENT);
	assert_null(hook.name);
	same_from_outside(f);
}

static void made_while_the_directory_is_read(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u d/a = a\n1 d/b = b\n");
	struct un_inode *d = find(fs, "d"); /* with its listing */
	g_autofree char *view = NULL;

	hook_into(fs, &fs->layers->v[1]);
	arm(READ, "create d/c 0644");
	must(fs, "list d");
	assert_null(hook.name);
	view = stack_view(fs, 0, NULL);
	assert_non_null(strstr(view, "d/c"));
	un_inode_put(fs, d);
	same_from_outside(f);
}

/* ---- who waits ---------------------------------------------------------------------------------------- */

struct thread {
	pthread_t id;
	struct un_fs *fs;
	const char *op;
	struct un_inode *a, *b;
	int r;
};

static void *do_op(void *data)
{
	struct thread *t = data;

	t->r = stack_do(t->fs, t->op);
	return NULL;
}

static void *take_both(void *data) UN_NO_TSA
{
	struct thread *t = data;
	struct un_ns_set set;

	un_ns_write_set(&set, t->a, t->b, NULL);
	un_ns_unlock_set(&set);
	return NULL;
}

/* Somebody is in the one directory for long: who wants both keeps nobody out of the other. */
static void nobody_waits_for_who_waits(void **state) UN_NO_TSA
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u a/b/\n1 other = o\n");
	struct thread t = { .fs = fs, .a = find(fs, "a"), .b = find(fs, "a/b") };

	for (int i = 0; i < 2; i++) {
		struct un_inode *busy = i ? t.a : t.b, *other = i ? t.b : t.a;

		un_ns_read(busy);
		assert_int_equal(pthread_create(&t.id, NULL, take_both, &t), 0);
		g_usleep(50000);
		assert_true(un_ns_try_write(other));
		un_ns_unlock(other);
		un_ns_unlock(busy);
		pthread_join(t.id, NULL);
	}
	un_inode_put(fs, t.a);
	un_inode_put(fs, t.b);
}

static void start_rename(struct thread *t)
{
	arm("b", NULL);
	t->op = "rename a/b to/b";
	assert_int_equal(pthread_create(&t->id, NULL, do_op, t), 0);
	sem_wait(&hook.reached);
}

static void end_rename(struct thread *t)
{
	sem_post(&hook.go_on);
	pthread_join(t->id, NULL);
	assert_int_equal(t->r, 0);
}

/* A directory is renamed on a slow disk; another one has been removed by others. */
static void gone_during_a_slow_rename(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u a/b/f = x\nu to/\nu gone/in/f = y\n1 other = o\n");
	struct un_inode *in = find(fs, "gone/in");
	struct thread t = { .fs = fs };
	struct statx st;

	hook_into(fs, fs->upper);
	close_idle(fs);
	start_rename(&t);
	close_idle(fs);
	assert_int_equal(rename(stack_path(&f->s, "upper/gone"), stack_path(&f->s, "upper/went")),
			 0);
	assert_int_equal(un_getattr(fs, in, &st), -ESTALE);
	assert_int_equal(rename(stack_path(&f->s, "upper/went"), stack_path(&f->s, "upper/gone")),
			 0);
	assert_int_equal(un_getattr(fs, in, &st), 0);
	end_rename(&t);
	un_inode_put(fs, in);
	reads(fs, "to/b/f", "x");
	same_from_outside(f);
}

static void *get_attributes(void *data)
{
	struct thread *t = data;
	struct statx st;

	t->r = un_getattr(t->fs, t->a, &st);
	sem_post(&hook.reached);
	return NULL;
}

/* The same where numbers do not last, so that no number proves that a directory is the right one. */
static void opened_during_a_slow_rename(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "u a/b/c/f = x\nu to/\nu d/in/f = y\n1 other = o\n");
	struct thread t = { .fs = fs }, below = { .fs = fs };
	struct un_inode *in;
	struct timespec soon;
	struct statx st;

	atomic_store(&fs->upper->numbers, UN_NUMBERS_NONE);
	in = find(fs, "d/in");
	below.a = find(fs, "a/b/c");
	hook_into(fs, fs->upper);
	start_rename(&t);
	close_idle(fs);
	assert_int_equal(un_getattr(fs, in, &st), 0);
	/* Where it is now is not known until the rename is over. */
	assert_int_equal(pthread_create(&below.id, NULL, get_attributes, &below), 0);
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_sec++;
	assert_int_equal(sem_timedwait(&hook.reached, &soon), -1);
	end_rename(&t);
	pthread_join(below.id, NULL);
	assert_int_equal(below.r, 0);
	reads(fs, "to/b/c/f", "x");
	un_inode_put(fs, in);
	un_inode_put(fs, below.a);
}

/* ---- who tells of events ------------------------------------------------------------------------------ */

struct last {
	struct un_fs *fs;
	struct un_inode *dir; /* a reference */
	void (*fn)(void *arg);
	void *arg;
};

/* While an event is told, all others let go of the directory. */
static void let_go(void *data, const struct un_change *c)
{
	struct last *l = data;

	if (l->dir && c->id == un_inode_id(l->dir))
		un_inode_put(l->fs, g_steal_pointer(&l->dir));
}

static void keep_for_later(void *data, void (*fn)(void *arg), void *arg)
{
	struct last *l = data;

	assert_null(l->fn);
	l->fn = fn;
	l->arg = arg;
}

static void touch_by_another(const char *path)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* It holds up all requests: so it looks into no directory, whatever it was the last to hold. */
static void last_held_by_an_event(void **state)
{
	struct fixture *f = *state;
	struct un_fs *fs = start(f, "1 a/d/x = 1\nu other = o\n");
	struct last l = { .fs = fs };

	un_live_init(fs, 0);
	if (!fs->watch)
		skip();
	un_fs_on_change(fs, let_go, &l, false);
	un_fs_on_later(fs, keep_for_later, &l);
	reads(fs, "a/d/x", "1");
	l.dir = find(fs, "a/d");
	un_inode_put(fs, find(fs, "a/d/x"));
	hook_into(fs, &fs->layers->v[1]);
	close_idle(fs);
	touch_by_another(stack_path(&f->s, "1/a/d/y"));
	hook.opened = 0;
	un_fs_catch_up(fs);
	assert_null(l.dir);
	assert_int_equal(hook.opened, 0);
	assert_non_null(l.fn);
	l.fn(l.arg);
	assert_true(hook.opened > 0);
	un_fs_on_later(fs, NULL, NULL);
	un_fs_on_change(fs, NULL, NULL, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(made_while_it_is_looked_up),
		T(removed_while_it_is_looked_up),
		T(directory_is_copied_up_while_it_is_asked),
		T(directory_is_removed_while_it_is_asked),
		T(made_while_the_directory_is_read),
		T(nobody_waits_for_who_waits),
		T(gone_during_a_slow_rename),
		T(opened_during_a_slow_rename),
		T(last_held_by_an_event),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
