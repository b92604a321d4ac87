/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/options.h"

#include <string.h>

/* The last of the C programs, whose options we take. Callers ask for 1.10 at least. */
#define OVERLAYFS_VERSION "1.16"

#define LOWERS G_STRINGIFY(UN_MAX_LOWERS)
#define SPIN G_STRINGIFY(UN_DEFAULT_SPIN)
#define WRITE G_STRINGIFY(UN_DEFAULT_MAX_WRITE)

const char *un_usage_help(void)
{
	return "Usage: fuse-unionfs [-f] [-d] [-s] [-o OPT[,OPT...]]... [SOURCE] MOUNTPOINT\n"
	       "Merge lower directories and one upper directory into one file system.\n"
	       "\n"
	       "  -f                  stay in the foreground, messages to stderr\n"
	       "  -d, --debug         the same, with many messages\n"
	       "  -s                  one thread\n"
	       "  -o OPT[,OPT...]     options, see below\n"
	       "  -h, --help          print this text\n"
	       "  -V, --version       print the version\n"
	       "\n"
	       "fuse-unionfs ctl MOUNTPOINT COMMAND: ask a mounted one; see fuse-unionfs ctl --help\n"
	       "\n"
	       "Layers ('\\:', '\\,' and '\\\\' are literal characters in these paths):\n"
	       "  lowerdir=A[:B...]   read-only layers, first on top, 1 to " LOWERS "\n"
	       "                      A[:B...]::D[::E...]: D, E hold data for metacopy files only\n"
	       "  lowerdir+=PATH      one more below; only '\\,' is special in this path\n"
	       "  datadir+=PATH       the same for a layer with data only\n"
	       "  upperdir=PATH       the layer that takes all changes; without it: read-only\n"
	       "  workdir=PATH        scratch directory on the same mount as the upper\n"
	       "  userxattr           keep marks in user.overlay.*, not trusted.overlay.*\n"
	       "  noxattrs[=0|1]      offer no extended attributes\n"
	       "  noacl[=0|1]         offer no POSIX ACLs; permission is by mode alone\n"
	       "  static_nlink[=0|1]  every directory shows a link count of 1\n"
	       "  ino32_t[=0|1]       inode numbers of 32 bits, for old programs\n"
	       "\n"
	       "The format on disk, as in overlayfs; with redirect_dir=off,metacopy=off,index=off\n"
	       "only what every other mounter reads is written:\n"
	       "  redirect_dir=on     directories of a lower can be renamed (default)\n"
	       "  redirect_dir=follow, off\n"
	       "                      ... cannot, but such renames by others are followed\n"
	       "  redirect_dir=nofollow\n"
	       "                      ... and are refused\n"
	       "  metacopy=on|off     chmod, chown copy no data (default: on)\n"
	       "  index=on|off        hard links of a lower stay linked (default: on; called fuse-overlayfs: off)\n"
	       "  xino=auto|on|off    inode numbers of layers on several file systems\n"
	       "  verity=off|on|require\n"
	       "                      check fs-verity digests in metacopy files (default: off)\n"
	       "  uuid=auto|on|off|null\n"
	       "                      identity of the union, kept in the upper\n"
	       "  nfs_export=on|off   accepted; file handles through the mount are not offered\n"
	       "\n"
	       "Whose files are:\n"
	       "  uidmapping=A:B:N[:A:B:N...]\n"
	       "                      files of users A, A+1, ... A+N-1 are shown as those of B, B+1,\n"
	       "                      ... and what these make is stored so; others are nobody\n"
	       "  gidmapping=A:B:N[:A:B:N...]\n"
	       "                      the same for groups\n"
	       "  squash_to_root[=0|1]\n"
	       "                      all files are shown as root's\n"
	       "  squash_to_uid=ID, squash_to_gid=ID\n"
	       "                      ... as of one user, of one group\n"
	       "  xattr_permissions=0|1|2\n"
	       "                      keep owner, mode and devices in extended attributes, 1:\n"
	       "                      security.fuseoverlayfs.*, 2: user.containers.* (default: 0)\n"
	       "\n"
	       "Safety and speed:\n"
	       "  fsync=auto          a copied-up file is on disk before it is visible (also: 1)\n"
	       "  fsync=strict        ... and so are attributes and directories\n"
	       "  fsync=volatile      sync nothing (also: 0, volatile)\n"
	       "  cache=auto          see what others change in the layers: they are watched (default)\n"
	       "  cache=immutable     nobody changes the layers: nothing is watched\n"
	       "  cache=none          remember nothing, ask at every access (also: timeout=0)\n"
	       "  watches=N           directories to watch at most (default: a tenth of what a user may)\n"
	       "  timeout=SECONDS     how long the kernel may remember names and attributes (default:\n"
	       "                      forever, or until they change)\n"
	       "  writeback[=0|1]     let the kernel collect writes (default: 0)\n"
	       "  threads=N           threads that are always there, 1 to 1024 (default: as many as CPUs)\n"
	       "  max_threads=N       at most, while all are busy and requests wait (default: 32)\n"
	       "  spin=MICROSECONDS   how long a thread that gets request after request keeps asking\n"
	       "                      for the next before it sleeps; 0: never (default: " SPIN ")\n"
	       "  clone_fd[=0|1]      one /dev/fuse descriptor per thread (default: 1)\n"
	       "  io_uring=auto       requests over io_uring where the kernel offers it (default)\n"
	       "  io_uring=on|off     ... or no mount without it; never\n"
	       "  passthrough=auto    with cache=none the kernel reads and writes files of the layers by\n"
	       "                      itself where it can, which takes root (default)\n"
	       "  passthrough=on|off  ... always, at a request for each open, or no mount without it; never\n"
	       "  max_write=BYTES     largest write request, 4096 to 1048576 (default: " WRITE ")\n"
	       "  read_ahead=BYTES    how far the kernel reads ahead, 4096 to 16777216; more than\n"
	       "                      131072 takes root (default: the kernel's)\n"
	       "\n"
	       "The mount:\n"
	       "  ro, rw              read-only or not\n"
	       "  allow_other         all users may use it (default for root)\n"
	       "  allow_root          the user who mounts and root may use it\n"
	       "  [no]suid, [no]dev   set-id bits and devices work (default for root)\n"
	       "  [no]exec, [no]atime, sync, async, dirsync\n"
	       "                      as in mount(8)\n"
	       "  fsname=NAME         first column of the mount table (default: SOURCE)\n"
	       "  subtype=NAME        type is fuse.NAME (default: fuse-unionfs)\n"
	       "  context=LABEL, fscontext=, defcontext=, rootcontext=\n"
	       "                      SELinux labels, if the kernel has SELinux\n"
	       "  auto_unmount        unmount should the program die\n"
	       "  debug               as -d\n"
	       "\n"
	       "Options of fuse-overlayfs and overlayfs that are not listed, and unknown ones, are\n"
	       "ignored with a warning. Everything is explained in fuse-unionfs(1).\n";
}

#define OURS                                                                                       \
	"fuse-unionfs: version " UN_VERSION "\n"                                                   \
	"License GPL-2.0-or-later; there is no warranty, to the extent permitted by law.\n"

bool un_called_fuse_overlayfs(const char *program)
{
	const char *slash = strrchr(program, '/');

	return strcmp(slash ? slash + 1 : program, "fuse-overlayfs") == 0;
}

const char *un_usage_version(const char *program)
{
	if (un_called_fuse_overlayfs(program))
		return "fuse-overlayfs: version " OVERLAYFS_VERSION "\n" OURS;
	return OURS;
}
