/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "object/cred.h"
#include "object/object.h"
#include "util/fd.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers of a line: is @id among them, from the @first (0) on? */
static bool has_number(const char *numbers, unsigned first, unsigned long id)
{
	char *end;

	for (unsigned i = 0;; i++, numbers = end) {
		unsigned long n = strtoul(numbers, &end, 10);

		if (end == numbers)
			return false;
		if (i >= first && n == id)
			return true;
	}
}

/*
 * Of the thread that asks, which waits for the answer and so is still there. Of real, effective, saved and
 * file system ids the fourth counts. Ids are those of our own user namespace.
 */
static void ask_proc(const struct un_cred *cred, uid_t uid, gid_t gid, bool *ret_user,
		     bool *ret_in_group)
{
	char path[64], *line = NULL;
	size_t room = 0;
	unsigned tries = 0;
	FILE *f = NULL;

	*ret_user = *ret_in_group = false;
	snprintf(path, sizeof(path), "/proc/%ld/status", (long)cred->pid);
	if (cred->pid > 0)
		do
			f = fopen(path, "re");
		while (!f && un_fd_again(-errno, &tries));
	if (!f)
		return;
	/* Of any length: there may be 65,536 groups. */
	while (getline(&line, &room, f) >= 0) {
		if (g_str_has_prefix(line, "Uid:"))
			*ret_user = has_number(line + strlen("Uid:"), 3, uid);
		else if (g_str_has_prefix(line, "Gid:") && cred->uid == UN_NO_ID)
			*ret_in_group = has_number(line + strlen("Gid:"), 3, gid);
		else if (g_str_has_prefix(line, "Groups:"))
			*ret_in_group =
				*ret_in_group || has_number(line + strlen("Groups:"), 0, gid);
	}
	free(line);
	(void)fclose(f);
}

bool un_is_nobody(const struct un_cred *cred)
{
	return cred->uid == UN_NO_ID || cred->gid == (gid_t)-1;
}

bool un_is_user(const struct un_cred *cred, uid_t uid)
{
	bool is, in_group;

	if (cred->uid != UN_NO_ID)
		return cred->uid == uid;
	ask_proc(cred, uid, 0, &is, &in_group);
	return is;
}

bool un_is_root(const struct un_cred *cred)
{
	return un_is_user(cred, 0);
}

bool un_in_group(const struct un_cred *cred, gid_t gid)
{
	bool root, in_group;

	if (cred->uid == 0 || (cred->uid != UN_NO_ID && cred->gid == gid))
		return true;
	ask_proc(cred, 0, gid, &root, &in_group);
	/* A known user is who the request says: on an idmapped mount not whom /proc shows. */
	return in_group || (root && cred->uid == UN_NO_ID);
}
