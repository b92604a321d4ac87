# SPDX-License-Identifier: GPL-2.0-or-later
"""
More directories than may be watched (`watches=`): the least used are given up, and no change goes unseen for that.
"""
import errno
import json
import os
import resource
import time

from lib import k, test, tree
from lib.live import KERNEL, OPTIONS, result, see, sync
from lib.seccomp import refusing

MANY, FEW, AT_MOST = 1000, 60, 64
UNUSED = 3.1        # seconds after which a directory may be given up
BELIEVED = 1.2      # what is not watched is asked for again after that


def _watches(t, u):
    return json.loads(t.run(t.binary, 'ctl', u.mnt, 'status', '--json'))['watches']


def _union(t, n=MANY, opts=(), **kw):
    """In each of @n directories a file to be changed, one to be removed, and one that others have open."""
    if KERNEL or OPTIONS:
        t.skip('about watches=')
    u = t.union()
    u.check_lowers = False
    for i in range(n):
        d = u.low('d%d' % i)
        os.mkdir(d)
        for name in 'fgh':
            tree.write('%s/%s' % (d, name), 'old')
    u.mount('watches=%d' % AT_MOST, *opts, **kw)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    return u


_held = {}


def _view(u, i):
    d = u.m('d%d' % i)
    # So that the kernel forgets none, and the numbers are known.
    if i not in _held:
        _held[i] = os.open(d, os.O_PATH)
    # Before the listing, which would tell the kernel of it.
    new = result(tree.text, d + '/new')
    return (tree.names(d), result(tree.text, d + '/f'), result(tree.text, d + '/g'), new,
            result(lambda: os.lstat(d + '/h').st_mode & 0o777))


def _end(u):
    for fd in _held.values():
        os.close(fd)
    _held.clear()
    u.umount()


OLD = (['f', 'g', 'h'], 'old', 'old', 'ENOENT', 0o644)
NEW = (['f', 'h', 'new'], 'changed', 'ENOENT', 'new', 0o600)


def _change(u, i):
    d = u.low('d%d' % i)
    tree.write(d + '/f', 'changed')
    os.unlink(d + '/g')
    tree.write(d + '/new', 'new')
    os.chmod(d + '/h', 0o600)


def _walk_until(t, u, done, keep=()):
    """Looks into one directory after the other, and into those of @keep all the time, until @done(status)."""
    end = time.monotonic() + 20 * t.slow
    at = FEW
    while not done(_watches(t, u)):
        t.ok(time.monotonic() < end, _watches(t, u))
        for i in keep:
            result(os.lstat, u.m('d%d/not-%d' % (i, at)))
        for i in range(at, min(at + 15, MANY)):
            t.eq(_view(u, i), OLD)
        at += 15
        time.sleep(0.11)
    for i in range(at, MANY):
        t.eq(_view(u, i), OLD)


def _given_up(t, u):
    """Of 60 directories that were looked into the first stays in use, and others take the place of the rest."""
    for _ in range(2):
        for i in range(FEW):
            t.eq(_view(u, i), OLD)
    t.eq(u.requests_during(lambda: [_view(u, i) for i in range(FEW)]), {}, 'warm')
    t.eq(_watches(t, u)['given_up'], 0)
    fd = os.open(u.m('d1/h'), os.O_RDONLY)
    time.sleep(UNUSED)
    _walk_until(t, u, lambda w: w['given_up'] >= FEW // 2, keep=(0,))
    w = _watches(t, u)
    t.ok(w['fanotify'] + w['inotify'] <= AT_MOST, w)
    # Each is watched, or known for a second, or given up and not looked into since; the root has two layers.
    t.eq(w['fanotify'] + w['inotify'] - 1 + w['timed'] + w['given_up'], MANY + 1, w)
    return fd


@test(timeout=120)
def given_up_and_changed(t):
    """In those given up, in those watched, in those that found no place: each change is seen, and no name stays missing."""
    u = _union(t)
    fd = _given_up(t, u)
    for i in range(MANY):
        _change(u, i)
    sync(u)
    # All of these were kept by the kernel until they were given up, if they were.
    t.eq([i for i in range(FEW) if _view(u, i) != NEW], [])
    t.eq(os.fstat(fd).st_mode & 0o777, 0o600)
    os.close(fd)
    time.sleep(BELIEVED)
    t.eq([i for i in range(MANY) if _view(u, i) != NEW], [])
    _end(u)


@test(timeout=120)
def given_up_and_watched_again(t):
    """Looked into again after others had been given up for them: what changes from then on is seen as well."""
    u = _union(t)
    os.close(_given_up(t, u))
    before = _watches(t, u)['given_up']
    time.sleep(UNUSED)
    for i in range(FEW):
        t.eq(_view(u, i), OLD)
        time.sleep(0.11)
    t.ok(_watches(t, u)['given_up'] >= before + FEW // 3, _watches(t, u))
    for i in range(FEW):
        _change(u, i)
    sync(u)
    time.sleep(BELIEVED)
    t.eq([i for i in range(FEW) if _view(u, i) != NEW], [])
    _end(u)


@test(timeout=120, identities=('root', 'userns'))
def given_up_with_inotify(t):
    """The same where fanotify is refused."""
    u = _union(t, preexec_fn=refusing(fanotify_init=errno.EPERM))
    t.eq(_watches(t, u)['fanotify'], 0)
    os.close(_given_up(t, u))
    for i in range(MANY):
        _change(u, i)
    sync(u)
    t.eq([i for i in range(FEW) if _view(u, i) != NEW], [])
    time.sleep(BELIEVED)
    t.eq([i for i in range(MANY) if _view(u, i) != NEW], [])
    _end(u)


@test(timeout=60)
def in_use_and_not_given_up(t):
    """More than the budget in constant use: none takes the place of another, over and over."""
    u = _union(t, 150)
    end = time.monotonic() + 6
    n = 0
    while time.monotonic() < end:
        n += 1
        for i in range(150):
            result(os.lstat, u.m('d%d/not-%d' % (i, n)))
    w = _watches(t, u)
    t.eq(w['given_up'], 0, w)
    t.ok(w['timed'] >= 150 - AT_MOST, w)
    _end(u)


@test(identities=('root', 'userns'), timeout=60)
def given_up_unmounts_nothing(t):
    """What is mounted in a directory that is given up stays."""
    u = _union(t)
    tree.build(u.lowers[0], 'd d5/sub')
    sync(u)
    k.mount('tmpfs', u.m('d5/sub'), 'tmpfs')
    try:
        tree.write(u.m('d5/sub/on-top'), '')
        for i in range(FEW):
            tree.names(u.m('d%d' % i))
        time.sleep(UNUSED)
        _walk_until(t, u, lambda w: w['given_up'] >= FEW)
        sync(u)
        t.eq(os.listdir(u.m('d5/sub')), ['on-top'])
    finally:
        k.umount(u.m('d5/sub'))
    _end(u)


@test()
def made_where_nothing_is_watched(t):
    """What was made, linked or renamed there is as little believed as what was found there."""
    u = _union(t, 5, opts=('watches=1',))
    for i in range(5):
        t.eq(_view(u, i), OLD)
    # The root has two layers: too many. The first of the others takes the only place.
    t.eq(_watches(t, u)['timed'], 5)
    d = u.m('d1/')
    for n in ('made', 'from', 'linked-from'):
        tree.write(d + n, 'x')
    os.mkdir(d + 'dir')
    os.rename(d + 'from', u.m('d2/renamed'))
    os.link(d + 'linked-from', u.m('d3/linked'))
    paths = ['d1/made', 'd1/dir', 'd2/renamed', 'd3/linked']
    for p in paths:
        os.lstat(u.m(p))
    for p in paths:
        os.rmdir(u.up(p)) if p.endswith('dir') else os.unlink(u.up(p))
    time.sleep(BELIEVED)
    for p in paths:
        t.eq(result(os.lstat, u.m(p)), 'ENOENT', p)
    see(u, lambda: tree.names(u.m('d2')), ['f', 'g', 'h'])
    _end(u)
