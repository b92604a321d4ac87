# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems to test on: the scratch directory's own, tmpfs, and images on loop devices."""
import os
import shutil
import subprocess

from . import kernel as k

SIZES = {'ext4': 8 << 30, 'xfs': 8 << 30, 'btrfs': 8 << 30, 'fuse2fs': 2 << 30}     # sparse
MKFS = {'ext4': ['mkfs.ext4', '-q', '-F'], 'xfs': ['mkfs.xfs', '-q', '-f'],
        'btrfs': ['mkfs.btrfs', '-q', '-f'], 'fuse2fs': ['mkfs.ext4', '-q', '-F']}
# FUSE file systems that lack more than one thing.
FUSE = {'fuse2fs': ['fuse2fs', '-o', 'rw,allow_other'], 'bindfs': ['bindfs']}
TYPES = {0xef53: 'ext4', 0x01021994: 'tmpfs', 0x58465342: 'xfs', 0x9123683e: 'btrfs',
         0x794c7630: 'overlay'}


def type_of(path):
    out = subprocess.run(['stat', '-f', '-c', '%t', path], stdout=subprocess.PIPE, text=True)
    return TYPES.get(int(out.stdout, 16), out.stdout.strip())


class Images:
    """Directories on each file system, made when first asked for; gone with the namespace."""

    def __init__(self, run_dir):
        self.dir = run_dir
        self.ready = {}

    def get(self, fs):
        """(directory, None) or (None, why not). tmpfs is mounted by each test for itself."""
        if fs not in self.ready:
            self.ready[fs] = self._make(fs)
        return self.ready[fs]

    def _make(self, fs):
        here = os.path.join(self.dir, fs)
        os.mkdir(here, 0o755)
        if fs == 'tmpfs' or type_of(self.dir) == fs:
            return here, None
        if os.geteuid() != 0:
            return None, 'needs root to make a %s image' % fs
        for cmd in (FUSE.get(fs), MKFS.get(fs)):
            if cmd and not shutil.which(cmd[0]):
                return None, '%s is missing' % cmd[0]
        img = here + '.img'
        if fs in MKFS:
            with open(img, 'wb') as f:
                f.truncate(SIZES[fs])
        else:
            os.mkdir(img)
        for cmd in (MKFS.get(fs, ['true']) + [img], FUSE.get(fs, ['mount', '-o', 'loop']) + [img, here]):
            p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if p.returncode:
                return None, '%s: %s' % (cmd[0], p.stdout.strip().split('\n')[-1])
        if fs not in FUSE:
            os.unlink(img)      # the loop device keeps it; nothing is left when it is unmounted
        os.chmod(here, 0o755)
        return here, None

    def close(self):
        for fs in self.ready:
            here = os.path.join(self.dir, fs)
            if os.path.ismount(here):
                try:
                    k.umount(here, k.MNT_DETACH)
                except OSError:
                    pass
