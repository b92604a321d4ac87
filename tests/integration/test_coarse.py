# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers whose file system keeps times in whole seconds: what others change within one is noticed all the same."""
import os
import random
import signal
import threading
import time

from lib import k, test, tree
from lib.live import KERNEL, mount, result, sync
from lib.registry import Skip


def _coarse(t, mb=1024):
    """An ext4 with inodes of 128 bytes, mounted."""
    if KERNEL:
        raise Skip('the kernel asks for everything')
    t.need('mkfs.ext4')
    img, at = t.dir + '/coarse.img', t.plain('coarse')
    with open(img, 'wb') as f:
        f.truncate(mb << 20)
    t.run('mkfs.ext4', '-q', '-F', '-I', '128', img)
    t.run('mount', '-o', 'loop', img, at)
    tree.write(at + '/probe', '1')
    if os.stat(at + '/probe').st_mtime_ns % 10**9:
        raise Skip('its times are not coarse')
    os.unlink(at + '/probe')
    return at


def _begin_a_second():
    time.sleep(1.01 - time.time() % 1)


def _follow(top, names):
    """A process that puts a file into each of these directories as soon as it is there."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for d in names:
                end = time.monotonic() + 5
                while result(os.open, '%s/%s/x' % (top, d), os.O_CREAT | os.O_WRONLY) == 'ENOENT':
                    if time.monotonic() > end:
                        os._exit(1)
        finally:
            os._exit(0)
    return pid


@test(identities=('root',), timeout=90)
def put_into_what_was_just_made(t):
    """A directory made through the mount, or copied up, and a file of another's that comes in the same moment."""
    u = t.union(lowers=1)
    at = _coarse(t)
    u.lowers[0], u.upper, u.work = at + '/l', at + '/u', at + '/w'
    for d in (u.lowers[0], u.upper, u.work):
        os.mkdir(d)
    mount(u)
    for how in ('made', 'raised'):
        wrong = []
        for i in range(4):
            names = ['%s%d.%d' % (how, i, j) for j in range(100)]
            _begin_a_second()
            if how == 'raised':
                for d in names:
                    os.mkdir(u.lowers[0] + '/' + d)
                sync(u)
                for d in names:
                    os.listdir(u.m(d))
            pid = _follow(u.upper, names)
            for d in names:
                os.mkdir(u.m(d)) if how == 'made' else os.chmod(u.m(d), 0o700)
            os.waitpid(pid, 0)
            sync(u)
            wrong += [d for d in names if result(os.listdir, u.m(d)) != ['x'] or not os.path.exists(u.m(d) + '/x')]
        t.eq(wrong, [], how)
    u.umount()
    k.umount(at)


BLOCK, BLOCKS = 1 << 16, 512


def _write_generations(path, stop):
    fd = os.open(path, os.O_WRONLY)
    for g in range(1, 5):
        time.sleep(random.random() * 0.012)
        for block in (0, BLOCKS - 1):
            os.pwrite(fd, b'%08d' % g, block * BLOCK)
    os.close(fd)


def _copies(t, opts, touch):
    u = t.union(lowers=1)
    at = _coarse(t)
    u.lowers[0] = at + '/l'
    os.mkdir(u.lowers[0])
    mount(u, *opts)
    wrong = []
    for i in range(12):
        name = 'f%d' % i
        _begin_a_second()
        with open(u.lowers[0] + '/' + name, 'wb') as f:
            f.write(b'%08d' % 0 + b'x' * (BLOCK * BLOCKS - 16) + b'%08d' % 0)
            f.seek((BLOCKS - 1) * BLOCK)
            f.write(b'%08d' % 0)
        sync(u)
        touch(u.m(name))
        w = threading.Thread(target=_write_generations, args=(u.lowers[0] + '/' + name, None))
        w.start()
        fd = os.open(u.m(name), os.O_WRONLY)
        got = result(os.pwrite, fd, b'm', BLOCK)
        os.close(fd)
        w.join()
        if got != 1:
            t.eq(got, 'EIO')
            continue
        fd = os.open(u.m(name), os.O_RDONLY)
        first, last = (int(os.pread(fd, 8, b * BLOCK)) for b in (0, BLOCKS - 1))
        os.close(fd)
        if not first - 1 <= last <= first:
            wrong.append((name, first, last))
        os.unlink(u.m(name))
    t.eq(wrong, [], 'mixtures')
    u.umount()
    k.umount(at)


@test(identities=('root',), timeout=90)
def copied_up_as_it_is_written(t):
    """The copy is of one version."""
    _copies(t, (), lambda p: None)


@test(identities=('root',), timeout=90)
def data_copied_up_as_it_is_written(t):
    """The same where the attributes were copied up before."""
    _copies(t, ('metacopy=on',), lambda p: os.chmod(p, 0o600))
