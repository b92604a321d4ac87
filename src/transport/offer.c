/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "offer_i.h"

#include <glib.h>
#include <stdbool.h>

#define PARAMETER "/sys/module/fuse/parameters/enable_uring"

/* Does this kernel have it, and is it on? */
static bool look(bool *ret_on)
{
	g_autofree char *text = NULL;

	if (!g_file_get_contents(PARAMETER, &text, NULL, NULL))
		return false;
	*ret_on = *text == 'Y' || *text == '1';
	return true;
}

char *un_offer_why_not(void)
{
	bool on;

	if (!look(&on))
		return g_strdup("this kernel does not have it for FUSE (since Linux 6.14, with "
				"CONFIG_FUSE_IO_URING)");
	if (!on)
		return g_strdup("it is switched off; root can switch it on: echo Y >" PARAMETER);
	return g_strdup("the kernel does not offer it to this mount");
}

const char *un_offer_advice(void)
{
	bool on;

	if (!look(&on) || on)
		return NULL;
	return "requests would be several times cheaper over io_uring, which root can switch on: echo Y >" PARAMETER
	       ", for good: echo options fuse enable_uring=1 >/etc/modprobe.d/fuse.conf";
}
