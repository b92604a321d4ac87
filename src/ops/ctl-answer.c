/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers of `fuse-unionfs ctl`, in parts if they are long. */
#include "ctl_i.h"
#include "reply_i.h"

#include "util/lock.h"

#include <string.h>

/* One that nobody fetched: its client was killed. */
#define KEPT_SECONDS 60
#define KEPT_MOST 1024

struct answer {
	uint64_t token;
	enum un_ctl_status status;
	char *text;
	size_t len;
	gint64 since;
};

UN_ROLE(un_kept_role);

struct un_ctl_kept {
	struct un_mutex lock;
	uint64_t next UN_GUARDED_BY(un_kept_role);
	GQueue answers UN_GUARDED_BY(un_kept_role); /* the oldest first */
};
UN_LOCKS(struct un_ctl_kept, lock, kept, un_kept_role);

static void answer_free(void *p)
{
	struct answer *a = p;

	g_free(a->text);
	g_free(a);
}

struct un_ctl_kept *un_ctl_kept_new(void)
{
	struct un_ctl_kept *kept = g_new0(struct un_ctl_kept, 1);

	un_mutex_init(&kept->lock);
	kept_is_ours(kept);
	g_queue_init(&kept->answers);
	kept->next = 1;
	return kept;
}

void un_ctl_kept_free(struct un_ctl_kept *kept)
{
	kept_is_ours(kept);
	g_queue_clear_full(&kept->answers, answer_free);
	un_mutex_done(&kept->lock);
	g_free(kept);
}

static uint64_t keep(struct un_ctl_kept *kept, enum un_ctl_status status, char *text, size_t len)
{
	struct answer *a = g_new(struct answer, 1), *old;
	const gint64 now = g_get_monotonic_time();
	uint64_t token;

	*a = (struct answer){ .status = status, .text = text, .len = len, .since = now };
	kept_lock(kept);
	while ((old = g_queue_peek_head(&kept->answers)) &&
	       (kept->answers.length >= KEPT_MOST ||
		now - old->since > KEPT_SECONDS * G_USEC_PER_SEC))
		answer_free(g_queue_pop_head(&kept->answers));
	/* Not read of the answer afterwards: whoever guesses it, or a crowd of others, may end that. */
	token = kept->next++;
	a->token = token;
	g_queue_push_tail(&kept->answers, a);
	kept_unlock(kept);
	return token;
}

static void send_answer(fuse_req_t req, const struct un_ctl *c)
{
	fuse_reply_ioctl(req, 0, c, un_ctl_length(c));
}

void un_ctl_reply(struct un_ctl_call *call, enum un_ctl_status status, char *text)
{
	const size_t len = text ? strlen(text) : 0;
	struct un_ctl c;

	un_ctl_answer(&c, status, 0, text, len, 0);
	if (len > c.size)
		c.token = keep(call->ops->kept, status, text, len);
	else
		g_free(text);
	send_answer(call->req, &c);
	un_transport_drop_device(call->device);
	g_strfreev(call->words);
	g_free(call);
}

void un_ctl_reply_part(fuse_req_t req, uint64_t token, uint64_t offset)
{
	struct un_ctl_kept *kept = un_ops_of(req)->kept;
	struct un_ctl c;

	un_ctl_answer(&c, UN_CTL_LOST, 0, NULL, 0, 0);
	kept_lock(kept);
	for (GList *p = kept->answers.head; p; p = p->next) {
		struct answer *a = p->data;

		if (a->token != token || offset > a->len)
			continue;
		un_ctl_answer(&c, a->status, token, a->text, a->len, offset);
		if (!c.token) {
			answer_free(a);
			g_queue_delete_link(&kept->answers, p);
		}
		break;
	}
	kept_unlock(kept);
	send_answer(req, &c);
}
