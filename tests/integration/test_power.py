# SPDX-License-Identifier: GPL-2.0-or-later
"""
What fsync, fdatasync, O_DSYNC and msync promised is there after a power loss: a file system in an image is
shut down without its log being written, mounted again and looked at. And what never got to the disk, for want
of room below the file system, is told to everybody who asks.
"""
import mmap
import os
import subprocess
import time

from lib import k, test, tree
from lib.disk import Disk

MKFS = {'ext4': (['mkfs.ext4', '-q', '-F'], 64 << 20, 'commit=600'),
        'xfs': (['mkfs.xfs', '-q', '-f'], 320 << 20, '')}
BIG = b'b' * 9000


def _fdatasync(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(fd, data)
    os.fdatasync(fd)
    os.close(fd)


def _fsync(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)


def _dsync(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_DSYNC | flags, 0o644)
    os.write(fd, data)
    os.close(fd)


def _msync(path, data, flags=0):
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, len(data)) as m:
        m[:] = data
        m.flush()
    os.close(fd)


def _twice(path, data, flags=0):
    """By the second of two who wrote it."""
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b'first')
    other = os.open(path, os.O_WRONLY)
    os.pwrite(other, data, 0)
    os.fdatasync(other)
    os.close(other)
    os.close(fd)


def _metacopied(path, data, flags=0):
    os.chmod(path, 0o640)
    os.sync()
    _fdatasync(path, data)


def _evicted(path, data, flags=0):
    """The kernel has forgotten the file between its first change and the one that is made sure of."""
    with open(path, 'r+b') as f:
        f.write(b'first')
    k.drop_caches()
    _fdatasync(path, data)


def _allocated(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY)
    os.posix_fallocate(fd, 0, 20000)
    os.pwrite(fd, data, 0)
    os.fdatasync(fd)
    os.close(fd)


def _directory(path, data, flags=0):
    _fsync(path, data)
    fd = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fdatasync(fd)
    os.close(fd)


def _cut(path, data, flags=0):
    _fdatasync(path, data, os.O_TRUNC)


def _shortened(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY)
    os.ftruncate(fd, len(data))
    os.pwrite(fd, data, 0)
    os.fdatasync(fd)
    os.close(fd)


def _created(path, data, flags=0):
    _fdatasync(path + '-new', data, os.O_CREAT | os.O_EXCL)


def _over_whiteout(path, data, flags=0):
    os.unlink(path)
    os.sync()
    _fdatasync(path, data, os.O_CREAT | os.O_EXCL)


CASES = {'fsync': (_fsync, 'f'), 'fdatasync': (_fdatasync, 'f'), 'dsync': (_dsync, 'f'), 'msync': (_msync, 'f'),
         'deep': (_fdatasync, 'd/e/f'), 'second': (_twice, 'f'), 'metacopied': (_metacopied, 'f'),
         'forgotten': (_evicted, 'f'), 'deep forgotten': (_evicted, 'd/e/f'), 'link': (_fdatasync, 'd/h2'),
         'link, metacopied': (_metacopied, 'd/h2'), 'cut off': (_cut, 'f'), 'link, cut off': (_cut, 'h'),
         'shortened': (_shortened, 'f'), 'allocated': (_allocated, 'f'), 'directory': (_directory, 'd/e/f'),
         'created': (_created, 'f'), 'created below a lower directory': (_created, 'd/e/f'),
         'created by a name that was removed': (_over_whiteout, 'f')}


def _lost(t, disk):
    """The names of the cases in which what was promised is not there."""
    lost = []
    for n, (name, (act, rel)) in enumerate(CASES.items()):
        u = t.union(text='f f x; d d; d d/e; f d/e/f x; f h x; h d/h2 h', name='u%d' % n)
        for p in ('f', 'd/e/f', 'h'):
            tree.write(u.low(p), BIG)
        u.check_lowers = u.check_layers = False
        u.upper, u.work = ['%s/%d/%s' % (disk.at, n, d) for d in ('upper', 'work')]
        os.makedirs(u.upper)
        os.makedirs(u.work)
        os.sync()
        u.mount()
        os.listdir(u.mnt)
        os.sync()
        data = b'promised to be there'
        act(u.m(rel), data)
        disk.power_loss()
        k.umount(u.mnt)
        u.proc.wait(10)
        u.proc = None
        disk.power_on()
        u.mount()
        try:
            made = rel + '-new' if act is _created else rel
            if tree.read(u.m(made))[:len(data)] != data:
                lost.append(name)
        except OSError as e:
            lost.append('%s: %s' % (name, e.strerror))
        u.umount()
    return lost


def _test(t, fs):
    mkfs, size, options = MKFS[fs]
    t.eq(_lost(t, Disk(t, mkfs, size, options)), [])


@test(identities=('root',), timeout=180)
def ext4_keeps_what_was_promised(t):
    _test(t, 'ext4')


@test(identities=('root',), timeout=180)
def xfs_keeps_what_was_promised(t):
    _test(t, 'xfs')


# ---- write-back that fails

ROOM = 40 << 20


class _Full:
    """An upper on a disk that cannot be written to any more, with a file of the lower already copied up."""

    def __init__(self, t):
        self.t, self.home = t, t.dir + '/room'
        os.mkdir(self.home)
        k.mount('none', self.home, 'tmpfs', 0, 'size=%d' % ROOM)
        self.disk = Disk(t, ['mkfs.ext4', '-q', '-F', '-O', '^has_journal'], 64 << 20, home=self.home)
        self.u = u = t.union(text='f f x; f g x; f h x')
        u.check_lowers = u.check_layers = False
        u.upper, u.work = self.disk.at + '/upper', self.disk.at + '/work'
        os.mkdir(u.upper)
        os.mkdir(u.work)
        u.mount()
        for n in 'fgh':
            _fsync(u.m(n), b'first')
        os.sync()
        with open(self.home + '/fill', 'wb', 0) as f:
            try:
                while True:
                    f.write(bytes(65536))
            except OSError:
                pass

    def room(self):
        os.unlink(self.home + '/fill')

    def sync(self):
        """As anybody may, at any time: dirty pages go out, or are lost."""
        subprocess.run(['sync', '-f', self.disk.at], stderr=subprocess.DEVNULL)


def _says(fd, call=os.fsync):
    try:
        call(fd)
        return 'ok'
    except OSError:
        return 'error'


LOST = b'n' * (4 << 20)


@test(identities=('root',), timeout=60)
def every_descriptor_is_told_of_a_failed_write_back(t):
    full = _Full(t)
    u = full.u
    a, b = os.open(u.m('f'), os.O_RDWR), os.open(u.m('f'), os.O_RDWR)
    os.pwrite(a, LOST, 4096)
    t.eq([_says(fd, call) for fd in (a, b, a, b) for call in (os.fsync, os.fdatasync)], ['error'] * 8)
    c = os.open(u.m('f'), os.O_RDONLY)
    t.eq(_says(c), 'error', 'opened afterwards')
    other = os.open(u.m('g'), os.O_RDWR)
    t.eq(_says(other), 'ok', 'another file')
    full.room()
    t.eq(_says(a), 'error', 'with room again, and the data gone')
    os.pwrite(a, b'x', 0)
    t.eq(_says(b), 'error', 'with some of it written anew')
    k.drop_caches()
    t.eq(_says(b), 'error', 'without memory')
    os.pwrite(b, b'all' * 2000000, 0)
    if t.passes:
        t.eq([_says(fd) for fd in (a, b, c)], ['error'] * 3, 'written anew, which nobody but the kernel has seen')
        for fd in (a, b, c):
            os.close(fd)
        end = time.monotonic() + 5
        while time.monotonic() < end:               # until all RELEASEs are there
            a, b, c = os.open(u.m('f'), os.O_RDWR), os.open(u.m('f'), os.O_RDWR), os.open(u.m('f'), os.O_RDONLY)
            os.pwrite(b, b'all' * 2000000, 0)
            if _says(a) == 'ok':
                break
            for fd in (a, b, c):
                os.close(fd)
            time.sleep(0.05)
    t.eq([_says(fd) for fd in (a, b, c)], ['ok'] * 3, 'all of it written anew')
    for fd in (a, b, c, other):
        os.close(fd)
    t.ok('could not be written to disk' in u.log_text(), 'a line in the log')
    u.umount()


@test(identities=('root',), timeout=60)
def failed_write_back_is_told_after_idleness(t):
    """The daemon has let go of its descriptor, the pages are gone from memory, somebody else was told before."""
    full = _Full(t)
    u = full.u
    for n, busy in (('f', lambda: time.sleep(3)), ('g', lambda: None)):
        a, b = os.open(u.m(n), os.O_RDWR), os.open(u.m(n), os.O_RDWR)
        os.pwrite(a, LOST, 4096)
        busy()
        full.sync()
        fd = os.open(u.up(n), os.O_RDONLY)
        _says(fd)       # another program on the upper takes the news away
        t.eq(_says(fd), 'ok', 'asked again')
        os.close(fd)
        k.drop_caches(3)
        t.eq([_says(a), _says(b), _says(a)], ['error'] * 3, n)
        os.close(a)
        os.close(b)
    u.umount()


@test(identities=('root',), timeout=60)
def a_program_that_was_written_runs_from_its_layer(t):
    """What is kept open until it is on disk is not kept open for writing."""
    u = t.mounted('f f x')
    tree.write(u.m('p'), '#!/bin/sh\nexit 0\n')
    tree.write(u.m('q'), tree.read('/bin/true'))
    for n in 'pq':
        os.chmod(u.m(n), 0o755)
    end = time.monotonic() + 10 * t.slow
    while True:
        try:
            t.eq([subprocess.run([u.up(n)]).returncode for n in 'pq'], [0, 0])
            break
        except OSError as e:
            t.ok(time.monotonic() < end, 'still %s' % e)
            time.sleep(0.2)
    u.umount()
