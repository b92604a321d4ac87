/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has which file open, where OPEN is answered for the sake of passthrough.
 */
#pragma once

#include "ops_i.h"

struct un_wire_open_out;

/*
 * How an OPEN (CREATE, TMPFILE) of @inode with @flags of open(2) is to be answered; it is counted until
 * un_pass_end(), also if the answer does not arrive. 0, or -errno, and then nothing is counted. Without
 * passthrough: an answer without state, which is not counted.
 */
int un_pass_begin(struct un_ops *ops, struct un_inode *inode, int flags,
		  struct un_wire_open_out *ret);
/* What was answered with @fh is closed. */
void un_pass_end(struct un_ops *ops, uint64_t id, uint64_t fh);
