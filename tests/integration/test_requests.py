# SPDX-License-Identifier: GPL-2.0-or-later
"""
No message where none is needed: warm operations that must not reach the daemon, counted by the
daemon itself (SIGUSR1) and cross-checked with strace on its reads.

lstat(2) is used throughout: statx(2) with other masks asks for more (a birth time is a STATX).
"""
import os
import re
import signal
import subprocess
import time

from lib import test, tree

N = 10000


def _names(n):
    return ['f%02d' % i for i in range(n)]


def _tree(u):
    u.put('; '.join('f %s hello' % n for n in _names(20)) + '; l l f00; f d/x 1')


def _warm_stat(u):
    for i in range(N):
        os.lstat(u.m('f%02d' % (i % 20)))


def _warm_missing(u):
    for i in range(N):
        try:
            os.lstat(u.m('missing%02d' % (i % 20)))
        except FileNotFoundError:
            pass


def _warm_read(u):
    for i in range(N):
        fd = os.open(u.m('f%02d' % (i % 20)), os.O_RDONLY)
        os.read(fd, 10)
        os.close(fd)


def _warm_readdir(u):
    for i in range(N // 10):
        os.listdir(u.mnt)


def _warm_readlink(u):
    for i in range(N):
        os.readlink(u.m('l'))


def _warm_access(u):
    for i in range(N):
        os.access(u.m('f%02d' % (i % 20)), os.R_OK)


def _warm_exec(u):
    for i in range(30):
        subprocess.run([u.m('true')], check=True)


ZERO = (_warm_stat, _warm_missing, _warm_read, _warm_readdir, _warm_readlink, _warm_access)


@test(timeout=120, alone=True)
def counters_stay_at_zero(t):
    """stat, missing stat, open+read+close, readdir of lower files: 10,000 times without a request;
    the same for upper files and in a merged directory."""
    for where in ('lower', 'upper', 'merged'):
        u = t.union(lowers=2, name=where)
        if where != 'upper':
            _tree(u)
        if where == 'merged':
            u.put('f f00 below; f g 1', 1)
        u.mount()
        if where == 'upper':
            tree.build(u.mnt, '; '.join('f %s hello' % n for n in _names(20)) + '; l l f00', t.ns)
        elif where == 'merged':
            tree.write(u.m('up'), 'x')
            tree.append(u.m('f03'), '!')
        for fn in ZERO:
            fn(u)                           # warm
            said = u.requests_during(lambda: fn(u))
            t.eq(sum(said.values()), 0, '%s, %s files: %r' % (fn.__name__, where, said))
        u.umount()


@test(identities=('root',), timeout=180, needs=('strace',), alone=True)
def strace_sees_no_read(t):
    """The same by strace: no read of /dev/fuse returns while 10,000 operations run."""
    u = t.union(lowers=2)
    _tree(u)
    u.mount(env={'ASAN_OPTIONS': 'detect_leaks=0:' + os.environ.get('ASAN_OPTIONS', '')})
    for fn in ZERO:
        fn(u)
    out = t.logs + '/strace.out'
    p = subprocess.Popen(['strace', '-f', '-q', '-p', str(u.daemon_pid()), '-o', out, '-e',
                          'trace=read,readv,io_uring_enter,pread64,preadv'], stderr=subprocess.DEVNULL)
    try:
        marks = {}
        deadline = time.monotonic() + 10 * t.slow
        while True:                         # attached when a request shows up in it
            tree.write(u.m('probe'), 'x')
            os.unlink(u.m('probe'))
            if os.path.exists(out) and re.search(r'= [1-9]\d*$', open(out).read(), re.M):
                break
            t.ok(time.monotonic() < deadline, 'strace saw no request at all')
            time.sleep(0.1)
        time.sleep(0.3)
        for fn in ZERO:
            fn(u)                           # creating the probe may have cooled something
            time.sleep(0.1)
            before = open(out).read()
            fn(u)
            time.sleep(0.1)
            new = open(out).read()[len(before):]
            marks[fn.__name__] = len(re.findall(r'= [1-9]\d*$', new, re.M))
        if t.passes:
            del marks['_warm_read']          # opening is asked for
        t.eq(set(marks.values()), {0}, marks)
    finally:
        p.send_signal(signal.SIGINT)
        p.wait()


@test(identities=('root',), alone=True)
def exec_of_a_warm_program(t):
    """Running a program again costs at most the question for its capabilities (suid mounts)."""
    u = t.union()
    t.run('cp', '/bin/true', u.low('true'))
    u.mount()
    _warm_exec(u)
    said = u.requests_during(lambda: _warm_exec(u))
    t.ok(sum(said.values()) <= 30 and set(said) <= {'GETXATTR'}, '%r' % said)


@test(alone=True)
def changes_cost_what_they_must(t):
    """Requests per change (section 3): creation, writing, renaming, removing; no OPEN, FLUSH,
    RELEASE, OPENDIR or ACCESS is sent at all."""
    u = t.mounted('d d; f low hello')
    for i in range(3):
        tree.write(u.m('d/warm'), 'x')
        os.unlink(u.m('d/warm'))
        tree.read(u.m('low'))
        os.listdir(u.m('d'))
    n = 100

    def create():
        for i in range(n):
            tree.write(u.m('d/n%d' % i), 'x')

    def append():
        for i in range(n):
            tree.append(u.m('d/n%d' % i), 'x')

    def rename():
        for i in range(n):
            os.rename(u.m('d/n%d' % i), u.m('d/m%d' % i))

    def unlink():
        for i in range(n):
            os.unlink(u.m('d/m%d' % i))
    for fn, most in ((create, 6), (append, 4), (rename, 4), (unlink, 3)):
        said = u.requests_during(fn)
        t.ok(sum(said.values()) <= most * n + 5, '%s of %d: %r' % (fn.__name__, n, said))
        for op in ('OPEN', 'FLUSH', 'RELEASE', 'OPENDIR', 'RELEASEDIR', 'ACCESS'):
            t.eq(said.get(op, 0), 0, '%s in %s' % (op, fn.__name__))


@test(alone=True)
def listing_again_is_free_until_something_changes(t):
    """readdir of 1,000 names: requests the first time and after a change; the second time at most
    one for the atime that the first has changed; then none."""
    u = t.union()
    for i in range(1000):
        u.put('f d/n%d' % i)
    u.mount()
    os.listdir(u.mnt)

    def ls():
        t.eq(len(os.listdir(u.m('d'))), want)
    want = 1000
    t.ok(sum(u.requests_during(ls).values()) >= 1)
    t.ok(sum(u.requests_during(ls).values()) <= 1)
    t.eq(u.requests_during(ls), {})
    tree.write(u.m('d/new'), '')
    want = 1001
    t.ok(sum(u.requests_during(ls).values()) >= 1)
    t.ok(sum(u.requests_during(ls).values()) <= 1)
    t.eq(u.requests_during(ls), {})


@test(identities=('root',), alone=True)
def xattrs_from_memory(t):
    """Missing xattrs are requests, but no system calls below: the daemon answers from memory."""
    t.need('strace')
    u = t.union(text='f f hello')
    u.mount(env={'ASAN_OPTIONS': 'detect_leaks=0:' + os.environ.get('ASAN_OPTIONS', '')})
    for _ in range(3):
        try:
            os.getxattr(u.m('f'), 'user.none')
        except OSError:
            pass
    out = t.logs + '/strace.out'
    p = subprocess.Popen(['strace', '-f', '-q', '-p', str(u.daemon_pid()), '-o', out, '-e',
                          'trace=getxattr,lgetxattr,fgetxattr,listxattr,llistxattr,flistxattr'],
                         stderr=subprocess.PIPE)
    time.sleep(0.5 * t.slow)
    for _ in range(200):
        try:
            os.getxattr(u.m('f'), 'user.none')
        except OSError:
            pass
    p.send_signal(signal.SIGINT)
    p.wait()
    calls = len(re.findall(r'xattr\(', open(out).read()))
    t.ok(calls < 20, '%d system calls for 200 missing xattrs' % calls)


def _learnt(u):
    """Nothing says in the foreground that the daemon is ready: it has opened and closed a file by then."""
    end = time.monotonic() + 10 * u.t.slow
    while 'FLUSH' not in u.requests() and time.monotonic() < end:
        time.sleep(0.02)


@test(alone=True)
def closing_a_new_file_asks_nobody(t):
    """Files made and closed, and made without a name, on a mount where nobody has opened an existing one: no RELEASE
    or FLUSH, from the first. Nothing of how the kernel learns that is to be seen, in the upper either."""
    u = t.mounted('d d')
    _learnt(u)

    def create():
        for i in range(50):
            tree.write(u.m('d/n%d' % i), 'x')
        os.close(os.open(u.m('d'), os.O_TMPFILE | os.O_RDWR, 0o600))
    said = u.requests_during(create)
    t.eq({n: said[n] for n in ('OPEN', 'FLUSH', 'RELEASE') if n in said}, {}, '%r' % said)
    t.eq(os.listdir(u.mnt), ['d'])
    t.eq(os.listdir(u.upper), ['d'])


@test(alone=True)
def a_read_only_mount_learns_it_as_well(t):
    """Opening a file for the first time on a mount without an upper: nobody is asked."""
    u = t.union(upper=False, text='f f hello')
    u.mount()
    _learnt(u)
    os.lstat(u.m('f'))
    said = u.requests_during(lambda: tree.read(u.m('f')))
    t.eq(set(said) - {'READ', 'GETATTR'}, set(), '%r' % said)


@test(alone=True)
def with_timeout_0_each_opening_asks(t):
    """There OPEN is answered, so that each open begins with an empty cache."""
    u = t.mounted('f f hello', 'timeout=0')
    os.lstat(u.m('f'))
    said = u.requests_during(lambda: [tree.read(u.m('f')) for _ in range(3)])
    t.ok(t.passes or said.get('OPEN') == 3, '%r' % said)
