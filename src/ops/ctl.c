/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of `fuse-unionfs ctl`, and who may give them. What travels is in util/ctl-wire.h. */
#include "ctl_i.h"
#include "reply_i.h"

#include "util/log.h"

#include <errno.h>
#include <string.h>

/*
 * A handler runs on a worker: what takes long, or waits for others, goes to another thread
 * (un_transport_defer(), un_transport_defer_waiting()), which answers there.
 */
static const struct command {
	const char *name;
	unsigned least, most; /* arguments */
	const char *usage;    /* of the arguments, for whoever gives others */
	void (*fn)(struct un_ctl_call *call);
} commands[] = {
	{ "status", 0, 1, "nothing, or --json", un_ctl_status },
	{ "log", 1, 1, "one level: error, warning, info or debug", un_ctl_log },
	{ "drop", 0, 0, "nothing", un_ctl_drop },
	{ "sync", 0, 0, "nothing", un_ctl_sync },
	{ "lower", 2, 4, "add PATH [at N], or remove PATH or N", un_ctl_lower },
};

void un_ctl_log(struct un_ctl_call *call)
{
	int level = un_log_level_of(call->words[1]);

	if (level < 0) {
		un_ctl_reply(call, UN_CTL_MISUSED,
			     g_strdup_printf("log: '%s' is no level: error, warning, info or debug",
					     call->words[1]));
		return;
	}
	un_log_set_level(level);
	un_ctl_reply(call, UN_CTL_DONE, NULL);
}

static void run(struct un_ctl_call *call)
{
	const unsigned given = call->n - 1;

	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
		const struct command *c = &commands[i];

		if (strcmp(c->name, call->words[0]) != 0)
			continue;
		if (given < c->least)
			un_ctl_reply(call, UN_CTL_MISUSED,
				     g_strdup_printf("%s: a word is missing: it takes %s", c->name,
						     c->usage));
		else if (given > c->most)
			un_ctl_reply(call, UN_CTL_MISUSED,
				     g_strdup_printf("%s: '%s' is one word too many: it takes %s",
						     c->name, call->words[c->most + 1], c->usage));
		else
			c->fn(call);
		return;
	}
	un_ctl_reply(call, UN_CTL_UNKNOWN, g_strdup(UN_VERSION));
}

void un_op_ctl(fuse_req_t req, fuse_ino_t ino, const void *in, size_t in_size)
{
	const struct un_cred cred = un_cred_of(req);
	struct un_ctl_call *call;
	struct un_ctl c;

	/* The whole, and not a file in it, is what is controlled. */
	if (ino != FUSE_ROOT_ID) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	if (!un_may_control(&cred)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (in_size < sizeof(c)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	memcpy(&c, in, sizeof(c));
	if (c.version == UN_CTL_VERSION && c.token) {
		un_ctl_reply_part(req, c.token, c.offset);
		return;
	}
	call = g_new0(struct un_ctl_call, 1);
	call->ops = un_ops_of(req);
	call->req = req;
	call->device = un_transport_keep_device();
	call->words = c.version == UN_CTL_VERSION ? un_ctl_words(&c, in_size) : NULL;
	call->n = call->words ? g_strv_length(call->words) : 0;
	if (c.version != UN_CTL_VERSION)
		un_ctl_reply(call, UN_CTL_VERSIONS, g_strdup(UN_VERSION));
	else if (!call->n)
		un_ctl_reply(call, UN_CTL_MISUSED, g_strdup("the command cannot be understood"));
	else
		run(call);
}
