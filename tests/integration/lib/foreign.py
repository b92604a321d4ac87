# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems of other kinds, to be layers: each shows a directory, or an image made of it."""
import os
import socket
import subprocess
import time

from . import kernel as k
from .registry import Fail

# FUSE: what shows a directory as it is, to be changed too
LIVE = {
    'bindfs': lambda src, at: ['bindfs', '-f', src, at],
    'mergerfs': lambda src, at: ['mergerfs', '-f', '-o', 'xattr=passthrough', src, at],
    'unionfs': lambda src, at: ['unionfs', '-f', src + '=RW', at],
    'rclone': lambda src, at: ['rclone', 'mount', '--vfs-cache-mode', 'writes', ':local:' + src, at],
    'fuse-overlayfs': lambda src, at: ['fuse-overlayfs', '-f', '-o', 'lowerdir=' + src, at],
    'sshfs': lambda src, at: ['sshfs', '-f', '-o', 'passive', 'x:' + src, at],
}
# ... and images
IMAGES = {
    'squashfuse': lambda img, at: ['squashfuse', '-f', img, at],
    'squashfuse_ll': lambda img, at: ['squashfuse_ll', '-f', img, at],
    'fuse2fs': lambda img, at: ['fuse2fs', '-f', '-o', 'fakeroot', img, at],
    'fuseiso': lambda img, at: ['fuseiso', '-n', img, at, '-f'],
    'erofsfuse': lambda img, at: ['erofsfuse', '-f', img, at],
}
# The kernel's: what makes an image of a directory, and the type
KERNEL = {
    'squashfs': lambda src, img: ['mksquashfs', src, img, '-quiet', '-no-progress', '-xattrs'],
    'erofs': lambda src, img: ['mkfs.erofs', '-x1', img, src],
    'erofs-lz4': lambda src, img: ['mkfs.erofs', '-x1', '-zlz4', img, src],
    'iso9660': lambda src, img: ['xorriso', '-as', 'mkisofs', '-quiet', '-R', '-o', img, src],
    'cramfs': lambda src, img: ['mkfs.cramfs', src, img],
}
SFTP_SERVER = '/usr/lib/openssh/sftp-server'


class Foreign:
    """A mount of kind @kind at @at; of FUSE, with its server."""

    def __init__(self, t, kind, src, *opts):
        self.t, self.kind, self.src = t, kind, src
        self.at = '%s/%s-at' % (t.dir, kind)
        os.makedirs(self.at, exist_ok=True)
        self.proc = self.sftp = None
        if kind in LIVE:
            self._serve(LIVE[kind](src, self.at) + list(opts))
        elif kind in IMAGES:
            maker = {'fuse2fs': 'ext4', 'erofsfuse': 'erofs', 'fuseiso': 'iso9660'}.get(kind, 'squashfs')
            t.need(IMAGES[kind]('', '')[0])
            self._serve(IMAGES[kind](self._image(maker), self.at))
        else:
            self._mount(kind.partition('-')[0])

    def _image(self, kind):
        img = '%s/%s.img' % (self.t.dir, self.kind)
        if kind == 'ext4':
            with open(img, 'wb') as f:
                f.truncate(64 << 20)
            self.t.run('mkfs.ext4', '-q', '-F', '-d', self.src, img)
            self.t.run('debugfs', '-w', '-R', 'rmdir lost+found', img)      # only root may look into it
        else:
            cmd = KERNEL[kind](self.src, img)
            self.t.need(cmd[0])
            self.t.run(*cmd)
        return img

    def _mount(self, typ):
        p = subprocess.run(['mount', '-t', typ, '-o', 'loop,ro', self._image(self.kind), self.at],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode:
            self.t.skip('cannot mount %s: %s' % (self.kind, p.stdout))

    def _serve(self, cmd):
        self.t.need(cmd[0])
        io = {'stdin': subprocess.DEVNULL}
        pair = ()
        if self.kind == 'sshfs':
            self.t.need(SFTP_SERVER)
            pair = socket.socketpair()
            self.sftp = subprocess.Popen([SFTP_SERVER], stdin=pair[0], stdout=pair[0])
            io = {'stdin': pair[1], 'stdout': pair[1]}
        self.log = open('%s/%s.log' % (self.t.logs, self.kind), 'wb')
        io.setdefault('stdout', self.log)
        self.proc = subprocess.Popen(cmd, stderr=self.log, **io)
        for s in pair:
            s.close()
        end = time.monotonic() + 15 * self.t.slow
        while not k.mounted_at(self.at):
            if self.proc.poll() is not None or time.monotonic() > end:
                with open(self.log.name, errors='replace') as f:
                    why = '%s does not mount: %s' % (self.kind, f.read()[-500:])
                if not self.t.root:
                    self.t.skip(why)        # it wants more than a plain user has (allow_other)
                raise Fail(why)
            time.sleep(0.02)
        os.stat(self.at)

    def umount(self):
        for i in range(100):
            try:
                if self.t.identity == 'user':
                    subprocess.run(['fusermount3', '-u', self.at], stderr=subprocess.DEVNULL)
                    if k.mounted_at(self.at):
                        raise OSError('%s is still mounted' % self.at)
                else:
                    k.umount(self.at)
                break
            except OSError:
                if i == 99:
                    raise
                time.sleep(0.05)
        if self.proc:
            self.proc.wait(20)
            self.log.close()
        if self.sftp:
            self.sftp.wait(20)
