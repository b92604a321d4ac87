/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `sync`: returns when all that others changed in layers before it is seen through the mount. */
#include "ctl_i.h"
#include "notify_i.h"

static void synced(void *data)
{
	struct un_ctl_call *call = data;

	un_transport_use_device(call->device);
	un_ctl_reply(call, UN_CTL_DONE, NULL);
}

void un_ctl_sync(struct un_ctl_call *call)
{
	un_notify_sync(call->ops, synced, call);
}
