/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing redirects: a directory with something below it, or a file whose data is below, is about to
 * get another name (fuse-unionfs-format(5), REDIRECTS). The mark is on it before it moves:
 * where it is now, a mark that tells its own place does no harm.
 */
#include "layer/marks.h"
#include "object/inode.h"
#include "object/lock.h"
#include "object/object.h"
#include "object/place.h"
#include "object/realdir.h"
#include "object/redirect.h"
#include "object/stage.h"
#include "util/log.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* As long as the kernel writes them. */
#define REDIRECT_MAX 256

static void set_redirect(struct un_fs *fs, struct un_realdir *rd, const char *redirect)
{
	char *old;

	un_tree_lock(fs);
	old = rd->redirect;
	rd->redirect = g_strdup(redirect);
	un_tree_unlock(fs);
	g_free(old);
}

/* The redirect mark that @inode has, which the caller frees; or NULL. */
static char *redirect_of(struct un_fs *fs, struct un_inode *inode)
{
	struct un_realdir *rd;
	char *redirect;

	if (inode->type != DT_DIR) {
		un_inode_lock(inode);
		redirect = inode->data ? g_strdup(inode->data->redirect) : NULL;
		un_inode_unlock(inode);
		return redirect;
	}
	un_inode_lock(inode);
	rd = un_dir_upper(fs, inode);
	un_tree_lock(fs);
	redirect = rd ? g_strdup(rd->redirect) : NULL;
	un_tree_unlock(fs);
	un_inode_unlock(inode);
	return redirect;
}

/*
 * The path below of (dir, name): a redirect of an ancestor stands for its name, and one with a path for
 * all above it. An ancestor may be renamed meanwhile: it has its redirect before its new name, so the
 * name is read first.
 */
static char *path_below(struct un_fs *fs, struct un_inode *dir, const char *name)
{
	g_autofree char *path = g_strdup_printf("/%s", name);
	struct un_inode *at = un_inode_ref(dir);

	while (at != fs->root) {
		char own[NAME_MAX + 1];
		struct un_inode *parent;
		g_autofree char *redirect = NULL, *rest = NULL;

		if (!un_name_any(at, &parent, own)) {
			un_inode_put(fs, at);
			return NULL;
		}
		redirect = redirect_of(fs, at);
		un_inode_put(fs, at);
		at = parent;
		rest = path;
		if (redirect && redirect[0] == '/') {
			path = g_strconcat(redirect, rest, NULL);
			break;
		}
		path = g_strdup_printf("/%s%s", redirect ? redirect : own, rest);
	}
	un_inode_put(fs, at);
	return strlen(path) > REDIRECT_MAX ? NULL : g_steal_pointer(&path);
}

static void remember(struct un_fs *fs, struct un_inode *inode, const char *value)
{
	if (inode->type == DT_DIR) {
		set_redirect(fs, inode->d->stack[0], value);
		return;
	}
	un_inode_lock(inode);
	if (inode->data) {
		g_free(inode->data->redirect);
		inode->data->redirect = g_strdup(value);
	}
	un_inode_unlock(inode);
}

/* Does one name of the file below not tell enough? Others of the same file may move elsewhere. */
static bool has_lower_links(struct un_inode *inode)
{
	bool links;

	if (inode->type == DT_DIR)
		return false;
	un_inode_lock(inode);
	/* In the index it has names everywhere. */
	links = inode->ix || (inode->data && inode->data->lower_links);
	un_inode_unlock(inode);
	return links;
}

bool un_redirect_fits(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		      const char *name, bool same_dir)
{
	g_autofree char *old = NULL, *value = NULL;

	if (same_dir)
		return true;
	old = redirect_of(fs, inode);
	if (old && old[0] == '/')
		return true;
	value = path_below(fs, dir, old ? old : name);
	return value != NULL;
}

/* At the object itself: files in the index have no one place else. */
static int set_mark(struct un_fs *fs, struct un_inode *inode, const char *value)
{
	struct un_at at;
	int r;

	un_inode_lock(inode);
	r = un_at_locked(fs, inode, &at);
	if (r == 0) {
		r = un_mark_lifted(fs, at.dirfd, at.name, UN_MARK_REDIRECT, value, strlen(value));
		un_at_done(fs, &at);
	}
	un_inode_unlock(inode);
	return r;
}

int un_redirect_set(struct un_fs *fs, struct un_inode *inode, struct un_inode *dir,
		    const char *name, bool same_dir)
{
	bool absolute = !same_dir || has_lower_links(inode);
	g_autofree char *old = redirect_of(fs, inode), *value = NULL;
	int r;

	if (old && (!absolute || old[0] == '/'))
		return 0;
	value = absolute ? path_below(fs, dir, old ? old : name) : g_strdup(name);
	if (!value)
		return -EXDEV;
	r = set_mark(fs, inode, value);
	if (r < 0) {
		un_debug("redirect: %s: %s", name, g_strerror(-r));
		return r == -ENOSPC || r == -EDQUOT || r == -EIO ? r : -EXDEV;
	}
	remember(fs, inode, value);
	return 0;
}
