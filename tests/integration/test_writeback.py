# SPDX-License-Identifier: GPL-2.0-or-later
"""writeback=1: an option with rules of its own (src/transport/README.md, Write-back)."""
import ctypes
import errno
import os
import signal
import time

from lib import k, test, tree
from lib.disk import Disk


@test(identities=('root', 'user'), everywhere=True)
def data_and_times(t):
    """What was written is there after unmount; mtimes set with cp -a, touch and tar are exact on
    the mount and below, those of plain writes do not jump at the remount."""
    u = t.union(text='f low hello; f d/x 1')
    u.mount('writeback=1')
    tree.append(u.m('low'), ' world')
    t.sh('for i in 1 2 3 4 5 6 7 8; do echo $i > n$i; done; cp -a n1 c1; touch -d "2020-02-02 02:02:02.123456789" n2;'
         'tar -cf t.tar n1 n2; mkdir x; tar -xf t.tar -C x', cwd=u.mnt)
    fd = os.open(u.m('big'), os.O_CREAT | os.O_RDWR)
    for i in range(200):
        os.pwrite(fd, b'%04d' % i * 1000, i * 4000)
    t.eq(os.pread(fd, 8, 3996), b'00000001')
    os.close(fd)
    os.sync()
    before = {r: os.lstat(u.m(r)).st_mtime_ns for r in tree.walk(u.mnt)}
    if t.root:
        k.drop_caches(3)
        t.eq({r: os.lstat(u.m(r)).st_mtime_ns for r in before}, before, 'after drop_caches')
    u.remount()
    t.eq({r: os.lstat(u.m(r)).st_mtime_ns for r in tree.walk(u.mnt)}, before, 'after a remount')
    t.eq(tree.text(u.m('low')), 'hello world')
    t.eq((os.stat(u.m('big')).st_size, tree.read(u.m('big'))[-4:]), (800000, b'0199'))
    for r in ('n2', 'c1', 'x/n1'):
        t.eq(os.stat(u.up(r)).st_mtime_ns, before[r], 'below: ' + r)
    t.eq(before['n2'] % 10**9, 123456789)


@test(identities=('root', 'user'))
def sigterm_keeps_what_was_written(t):
    """SIGTERM flushes before it unmounts, also when files are open."""
    for busy in (False, True):
        u = t.union(text='f low hello', name='busy' if busy else 'idle')
        u.mount('writeback=1')
        fd = os.open(u.m('n'), os.O_CREAT | os.O_RDWR)
        os.write(fd, b'x' * 300000)
        if not busy:
            os.close(fd)
        u.proc.send_signal(signal.SIGTERM)
        end = time.monotonic() + 5 * t.slow
        while k.mounted_at(u.mnt):
            t.ok(time.monotonic() < end, 'still mounted')
            time.sleep(0.02)
        if busy:
            time.sleep(0.2)
            t.eq(os.stat(u.up('n')).st_size, 300000, 'dirty pages were not flushed')
            os.close(fd)
        u.wait_end()
        t.eq(tree.read(u.up('n')), b'x' * 300000)


@test(identities=('root',), timeout=60)
def killed_while_it_flushes(t):
    """SIGTERM has the mount flushed, which takes as long as the disk; kill -9 meanwhile ends the daemon when the disk is
    back: no thread of its own waits for what another would have answered."""
    disk = Disk(t, ('mkfs.ext4', '-q', '-F'), 64 << 20)
    for name in ('upper', 'work'):
        os.mkdir(disk.at + '/' + name)
    u = t.union(text='f low hello')
    u.upper, u.work = disk.at + '/upper', disk.at + '/work'
    u.mount('writeback=1', 'volatile')
    fd = os.open(u.m('n'), os.O_CREAT | os.O_RDWR)
    with disk.frozen():
        os.write(fd, b'x' * 4000)
        u.proc.send_signal(signal.SIGTERM)
        time.sleep(0.5 * t.slow)
        t.ok(k.mounted_at(u.mnt), 'flushed on a disk that is frozen')
        u.proc.kill()
        time.sleep(0.1 * t.slow)
    u.proc.wait(10 * t.slow)
    u.proc = None
    try:
        os.close(fd)
    except OSError as e:
        t.ok(e.errno in (errno.EIO, errno.ENOTCONN), e)
    u.detach()
    k.umount(disk.at)


@test(identities=('root', 'user'))
def read_only_files_and_pressure(t):
    """Files created 0444 or made unreadable keep what was written to them after the descriptor
    was closed: the pages come later."""
    u = t.mounted('d d', 'writeback=1')
    for i in range(50):
        fd = os.open(u.m('d/f%d' % i), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444 if i % 2 else 0)
        os.write(fd, b'content %d' % i)
        if i % 3 == 0:
            os.unlink(u.m('d/f%d' % i))
        os.close(fd)
    os.sync()
    u.umount()
    for i in range(50):
        if i % 3:
            t.eq(os.stat(u.up('d/f%d' % i)).st_size, len('content %d' % i), i)


@test(identities=('root', 'user'))
def appends_and_truncates(t):
    u = t.mounted('f log start', 'writeback=1')
    a, b = os.open(u.m('log'), os.O_WRONLY | os.O_APPEND), os.open(u.m('log'), os.O_WRONLY | os.O_APPEND)
    for i in range(100):
        os.write(a, b'a' * 10)
        os.write(b, b'b' * 10)
    t.eq(os.stat(u.m('log')).st_size, 2005)
    os.ftruncate(a, 100)
    os.write(b, b'end')
    t.eq(tree.read(u.m('log'))[-5:], b'abend' if tree.read(u.m('log'))[98:100] == b'ab' else
         tree.read(u.m('log'))[98:100] + b'end')
    os.close(a)
    os.close(b)
    u.remount()
    t.eq(os.stat(u.m('log')).st_size, 103)


@test(filesystems=('tmpfs',), timeout=60)
def an_allocation_is_killed(t):
    """The room it took is given back, but not where the kernel has written older pages meanwhile."""
    u = t.mounted('', 'writeback=1', 'threads=4')
    data = bytes(range(1, 251)) * 4096
    libc, late = ctypes.CDLL(None), 0
    for i in range(10):
        fd = os.open(u.m('n'), os.O_CREAT | os.O_TRUNC | os.O_RDWR)
        os.write(fd, data)
        pid = os.fork()
        if pid == 0:
            k.fallocate(fd, 0, 0, 400 << 20)
            os._exit(0)
        time.sleep(0.01)
        libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(len(data)), 7)
        os.kill(pid, signal.SIGKILL)
        late += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        os.close(fd)
        t.ok(tree.read(u.up('n'))[:len(data)] == data, 'round %d: what was written is lost' % i)
        if late == 3:
            break
    t.ok(late > 0 or t.slow > 1, 'none was killed in time')
