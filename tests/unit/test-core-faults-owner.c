/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owner and mode in an xattr, while the upper fails; see fault-loop.h. */
#include <glib.h>

#include "../lib/fault-loop.h"

#define CARRIES "user.containers.override_stat="
#define IMAGE                                                                                      \
	"1 d/ mode=0700 " CARRIES "0:0:0755\n"                                                     \
	"1 d/f = data mode=0700 " CARRIES "5:6:04640:file acl=7:6 time=900000000\n"                \
	"1 d/c = mode=0700 " CARRIES "0:0:0666:char-1-3\n"                                         \
	"1 d/old = x mode=0750\n"

static const struct fault_case cases[] = {
	{ "create", IMAGE, "create d/new 0600", OVERRIDE },
	{ "create-closed", IMAGE, "create d/new 00", OVERRIDE },
	{ "create-acl", "u d/ defacl=9:7", "create d/w 0666", OVERRIDE },
	{ "create-as-stranger", "u d/ mode=0777", "create d/w 02755 as=1000:1000",
	  OVERRIDE | ROOT },
	{ "create-over-whiteout", "1 d/w = lower\nu d/w whiteout", "create d/w 0604", OVERRIDE },
	{ "mkdir", IMAGE, "mkdir d/new 0500", OVERRIDE },
	{ "mkdir-over-whiteout", "1 d/w/x = lower\nu d/w whiteout", "mkdir d/w 0", OVERRIDE },
	{ "mknod", IMAGE, "mknod d/new 0622 1:5", OVERRIDE },
	{ "fifo", IMAGE, "fifo d/new 0604", OVERRIDE },
	{ "symlink", IMAGE, "symlink d/new to", OVERRIDE },
	{ "tmpfile-link", IMAGE, "tmpfile d text d/new", OVERRIDE },
	{ "chmod-lower", IMAGE, "chmod d/f 0600", OVERRIDE },
	{ "chmod-lower-format", IMAGE, "chmod d/f 0600", OVERRIDE | FORMAT },
	{ "chmod", "u f = x " CARRIES "5:6:0700", "chmod f 00", OVERRIDE },
	{ "chmod-without", "u f = x mode=0640", "chmod f 0600", OVERRIDE },
	{ "chmod-device", IMAGE, "chmod d/c 0600", OVERRIDE },
	{ "chown", "u f = x mode=0600", "chown f 7:8", OVERRIDE },
	{ "chown-setid", "u f = x mode=0600 " CARRIES "5:6:06711", "chown f 7:8", OVERRIDE },
	{ "chown-lower", IMAGE, "chown d/f 7:8", OVERRIDE },
	{ "chown-dir", IMAGE, "chown d 7:8", OVERRIDE },
	{ "write", IMAGE, "write d/f more", OVERRIDE },
	{ "truncate", IMAGE, "truncate d/old 0", OVERRIDE },
	{ "rename-device", IMAGE, "rename d/c d/z", OVERRIDE },
	{ "rename-dir", IMAGE, "rename d e", OVERRIDE | FORMAT },
	{ "unlink", IMAGE, "unlink d/c", OVERRIDE },
	{ "setacl", "u f = x mode=0600 " CARRIES "5:6:0640", "setacl f 9:7", OVERRIDE | IN_TWO },
};

int main(int argc, char **argv)
{
	return fault_main(cases, G_N_ELEMENTS(cases), argc, argv);
}
