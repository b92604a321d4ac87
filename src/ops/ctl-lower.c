/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lower add PATH [at N]` and `lower remove PATH|N`. */
#include "ctl_i.h"
#include "notify_i.h"

#include <stdlib.h>
#include <string.h>

/* What is not open any more is closed as soon as the kernel has forgotten it, in milliseconds each of which: */
#define LINGER 300

struct done {
	struct un_ctl_call *call;
	unsigned lingering; /* before */
};

static void answer(struct done *d)
{
	unsigned left;

	un_transport_use_device(d->call->device);
	left = un_fs_lingering(d->call->ops->fs);
	un_ctl_reply(d->call, UN_CTL_DONE,
		     left > d->lingering
			     ? g_strdup("it stays open until what is open of it is closed\n")
			     : NULL);
	g_free(d);
}

/* On the waiting thread once more: the kernel forgets what it was told to, and we are told of that. */
static void wait_and_answer(void *data)
{
	struct done *d = data;

	for (unsigned i = 0; i < LINGER && un_fs_lingering(d->call->ops->fs) > d->lingering; i++)
		g_usleep(1000);
	answer(d);
}

/* The kernel has been told. This is the thread that tells it all other news, too, so it does not wait itself. */
static void told(void *data)
{
	struct done *d = data;

	if (!un_transport_defer_waiting(d->call->ops->transport, wait_and_answer, d))
		answer(d);
}

static void finish(struct un_ctl_call *call, int r, char *err, unsigned lingering)
{
	struct done *d;

	un_transport_use_device(call->device);
	if (r < 0) {
		un_ctl_reply(call, UN_CTL_FAILED, err);
		return;
	}
	d = g_new0(struct done, 1);
	d->call = call;
	d->lingering = lingering;
	un_notify_sync(call->ops, told, d);
}

static void add(void *data)
{
	struct un_ctl_call *call = data;
	guint64 at = 1;
	char *err = NULL;
	int r;

	if (call->n > 3)
		at = g_ascii_strtoull(call->words[4], NULL, 10);
	r = un_fs_add_lower(call->ops->fs, call->words[2], (unsigned)MIN(at, G_MAXINT), &err);
	finish(call, r, err, G_MAXUINT);
}

static void remove_one(void *data)
{
	struct un_ctl_call *call = data;
	unsigned lingering = un_fs_lingering(call->ops->fs);
	char *err = NULL;
	int r = un_fs_remove_lower(call->ops->fs, call->words[2], &err);

	finish(call, r, err, lingering);
}

static void misused(struct un_ctl_call *call, char *sentence)
{
	un_ctl_reply(call, UN_CTL_MISUSED, sentence);
}

void un_ctl_lower(struct un_ctl_call *call)
{
	const char *what = call->words[1];
	bool adds = strcmp(what, "add") == 0, removes = strcmp(what, "remove") == 0;
	guint64 n;

	if (!adds && !removes)
		misused(call, g_strdup_printf("lower: '%s' is neither add nor remove", what));
	else if (removes && call->n > 3)
		misused(call, g_strdup_printf("lower: remove: '%s' is one word too many",
					      call->words[3]));
	else if (adds && call->words[2][0] != '/')
		misused(call,
			g_strdup_printf("lower: add: '%s' is no absolute path", call->words[2]));
	else if (adds && call->n > 3 && (call->n != 5 || strcmp(call->words[3], "at") != 0))
		misused(call, g_strdup("lower: add: after the path there may be: at NUMBER"));
	else if (adds && call->n > 3 &&
		 !g_ascii_string_to_unsigned(call->words[4], 10, 1, G_MAXINT, &n, NULL))
		misused(call,
			g_strdup_printf(
				"lower: add: at '%s': a number is wanted, 1 for the top lower",
				call->words[4]));
	else if (!un_transport_defer_waiting(call->ops->transport, adds ? add : remove_one, call))
		un_ctl_reply(call, UN_CTL_FAILED, g_strdup("lower: no thread can be started"));
}
