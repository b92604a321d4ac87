/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A layer on a slow disk: shows the directory SOURCE, read-only, at MOUNTPOINT; each READ takes MS milliseconds, as many
 * at a time as there are. Stopped (SIGSTOP) it answers nobody. In the foreground.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 96

static const char *source;
static unsigned delay_ms;

static const char *real(const char *path, char *buf)
{
	snprintf(buf, PATH_MAX, "%s%s", source, path);
	return buf;
}

static int slow_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	char buf[PATH_MAX];

	(void)fi;
	return lstat(real(path, buf), st) < 0 ? -errno : 0;
}

static int slow_readdir(const char *path, void *out, fuse_fill_dir_t fill, off_t off,
			struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	char buf[PATH_MAX];
	DIR *d = opendir(real(path, buf));
	struct dirent *e;

	(void)off;
	(void)fi;
	(void)flags;
	if (!d)
		return -errno;
	while ((e = readdir(d)))
		fill(out, e->d_name, NULL, 0, 0);
	closedir(d);
	return 0;
}

static int slow_open(const char *path, struct fuse_file_info *fi)
{
	char buf[PATH_MAX];
	int fd = open(real(path, buf), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	return 0;
}

static int slow_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	ssize_t n;

	(void)path;
	usleep(delay_ms * 1000);
	n = pread((int)fi->fh, buf, size, off);
	return n < 0 ? -errno : (int)n;
}

static int slow_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	close((int)fi->fh);
	return 0;
}

static void *slow_init(struct fuse_conn_info *conn, struct fuse_config *c)
{
	conn->max_background = THREADS;
	conn->congestion_threshold = THREADS;
	c->attr_timeout = c->entry_timeout = 3600;
	c->use_ino = 1;
	return NULL;
}

static void *serve(void *se)
{
	struct fuse_buf b = { .mem = NULL };

	while (fuse_session_receive_buf(se, &b) > 0)
		fuse_session_process_buf(se, &b);
	return NULL;
}

int main(int argc, char **argv)
{
	const struct fuse_operations ops = {
		.getattr = slow_getattr,
		.readdir = slow_readdir,
		.open = slow_open,
		.read = slow_read,
		.release = slow_release,
		.init = slow_init,
	};
	char *fuse_argv[] = { argv[0], (char[]){ "-oro,default_permissions,fsname=slow" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, fuse_argv);
	pthread_t threads[THREADS];
	struct fuse *f;

	if (argc != 4) {
		fprintf(stderr, "usage: slow SOURCE MOUNTPOINT MS\n");
		return 2;
	}
	source = argv[1];
	delay_ms = (unsigned)atoi(argv[3]);
	f = fuse_new(&args, &ops, sizeof(ops), NULL);
	if (!f || fuse_mount(f, argv[2]) < 0)
		return 1;
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, serve, fuse_get_session(f)))
			return 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	fuse_destroy(f);
	return 0;
}
