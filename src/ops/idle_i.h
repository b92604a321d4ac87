/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors that handlers have had opened, closed by the transport's helper when nobody uses them. */
#pragma once

struct un_ops;

/* A file may have been opened for writing: see that it does not stay so. */
void un_ops_tick(struct un_ops *ops);
/* Files or directories may have been opened for reading: see that not too many stay so. */
void un_ops_opened(struct un_ops *ops);
