/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "object/later.h"

#include "object/changes.h"
#include "object/lock.h"
#include "object/object.h"

UN_ROLE(later_role);

struct job {
	un_later_fn fn;
	void *data;
};

struct un_later_jobs {
	struct un_mutex lock;
	GQueue jobs UN_GUARDED_BY(later_role);
	bool running UN_GUARDED_BY(later_role); /* a thread takes from them, or is about to */
};
UN_LOCKS(struct un_later_jobs, lock, later, later_role);

void un_later_init(struct un_fs *fs)
{
	struct un_later_jobs *l = g_new0(struct un_later_jobs, 1);

	un_mutex_init(&l->lock);
	later_is_ours(l);
	g_queue_init(&l->jobs);
	fs->later = l;
}

void un_later_done(struct un_fs *fs)
{
	later_is_ours(fs->later);
	UN_ASSERT(g_queue_is_empty(&fs->later->jobs));
	un_mutex_done(&fs->later->lock);
	g_clear_pointer(&fs->later, g_free);
}

void un_fs_on_later(struct un_fs *fs, un_run_fn run, void *data)
{
	fs->run = run;
	fs->run_data = data;
}

/* The next one, which the caller frees; NULL: there is none, and nobody takes from them any more. */
static struct job *next(struct un_later_jobs *l)
{
	struct job *job;

	later_lock(l);
	job = g_queue_pop_head(&l->jobs);
	l->running = job != NULL;
	later_unlock(l);
	return job;
}

static void do_all(void *data)
{
	struct un_fs *fs = data;
	struct job *job;

	while ((job = next(fs->later))) {
		job->fn(fs, job->data);
		g_free(job);
	}
}

void un_later(struct un_fs *fs, un_later_fn fn, void *data)
{
	struct un_later_jobs *l = fs->later;
	struct job *job;
	bool start;

	if (!fs->run) {
		fn(fs, data);
		return;
	}
	job = g_new(struct job, 1);
	*job = (struct job){ .fn = fn, .data = data };
	later_lock(l);
	g_queue_push_tail(&l->jobs, job);
	start = !l->running;
	l->running = true;
	later_unlock(l);
	if (start)
		fs->run(fs->run_data, do_all, fs);
}
