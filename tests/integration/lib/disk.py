# SPDX-License-Identifier: GPL-2.0-or-later
"""A file system in an image of its own, that can lose its power or its room."""
import contextlib
import fcntl
import os
import struct
import subprocess

from . import kernel as k

FIFREEZE, FITHAW = 0xc0045877, 0xc0045878
SHUTDOWN, NOLOGFLUSH = 0x8004587d, 2     # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN


class Disk:
    def __init__(self, t, mkfs, size, options='', home=None):
        """@home: the directory where the image is, and where it is mounted; else the test's own."""
        t.need(mkfs[0])
        home = home or t.dir
        self.t, self.img, self.at, self.options = t, home + '/disk.img', t.dir + '/disk', options
        with open(self.img, 'wb') as f:
            f.truncate(size)
        t.run(*mkfs, self.img)
        os.makedirs(self.at, exist_ok=True)
        self.mount()

    def mount(self):
        p = subprocess.run(['mount', '-o', ','.join(['loop'] + [o for o in [self.options] if o]), self.img, self.at],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode:
            self.t.skip('cannot mount an image: %s' % p.stdout.strip())

    @contextlib.contextmanager
    def frozen(self):
        """Meanwhile who changes anything waits, and cannot be killed."""
        fd = os.open(self.at, os.O_RDONLY)
        fcntl.ioctl(fd, FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, FITHAW, 0)
            os.close(fd)

    def power_loss(self):
        """From now on nothing reaches the disk, not even what is in the log's memory."""
        fd = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack('I', NOLOGFLUSH))
        finally:
            os.close(fd)

    def power_on(self):
        k.umount(self.at)
        self.mount()
