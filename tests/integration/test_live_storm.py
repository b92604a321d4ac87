# SPDX-License-Identifier: GPL-2.0-or-later
"""
A hundred thousand changes of the layers in a second, more than the kernel keeps for us and more than the daemon
keeps for the kernel: after `ctl sync` every listing, attribute and content is what the layers hold.
"""
import ctypes
import os
import random
import signal
import time

from lib import k, test, tree
from lib.live import KERNEL, mount, result, see, view
from lib.registry import Skip
from lib.storm import Storm

CHANGES = 120000
# A name that was looked for and missing may stay so for whoever has looked for it (CHANGES OF LAYERS in
# fuse-unionfs(1)). To be False as soon as that is no more so.
MAY_STAY_MISSING = False


def _storm(t, *opts):
    if KERNEL:
        raise Skip('the kernel is told nothing')
    u = t.union(lowers=2)
    Storm.fill(u)
    mount(u, *opts)
    s = Storm(t, u)
    s.seed = random.SystemRandom().randrange(10**6)
    s.warm()
    return s


def _check(s, what):
    what = 'seed %d, %s' % (s.seed, what)
    still = s.check(what)
    if still:
        print('%s: %d names stay missing: %s' % (what, len(still), ' '.join(still[:5])))
    s.t.ok(MAY_STAY_MISSING or not still, '%s: missing, but there: %s' % (what, ' '.join(still[:20])))


def _reading(u, seed):
    """A process that looks at everything, without end."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        r = random.Random(seed)
        while True:
            names = result(os.listdir, u.m('d%d' % r.randrange(8)))
            if isinstance(names, list):
                for n in names[:10]:
                    result(os.lstat, u.m('d%d/%s' % (r.randrange(8), n)))
            if r.randrange(20) == 0:
                result(view, u.mnt)
    return pid


@test(identities=('root', 'user'), filesystems=('tmpfs',), needs=('gcc',), timeout=120, alone=True)
def storm(t):
    """While nobody looks: three times, by two processes and by four."""
    s = _storm(t)
    for i in range(3):
        s.run(CHANGES, 2 + 2 * (i % 2), s.seed + i, 'storm')
        _check(s, 'storm %d' % i)
    s.u.umount()


@test(identities=('root',), filesystems=('tmpfs',), needs=('gcc',), timeout=120, alone=True)
def storm_while_the_daemon_sleeps(t):
    """More than the kernel keeps, for certain."""
    s = _storm(t)
    before = s.watches()['overflows']
    p = s.start(CHANGES, 2, s.seed)
    os.kill(s.u.daemon_pid(), signal.SIGSTOP)
    try:
        p.wait()
        s.change_others()
    finally:
        os.kill(s.u.daemon_pid(), signal.SIGCONT)
    s.end(p, 'asleep')
    _check(s, 'asleep')
    t.ok(s.watches()['overflows'] > before, 'the kernel kept all of it')
    s.u.umount()


@test(identities=('root', 'user'), filesystems=('tmpfs',), needs=('gcc',), timeout=120, alone=True)
def storm_while_others_look(t):
    """Two processes look at everything meanwhile, and are gone when it is compared."""
    s = _storm(t)
    readers = [_reading(s.u, i) for i in range(2)]
    try:
        s.run(CHANGES, 2, s.seed, 'with readers')
    finally:
        for pid in readers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    _check(s, 'with readers')
    s.u.umount()


@test(identities=('root',), filesystems=('tmpfs',), needs=('gcc',), timeout=120, alone=True)
def storm_over_few_watches(t):
    """Most directories are timed; a second later these are right, too."""
    s = _storm(t, 'watches=5')
    s.run(CHANGES, 2, s.seed, 'few watches')
    time.sleep(1.1)
    _check(s, 'few watches')
    s.u.umount()


@test(identities=('root',), filesystems=('ext4',), timeout=120, alone=True)
def replaced_in_a_storm(t):
    """A directory goes and another comes with its number, while more happens than is kept: that one is watched, too."""
    if KERNEL:
        raise Skip('the kernel is told nothing')
    u = t.union(lowers=1)
    tree.build(u.lowers[0], 'f d/x 1; d many')
    mount(u)
    for n in ('', 'd', 'many'):
        os.listdir(u.m(n))
    t.run(t.binary, 'ctl', u.mnt, 'drop')           # nor has the daemon it open
    t.eq(tree.names(u.m('d')), ['x'])
    t.run(t.binary, 'ctl', u.mnt, 'drop')
    at = u.lowers[0] + '/d'
    number = os.stat(at).st_ino
    os.kill(u.daemon_pid(), signal.SIGSTOP)
    try:
        for i in range(20000):
            name = '%s/many/%d' % (u.lowers[0], i)
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
            os.unlink(name)
        os.unlink(at + '/x')
        os.rmdir(at)
        others = [u.lowers[0] + '/n%d' % i for i in range(300)]
        for o in others:
            os.mkdir(o)
            if os.stat(o).st_ino == number:
                os.rename(o, at)
                break
    finally:
        os.kill(u.daemon_pid(), signal.SIGCONT)
    if not os.path.isdir(at):
        raise Skip('it has another number')
    see(u, lambda: tree.names(u.m('d')), [])
    for n in ('a', 'b'):
        see(u, lambda: os.path.exists(u.m('d/' + n)), False)
        tree.write(at + '/' + n, '1')
        see(u, lambda: os.path.exists(u.m('d/' + n)), True)
    see(u, lambda: tree.names(u.m('d')), ['a', 'b'])
    u.umount()


# ---- the thread that tells the kernel

PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000
ENOUGH = 100000         # events; QUEUE_MAX of ops/notify.c is 65,536, and one event is one thing to tell or two


class Held:
    """One thread of a process, stopped alone."""

    def __init__(self, tid):
        self.tid = tid
        self._ptrace(PTRACE_ATTACH)
        os.waitpid(tid, WALL)

    def _ptrace(self, request):
        k.check(k.libc.ptrace(ctypes.c_long(request), ctypes.c_long(self.tid), None, None), 'ptrace')

    def release(self):
        self._ptrace(PTRACE_DETACH)


def _notifier(pid):
    """The thread that waits in poll() for events."""
    for _ in range(100):
        found = []
        for tid in map(int, os.listdir('/proc/%d/task' % pid)):
            with open('/proc/%d/task/%d/wchan' % (pid, tid)) as f:
                if 'poll_schedule_timeout' in f.read() or _calls_poll(pid, tid):
                    found.append(tid)
        if found:
            return found
        time.sleep(0.01)
    raise Skip('no thread is in poll()')


def _calls_poll(pid, tid):
    with open('/proc/%d/task/%d/syscall' % (pid, tid)) as f:
        return f.read().split()[0] in {'x86_64': ('7', '271'), 'aarch64': ('73',)}.get(os.uname().machine, ())


@test(identities=('root',), filesystems=('tmpfs',), needs=('gcc',), timeout=120, alone=True)
def more_than_the_daemon_keeps(t):
    """The thread that tells the kernel is held while others read the events: what waits to be told is told as one."""
    s = _storm(t)
    overflows = s.watches()['overflows']
    pid = s.u.daemon_pid()
    threads = _notifier(pid)
    print('threads in poll(): %d' % len(threads))
    held = [Held(tid) for tid in threads]
    try:
        s.change_others()
        for i in range(60):
            s.run(8000, 2, s.seed + i, 'while it is held')
            result(os.lstat, s.u.m('nothing%d' % i))    # whose answer begins with the events
            if s.watches()['changes'] > ENOUGH:
                break
    finally:
        for h in held:
            h.release()
    w = s.watches()
    t.eq(w['overflows'], overflows, 'the kernel had too many')
    t.ok(w['changes'] > ENOUGH, 'only %d events' % w['changes'])
    _check(s, 'held')
    s.u.umount()
