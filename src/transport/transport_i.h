/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The helper thread, and how to stop workers; for the files of transport/ only. */
#pragma once

#include "transport/transport.h"

/*
 * Make the workers return although the connection lives on, as soon as nothing of ours waits for requests any more. Not on a
 * worker; does not wait for them.
 */
void un_transport_stop(struct un_transport *t);
