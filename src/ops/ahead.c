/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ahead_i.h"

#include "ops_i.h"

#include "union/ahead.h"

/* Where there is no thread nobody does it: it would be in the way of requests. */
static void run(struct un_ops *ops, struct un_ahead_job *job)
{
	if (job && !un_transport_try_run(ops->transport, un_ahead_run, job))
		un_ahead_drop(job);
}

void un_ops_read_ahead(struct un_ops *ops, struct un_inode *inode, uint32_t pid, bool cold)
{
	run(ops, un_ahead_read(ops->ahead, inode, pid, cold));
}

void un_ops_list_ahead(struct un_ops *ops, struct un_inode *dir, uint32_t pid)
{
	run(ops, un_ahead_listed(ops->ahead, dir, pid));
}
