# SPDX-License-Identifier: GPL-2.0-or-later
"""
Answers that were given before a change, to a process that takes them in after the kernel was told of it: it has been
kept from running meanwhile, by others on its processor. Nothing of them may stay.
"""
import os
import random
import signal
import time

from lib import test, tree
from lib.live import KERNEL, mount, result, sync
from lib.registry import Skip


def _fork(fn, cpu, idle):
    """A process that does fn() on the processor @cpu; @idle: only when nobody else wants it."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.sched_setaffinity(0, {cpu})
            if idle:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            fn()
        finally:
            os._exit(0)
    return pid


def _hog():
    while True:
        end = time.perf_counter() + random.random() * 0.01
        while time.perf_counter() < end:
            pass
        time.sleep(random.random() * 0.003)


class Busy:
    """A processor on which others want to run most of the time."""

    def __init__(self):
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            raise Skip('one processor')
        self.cpu = cpus[-1]
        self.pids = [_fork(_hog, self.cpu, False) for _ in range(2)]

    def run(self, fn):
        """Its process id."""
        pid = _fork(fn, self.cpu, True)
        self.pids.append(pid)
        return pid

    def wait(self, pid):
        os.waitpid(pid, 0)
        self.pids.remove(pid)

    def close(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _look(t, u, n, prepare, change):
    """
    @n times: directories are listed for the first time, and each becomes empty meanwhile. @prepare(names), then
    change(name) for each, once. What they show before are names that nobody can look up, for a mark; so the kernel
    keeps none of these, and is told of none.
    """
    b = Busy()
    wrong = []
    try:
        for i in range(n):
            names = ['d%d.%d' % (i, j) for j in range(12)]
            prepare(names)
            sync(u)
            for d in names:
                os.stat(u.m(d))
            pids = [b.run(lambda: result(os.listdir, u.m(d))) for d in names]
            time.sleep(random.random() * 0.03)
            for d in random.sample(names, len(names)):
                change(d)
                time.sleep(random.random() * 0.004)
            for pid in pids:
                b.wait(pid)
            sync(u)
            wrong += [(d, got) for d, got in ((d, result(os.listdir, u.m(d))) for d in names) if got]
    finally:
        b.close()
    t.eq(wrong, [], 'listings that stayed, of %d' % (12 * n))


def _bad(top, names):
    for d in names:
        tree.build(top, 'f %s/bad 1' % d)
        os.setxattr('%s/%s/bad' % (top, d), 'trusted.overlay.metacopy', b'')


@test(identities=('root',), timeout=120, alone=True)
def listing_of_what_becomes_opaque(t):
    """What is told then is that the directory is another, and no name in it."""
    if KERNEL:
        raise Skip('the kernel is told nothing')
    u = t.union(lowers=2)
    mount(u)

    def prepare(names):
        _bad(u.lowers[1], names)
        tree.build(u.lowers[0], '; '.join('d ' + d for d in names))
    _look(t, u, 40, prepare, lambda d: os.setxattr(u.lowers[0] + '/' + d, 'trusted.overlay.opaque', b'y'))
    u.umount()


@test(identities=('root',), timeout=120, alone=True)
def listing_as_a_lower_goes(t):
    """Everything may have changed then."""
    if KERNEL:
        raise Skip('the kernel is told nothing')
    u = t.union(lowers=1)
    more = t.plain('more')
    mount(u)
    there = []

    def ctl(*words):
        t.run(t.binary, 'ctl', u.mnt, 'lower', *words)

    def prepare(names):
        tree.build(u.lowers[0], '; '.join('d ' + d for d in names))
        _bad(more, names)
        ctl('add', more, 'at', '2')
        there.append(more)

    def change(d):
        if there:
            ctl('remove', there.pop())
    _look(t, u, 40, prepare, change)
    u.umount()


@test(identities=('root',), timeout=120, alone=True)
def first_look_at_what_is_written(t):
    """A file that the kernel does not know yet when it is told that it has changed."""
    if KERNEL:
        raise Skip('the kernel is told nothing')
    u = t.union(lowers=1)
    mount(u)
    b = Busy()
    wrong, n = [], 0
    try:
        for i in range(40):
            names = ['d%d/f%d' % (i, j) for j in range(15)]
            tree.build(u.lowers[0], '; '.join('f %s 1' % x for x in names))
            os.listdir(u.mnt)
            sync(u)

            def look():
                for x in names:
                    result(os.stat, u.m(x))
            pid = b.run(look)
            fds = [os.open(u.lowers[0] + '/' + x, os.O_WRONLY | os.O_APPEND) for x in names]
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.write(random.choice(fds), b'+')
                time.sleep(random.random() * 0.001)
            b.pids.remove(pid)
            for fd in fds:
                os.close(fd)
            sync(u)
            for x in names:
                n += 1
                real, seen = os.stat(u.lowers[0] + '/' + x).st_size, os.stat(u.m(x)).st_size
                if seen != real:
                    wrong.append((x, seen, real))
    finally:
        b.close()
    t.eq(wrong, [], 'sizes that stayed, of %d' % n)
    u.umount()
