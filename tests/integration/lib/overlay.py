# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's overlayfs on a union's layers, and what the format's tests ask of one."""
import contextlib
import os
import re
import signal
import time

from . import kernel as k
from .registry import Fail, Skip
from .union import escape

FULL = ('redirect_dir=on', 'metacopy=on', 'index=on')      # our defaults, as the kernel says them
PLAIN = ('redirect_dir=off', 'metacopy=off', 'index=off')  # what every mounter reads


@contextlib.contextmanager
def by_kernel(u, *opts, where=None):
    """The unmounted union's layers, mounted by the kernel on its mountpoint."""
    where = where or u.mnt
    data = ['lowerdir=' + ':'.join(map(escape, u.lowers))]
    if u.upper:
        data += ['upperdir=' + escape(u.upper), 'workdir=' + escape(u.work)]
    try:
        k.mount('overlay', where, 'overlay', 0, ','.join(data + list(opts)))
    except OSError as e:
        if k.mounts() and 'overlay' not in open('/proc/filesystems').read():
            raise Skip('no kernel overlayfs here')
        raise e
    try:
        yield where
    finally:
        k.umount(where, k.MNT_DETACH)


def copied(u):
    """Bytes of file data the daemon has copied so far."""
    start = len(u.log_text())
    os.kill(u.daemon_pid(), signal.SIGUSR1)
    end = time.monotonic() + 5 * u.t.slow
    while time.monotonic() < end:
        m = re.search(r'copied_bytes=(\d+)\n', u.log_text()[start:])
        if m:
            return int(m[1])
        time.sleep(0.002)
    raise Fail('no counts in the log after SIGUSR1')


def blocks(path):
    """Allocated 512-byte blocks of all regular files below."""
    total = 0
    for d, _, fs in os.walk(path):
        for n in fs:
            st = os.lstat(os.path.join(d, n))
            total += st.st_blocks if st.st_mode & 0o170000 == 0o100000 else 0
    return total


def mark(u, path, name):
    """The value of an overlay mark of a layer's object, or None."""
    try:
        return os.getxattr(path, '%s.overlay.%s' % (u.t.ns, name), follow_symlinks=False)
    except OSError:
        return None


def said(u, text):
    """Lines of the daemon's log that contain @text."""
    return [s for s in u.log_text().split('\n') if text in s]


def index_entries(u):
    """Entries of WORK/index (mode 0000: its owner must lift that to look), without what is staged."""
    d = os.path.join(u.work, 'index')
    if not os.path.isdir(d):
        return []
    mode = os.stat(d).st_mode & 0o7777
    os.chmod(d, 0o700)
    try:
        return sorted(n for n in os.listdir(d) if n[0] != '#')
    finally:
        os.chmod(d, mode)
