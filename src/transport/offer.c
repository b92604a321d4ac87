/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "offer_i.h"

#include "util/log.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

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

static char *why_not(void)
{
	bool on;

	if (!look(&on))
		return g_strdup("this kernel does not have it for FUSE (since Linux 6.14, with "
				"CONFIG_FUSE_IO_URING)");
	if (!on)
		return g_strdup("it is switched off; root can switch it on: echo Y >" PARAMETER);
	return g_strdup("the kernel does not offer it to this mount");
}

/* How root can switch it on; NULL: it is on, or this kernel does not have it. */
static const char *advice(void)
{
	bool on;

	if (!look(&on) || on)
		return NULL;
	return "requests would be several times cheaper over io_uring, which root can switch on: echo Y >" PARAMETER
	       ", for good: echo options fuse enable_uring=1 >/etc/modprobe.d/fuse.conf";
}

static int none(struct un_offer *o, char *why)
{
	const bool on = o->asked == UN_TRANSPORT_URING_ON;

	if (on)
		o->error = g_strdup_printf("io_uring=on: %s", why);
	else
		un_debug("no io_uring: %s", why);
	g_free(why);
	return on ? -EOPNOTSUPP : 0;
}

int un_offer_prepare(struct un_offer *o, enum un_transport_uring asked,
		     const struct un_uring_config *config)
{
	char *why = NULL;

	o->asked = asked;
	if (asked == UN_TRANSPORT_URING_OFF)
		return 0;
	o->uring = un_uring_new(config, &why);
	return o->uring ? 0 : none(o, why);
}

int un_offer_start(struct un_offer *o)
{
	int r;

	if (!o->uring)
		return 0;
	if (!o->granted)
		return none(o, why_not());
	r = un_uring_start(o->uring);
	o->used = r == 0;
	return r == 0 ? 0 : none(o, g_strdup_printf("registering: %s", strerrordesc_np(-r)));
}

void un_offer_say(const struct un_offer *o)
{
	const char *how = o->uring ? advice() : NULL;

	if (o->used)
		un_log(LOG_INFO, "requests come over io_uring");
	else if (how)
		un_log(LOG_INFO, "%s", how);
}

unsigned un_transport_spare_fds(enum un_transport_uring uring, unsigned threads,
				unsigned max_threads)
{
	const unsigned workers = (max_threads - threads) * UN_TRANSPORT_FDS;
	bool on;

	if (uring == UN_TRANSPORT_URING_OFF || !look(&on) || !on)
		return workers;
	return MAX(workers, un_uring_fds(max_threads));
}

void un_offer_done(struct un_offer *o)
{
	un_uring_free(o->uring);
	g_free(o->error);
}

void *un_transport_room(size_t size)
{
	return un_uring_room(size);
}

void un_transport_flush(void)
{
	un_uring_flush();
}
