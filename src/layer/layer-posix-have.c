/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "layer-posix_i.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <unistd.h>

struct un_posix_have un_posix_found;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* With a bad descriptor, so that the answer cannot be about a file. */
static void ask(void)
{
	struct open_how how = { .flags = O_PATH };
	struct xattr_args_v0 args = { 0 };
	struct file_attr_v0 attr;

	un_posix_found.openat2 =
		syscall(SYS_openat2, -1, "x", &how, sizeof(how)) < 0 && errno == EBADF;
	un_posix_found.fchmodat2 = syscall(SYS_fchmodat2, -1, "x", 0, 0) < 0 && errno == EBADF;
	un_posix_found.getattr =
		syscall(SYS_file_getattr, -1, "x", &attr, sizeof(attr), 0) < 0 && errno == EBADF;
	un_posix_found.xattrat =
		syscall(SYS_getxattrat, -1, "x", 0, "user.x", &args, sizeof(args)) < 0 &&
		errno == EBADF &&
		syscall(SYS_setxattrat, -1, "x", 0, "user.x", &args, sizeof(args)) < 0 &&
		errno == EBADF && syscall(SYS_listxattrat, -1, "x", 0, NULL, 0) < 0 &&
		errno == EBADF && syscall(SYS_removexattrat, -1, "x", 0, "user.x") < 0 &&
		errno == EBADF;
}

const struct un_posix_have *un_posix_have(void)
{
	pthread_once(&once, ask);
	return &un_posix_found;
}
