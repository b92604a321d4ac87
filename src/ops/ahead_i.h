/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Read-ahead across files (union/ahead.h), on threads of the transport. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct un_inode;
struct un_ops;

/* The thread @pid has begun to read @inode, of which nothing was in memory if @cold. Waits for nothing. */
void un_ops_read_ahead(struct un_ops *ops, struct un_inode *inode, uint32_t pid, bool cold);
/* The thread @pid has begun to list @dir. The same. */
void un_ops_list_ahead(struct un_ops *ops, struct un_inode *dir, uint32_t pid);
