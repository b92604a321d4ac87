/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is on the disk, as text; and how bytes are shown, in the merged tree too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stack_i.h"

#include <dirent.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

void stack_show_bytes(GString *out, const char *p, size_t n)
{
	bool plain = n <= 80;

	for (size_t i = 0; plain && i < n; i++)
		plain = g_ascii_isgraph(p[i]);
	if (plain) {
		g_string_append_len(out, p, (gssize)n);
	} else {
		g_autofree char *sum =
			g_compute_checksum_for_data(G_CHECKSUM_MD5, (const guchar *)p, n);

		g_string_append_printf(out, "{%zu:%.8s}", n, sum);
	}
}

int stack_by_string(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void disk_object(const struct stack *s, const char *path, const char *shown, GString *out)
{
	char list[8192], value[8192];
	struct stat st;
	ssize_t n;

	assert_int_equal(lstat(path, &st), 0);
	g_string_append_printf(out, "%s %o %u:%u", *shown ? shown : ".", st.st_mode, st.st_uid,
			       st.st_gid);
	if (!S_ISDIR(st.st_mode))
		g_string_append_printf(out, " links:%ju size:%jd", (uintmax_t)st.st_nlink,
				       (intmax_t)st.st_size);
	if (time(NULL) - st.st_mtim.tv_sec < 3600)
		g_string_append(out, " now");
	else
		g_string_append_printf(out, " %jd.%09ld", (intmax_t)st.st_mtim.tv_sec,
				       st.st_mtim.tv_nsec);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		g_string_append_printf(out, " %u:%u", major(st.st_rdev), minor(st.st_rdev));
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, value, sizeof(value));
		g_string_append_printf(out, " -> %.*s", (int)n, value);
	}
	if (S_ISREG(st.st_mode)) {
		g_autofree char *data = NULL;
		size_t len;

		if (g_file_get_contents(path, &data, &len, NULL)) {
			g_string_append(out, " = ");
			stack_show_bytes(out, data, len);
		}
	}
	n = llistxattr(path, list, sizeof(list));
	for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1) {
		ssize_t len = lgetxattr(path, p, value, sizeof(value));

		if (strcmp(p, "security.selinux") == 0)
			continue;
		g_string_append_printf(out, " %s=", p);
		if (g_str_has_suffix(p, "overlay.origin") || g_str_has_suffix(p, "overlay.uuid"))
			g_string_append_c(out, '*');
		else if (len >= 0)
			stack_show_bytes(out, value, (size_t)len);
	}
	g_string_append_c(out, '\n');
	(void)s;
}

static GPtrArray *names_in(const char *path)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			g_ptr_array_add(all, g_strdup(de->d_name));
	if (d)
		closedir(d);
	g_ptr_array_sort(all, stack_by_string);
	return all;
}

static void disk_dir(const struct stack *s, const char *path, const char *shown, GString *out)
{
	GPtrArray *all = names_in(path);

	for (unsigned i = 0; i < all->len; i++) {
		g_autofree char *p = g_strconcat(path, "/", all->pdata[i], NULL);
		g_autofree char *q = *shown ? g_strconcat(shown, "/", all->pdata[i], NULL)
					    : g_strdup(all->pdata[i]);
		struct stat st;

		disk_object(s, p, q, out);
		if (lstat(p, &st) == 0 && S_ISDIR(st.st_mode))
			disk_dir(s, p, q, out);
	}
	g_ptr_array_free(all, TRUE);
}

char *stack_disk(const struct stack *s, const char *path)
{
	g_autofree char *at = g_strdup(stack_path(s, path));
	GString *out = g_string_new("");

	disk_object(s, at, "", out);
	disk_dir(s, at, "", out);
	return g_string_free(out, FALSE);
}

char *stack_ls(const struct stack *s, const char *path)
{
	GPtrArray *all = names_in(stack_path(s, path));
	GString *out = g_string_new("");

	for (unsigned i = 0; i < all->len; i++)
		g_string_append_printf(out, "%s%s", i ? " " : "", (char *)all->pdata[i]);
	g_ptr_array_free(all, TRUE);
	return g_string_free(out, FALSE);
}

unsigned stack_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3;
}
