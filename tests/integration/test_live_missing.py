# SPDX-License-Identifier: GPL-2.0-or-later
"""
Names that the kernel keeps as missing, which others then make in a layer: when it is told so one by one, when events
are lost, when there are more than are remembered, in a directory that nobody watches any more.
"""
import os
import signal
import time

from lib import test, tree
from lib.live import KERNEL, OPTIONS, result, see, sync, warm

REMEMBERED = 65536


def _mounted(t, text):
    if KERNEL or OPTIONS:
        t.skip('about what the daemon remembers')
    u = t.union()
    u.check_lowers = False
    u.put(text)
    u.mount()
    return u


def _miss(u, rels):
    for rel in rels:
        u.t.eq(result(os.lstat, u.m(rel)), 'ENOENT', rel)


def _asked(u, rels):
    """How many of these misses reach the daemon."""
    return u.requests_during(lambda: _miss(u, rels)).get('LOOKUP', 0)


@test(timeout=120, alone=True)
def events_are_lost(t):
    """More is changed than the kernel keeps events: what was missing before and was made meanwhile is seen."""
    u = _mounted(t, 'f storm/f x; f e/f x; f e/sub/f x')
    names = ['e/new', 'e/sub/new', 'e/sub/still-missing', 'top']
    warm(u, names)
    t.eq(_asked(u, names), 0, 'warm')
    os.kill(u.daemon_pid(), signal.SIGSTOP)
    try:
        for i in range(17000):
            os.close(os.open(u.low('storm/g%d' % i), os.O_CREAT | os.O_WRONLY, 0o644))
        for n in ('e/new', 'e/sub/new', 'top'):
            tree.write(u.low(n), 'new')
    finally:
        os.kill(u.daemon_pid(), signal.SIGCONT)
    for n in ('e/new', 'e/sub/new', 'top'):
        see(u, lambda: tree.text(u.m(n)), 'new', n)
    t.eq(result(os.lstat, u.m('e/sub/still-missing')), 'ENOENT')
    # And again, after that: what was told once is told again.
    os.unlink(u.low('e/new'))
    see(u, lambda: result(os.lstat, u.m('e/new')), 'ENOENT')
    # What was asked for as it changed is told for another second.
    time.sleep(1.5)
    _miss(u, ['e/new', 'e/sub/still-missing'])
    t.eq(_asked(u, ['e/new', 'e/sub/still-missing']), 0, 'warm again')
    u.umount()


@test(timeout=120, alone=True)
def more_than_are_remembered(t):
    """In one directory; the first and the last are seen when they appear, and most cost no request until then."""
    n = REMEMBERED + 3000
    u = _mounted(t, 'f d/f x')
    names = ['d/missing-%d' % i for i in range(n)]
    _miss(u, names)
    sync(u)
    t.ok(_asked(u, names[-1000:]) <= 10, 'the last are warm')
    # Were these not told, the kernel would go on believing in them.
    t.eq(_asked(u, names[:1000]), 1000, 'the first were told')
    for i in (0, 1, 999, 3000, n // 2, n - 1):
        tree.write(u.low(names[i]), 'new')
        see(u, lambda: tree.text(u.m(names[i])), 'new', names[i])
    u.umount()


@test(timeout=120, alone=True)
def more_than_are_remembered_and_events_are_lost(t):
    """The first, which made room for others, and the last."""
    n = REMEMBERED + 600
    u = _mounted(t, 'f storm/f x; f d/f x')
    tree.names(u.m('storm'))
    names = ['d/missing-%d' % i for i in range(n)]
    _miss(u, names)
    os.kill(u.daemon_pid(), signal.SIGSTOP)
    try:
        for i in range(17000):
            os.close(os.open(u.low('storm/g%d' % i), os.O_CREAT | os.O_WRONLY, 0o644))
        for i in (0, 700, n - 1):
            tree.write(u.low(names[i]), 'new')
    finally:
        os.kill(u.daemon_pid(), signal.SIGCONT)
    for i in (0, 700, n - 1):
        see(u, lambda: tree.text(u.m(names[i])), 'new', names[i])
    u.umount()


@test()
def made_through_the_mount(t):
    """A name that was missing, made, removed and missing again; and its directory with it."""
    u = _mounted(t, 'f d/f x')
    for i in range(5):
        _miss(u, ['d/n', 'new'])
        tree.write(u.m('d/n'), 'x')
        os.mkdir(u.m('new'))
        _miss(u, ['new/a', 'new/b'])
        os.rename(u.m('d/n'), u.m('new/a'))
        _miss(u, ['d/n'])
        t.eq(tree.text(u.m('new/a')), 'x')
        os.unlink(u.m('new/a'))
        _miss(u, ['new/a'])
        os.rmdir(u.m('new'))
    tree.write(u.low('d/n'), 'below')
    see(u, lambda: tree.text(u.m('d/n')), 'below')
    u.umount()


@test(alone=True)
def dropped(t):
    """`drop` has the kernel ask for these names, too."""
    u = _mounted(t, 'f d/f x')
    warm(u, ['d/a', 'b'])
    t.eq(_asked(u, ['d/a', 'b']), 0)
    t.run(t.binary, 'ctl', u.mnt, 'drop')
    t.eq(_asked(u, ['d/a', 'b']), 3, 'and for the directory')
    u.umount()
