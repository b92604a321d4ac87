/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unions on the layers of a stack, and inodes by path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stack.h"

#include <glib.h>

struct un_layers *stack_layers(const struct stack *s)
{
	g_autofree char *upper = g_strdup(stack_path(s, "upper"));
	g_autofree char *work = g_strdup(stack_path(s, "work"));
	g_auto(GStrv) lowers = g_new0(char *, s->n_lowers + 1);
	struct un_setup_request req = {
		.n_lowers = s->n_lowers,
		.upper = s->has_upper ? upper : NULL,
		.work = s->has_upper ? work : NULL,
		.userxattr = !s->trusted,
		.no_clone = s->no_clone,
		.index = s->format,
	};
	char *err = NULL;
	struct un_layers *ls;

	for (unsigned i = 0; i < s->n_lowers; i++)
		lowers[i] = g_strdup_printf("%s/%u", s->dir, i + 1);
	req.lowers = (const char *const *)lowers;
	ls = un_layers_open(&req, &err);
	if (!ls)
		fail_msg("%s", err);
	return ls;
}

struct un_fs *stack_fs_on(const struct stack *s, struct un_layers *ls)
{
	struct un_fs_config config = {
		.layers = ls,
		.sync = s->sync,
		.revalidate = s->revalidate,
		.writeback = s->writeback,
		.new_uuid = true,
		.redirect_follow = s->format,
		.redirect_create = s->format,
		.metacopy_follow = s->format,
		.metacopy_create = s->format,
		.owners = s->owners,
	};
	char *err = NULL;
	struct un_fs *fs = un_fs_new(&config, &err);

	if (!fs)
		fail_msg("%s", err);
	return fs;
}

struct un_fs *stack_fs(const struct stack *s)
{
	return stack_fs_on(s, stack_layers(s));
}

struct un_inode *stack_find(struct un_fs *fs, const char *path, int *ret)
{
	struct un_inode *at = un_inode_get(fs, UN_ROOT_ID);
	g_auto(GStrv) names = g_strsplit(path, "/", -1);
	int r = 0;

	for (char **p = names; *p && r == 0; p++) {
		struct un_inode *next = NULL;

		if (!**p)
			continue;
		r = un_lookup(fs, at, *p, &next, NULL);
		un_inode_put(fs, at);
		at = next;
	}
	if (ret)
		*ret = r;
	return r < 0 ? NULL : at;
}
