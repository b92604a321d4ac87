/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/fd.h"

#include <glib.h>

#define TRIES 16

static struct {
	bool (*give_back)(void *data);
	void *data;
} giver;

void un_fd_giver(bool (*give_back)(void *data), void *data)
{
	giver.give_back = give_back;
	giver.data = data;
}

bool un_fd_wait(unsigned *tries)
{
	if (!giver.give_back || *tries == TRIES)
		return false;
	if (!giver.give_back(giver.data))
		g_usleep(1000u << MIN(*tries, 7));
	++*tries;
	return true;
}
