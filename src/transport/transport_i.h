/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the room only. */
#pragma once

#include "transport/transport.h"

/* Make the workers return although the connection lives on. Not on a worker; waits for them. */
void un_transport_stop(struct un_transport *t);
