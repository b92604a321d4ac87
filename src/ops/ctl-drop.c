/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `drop`: the kernel forgets what it has cached of the mount, and then the union does. */
#include "ctl_i.h"

#include "util/err.h"

#include <errno.h>
#include <string.h>

struct drop {
	struct un_ops *ops;
	bool names_stay; /* the kernel is too old to be told */
};

static bool drop_name(void *data, uint64_t dir, const char *name)
{
	struct drop *d = data;
	int r = un_transport_expire(d->ops->transport, dir, name);

	if (r == -EOPNOTSUPP)
		d->names_stay = true;
	return r != -EOPNOTSUPP && r != -ENODEV;
}

/* The names first: they lead to the attributes. */
static bool drop_inode(void *data, uint64_t id)
{
	struct drop *d = data;

	if (!d->names_stay)
		un_ignore(un_known_names(d->ops->fs, id, drop_name, d));
	/* Offset 0: attributes, pages (dirty ones are written first), listings. What is in hand keeps its pages. */
	return fuse_lowlevel_notify_inval_inode(
		       d->ops->se, id, un_fs_is_in_hand(d->ops->fs, id) ? -1 : 0, 0) != -ENODEV;
}

static void drop(void *data)
{
	struct un_ctl_call *call = data;
	struct drop d = { .ops = call->ops };

	un_transport_use_device(call->device);
	un_ignore(un_known_each(d.ops->fs, drop_inode, &d));
	un_known_missing(d.ops->fs, 0, drop_name, &d);
	un_fs_drop(d.ops->fs);
	un_ctl_reply(call, UN_CTL_DONE,
		     d.names_stay ? g_strdup("all but the names that the kernel remembers: it "
					     "forgets them since Linux 6.2\n")
				  : NULL);
}

void un_ctl_drop(struct un_ctl_call *call)
{
	if (!un_transport_defer_waiting(call->ops->transport, drop, call))
		un_ctl_reply(call, UN_CTL_FAILED, g_strdup("drop: no thread can be started"));
}
