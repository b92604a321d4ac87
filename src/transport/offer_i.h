/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why there is no io_uring, in words. */
#pragma once

/* The kernel has not agreed at INIT. Half a sentence, owned by the caller. */
char *un_offer_why_not(void);
/* How root can switch it on, or NULL: it is on, or this kernel does not have it. */
const char *un_offer_advice(void);
