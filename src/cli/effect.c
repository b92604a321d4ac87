/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options as they are in effect, whether they were given or not; names and values are those of -o. */
#include "cli/options.h"

#include <stdarg.h>
#include <string.h>

static void add(GPtrArray *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(GPtrArray *out, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	g_ptr_array_add(out, g_strdup_vprintf(fmt, ap));
	va_end(ap);
}

static const char *on_off(bool on)
{
	return on ? "on" : "off";
}

static void add_format(GPtrArray *out, const struct un_options *o)
{
	static const char *const redirects[] = {
		[UN_REDIRECT_ON] = "on",
		[UN_REDIRECT_FOLLOW] = "follow",
		[UN_REDIRECT_NOFOLLOW] = "nofollow",
		[UN_REDIRECT_OFF] = "off",
	};
	static const char *const verities[] = {
		[UN_VERITY_OFF] = "off",
		[UN_VERITY_ON] = "on",
		[UN_VERITY_REQUIRE] = "require",
	};
	static const char *const uuids[] = {
		[UN_UUID_AUTO] = "auto",
		[UN_UUID_ON] = "on",
		[UN_UUID_OFF] = "off",
		[UN_UUID_NULL] = "null",
	};

	add(out, "userxattr=%d", o->userxattr);
	add(out, "redirect_dir=%s", redirects[o->redirect_dir]);
	add(out, "metacopy=%s", on_off(o->metacopy));
	add(out, "index=%s", on_off(o->index));
	add(out, "verity=%s", verities[o->verity]);
	add(out, "uuid=%s", uuids[o->uuid]);
}

static void add_map(GPtrArray *out, const char *name, const struct un_idmap *map)
{
	g_autoptr(GString) text = g_string_new(NULL);

	for (unsigned i = 0; i < map->n; i++)
		g_string_append_printf(text, "%s%u:%u:%u", i ? ":" : "", map->v[i].stored,
				       map->v[i].shown, map->v[i].count);
	if (map->n)
		add(out, "%s=%s", name, text->str);
}

static void add_owners(GPtrArray *out, const struct un_options *o)
{
	add_map(out, "uidmapping", &o->uidmap);
	add_map(out, "gidmapping", &o->gidmap);
	if (o->squash_uid_set)
		add(out, "squash_to_uid=%u", o->squash_uid);
	if (o->squash_gid_set)
		add(out, "squash_to_gid=%u", o->squash_gid);
	add(out, "xattr_permissions=%d",
	    o->xattr_permissions == UN_OVERRIDE_NONE       ? 0
	    : o->xattr_permissions == UN_OVERRIDE_SECURITY ? 1
							   : 2);
}

char **un_options_effect(const struct un_options *o)
{
	static const char *const syncs[] = {
		[UN_SYNC_AUTO] = "auto",
		[UN_SYNC_STRICT] = "strict",
		[UN_SYNC_VOLATILE] = "volatile",
	};
	GPtrArray *out = g_ptr_array_new();

	add_format(out, o);
	add_owners(out, o);
	add(out, "noxattrs=%d", o->noxattrs);
	add(out, "noacl=%d", o->noacl);
	add(out, "static_nlink=%d", o->static_nlink);
	add(out, "ino32_t=%d", o->ino32);
	add(out, "fsync=%s", syncs[o->sync]);
	add(out, "cache=%s",
	    o->cache == UN_CACHE_AUTO        ? "auto"
	    : o->cache == UN_CACHE_IMMUTABLE ? "immutable"
					     : "none");
	if (o->timeout < 0)
		add(out, "timeout=forever");
	else
		add(out, "timeout=%g", o->timeout);
	add(out, "writeback=%d", o->writeback);
	add(out, "threads=%u", o->threads);
	add(out, "max_threads=%u", o->max_threads);
	add(out, "spin=%u", o->spin);
	add(out, "clone_fd=%d", o->clone_fd);
	add(out, "io_uring=%s",
	    o->io_uring == UN_IO_URING_AUTO ? "auto"
	    : o->io_uring == UN_IO_URING_ON ? "on"
					    : "off");
	add(out, "passthrough=%s",
	    o->passthrough == UN_PASSTHROUGH_AUTO ? "auto"
	    : o->passthrough == UN_PASSTHROUGH_ON ? "on"
						  : "off");
	add(out, "max_write=%u", o->max_write);
	if (o->read_ahead)
		add(out, "read_ahead=%u", o->read_ahead);
	add(out, "auto_unmount=%d", o->auto_unmount);
	add(out, "mount=%s", o->read_only ? "ro" : "rw");
	g_ptr_array_add(out, NULL);
	return (char **)g_ptr_array_free(out, FALSE);
}
