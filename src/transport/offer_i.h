/* SPDX-License-Identifier: GPL-2.0-or-later */
/* io_uring or not: what was asked for, what kernel and machine offer, and what is said about it. */
#pragma once

#include "uring_i.h"

struct un_offer {
	enum un_transport_uring asked;
	struct un_uring *uring; /* NULL: not to be had */
	char *error;            /* a sentence: it is not, though asked for */
	bool granted;           /* by the kernel, at INIT */
	_Atomic bool used;      /* requests may come before un_offer_start() has returned */
};

/* Before INIT. -EOPNOTSUPP: there is none, and nothing else will do. */
int un_offer_prepare(struct un_offer *o, enum un_transport_uring asked,
		     const struct un_uring_config *config);
/* After INIT; the same. */
int un_offer_start(struct un_offer *o);
/* One line in the log, not before the caller's terminal is left. */
void un_offer_say(const struct un_offer *o);
/* Not while threads run. */
void un_offer_done(struct un_offer *o);
