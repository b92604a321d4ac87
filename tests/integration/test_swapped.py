# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers in which names become something else between two looks at them."""
import os
import time

from lib import k, test, tree


def _swap(a, b):
    """For ever: two names change places."""
    while True:
        k.rename2(a, b, k.RENAME_EXCHANGE)


def _look(u):
    while True:
        for n in ('d', 'd/x', 'd/sub', 'd/sub/y', 'e'):
            try:
                os.lstat(u.m(n))
            except OSError:
                pass
        try:
            os.listdir(u.m('d'))
        except OSError:
            pass


@test(timeout=120)
def a_symlink_into_our_own_mount(t):
    """A directory changes places with a symlink that leads into the union: no worker may ask its own mount, and wait."""
    u = t.union(lowers=3, text='f d/x 1; f d/sub/y 2; f own/x 1; f own/sub/y 1')
    u.put('f d/x low; f d/z low; f d/sub/w 1', 1)
    u.put('f d/x low; f d/q low; f e 1', 2)
    u.check_lowers = False
    for opts in (('timeout=0', 'threads=2'), ('timeout=0',)):
        links = []
        for i in range(2):
            os.symlink(u.m('own'), u.low('s', i))
            links.append((u.low('d', i), u.low('s', i)))
        u.mount(*opts)
        pids = []
        for fn, args in [(_swap, l) for l in links] + [(_look, (u,))] * 3:
            pid = os.fork()
            if pid == 0:
                try:
                    fn(*args)
                finally:
                    os._exit(1)
            pids.append(pid)
        time.sleep(4)
        for p in pids:
            os.kill(p, 9)
        for p in pids:
            os.waitpid(p, 0)
        t.eq(tree.text(u.m('own/x')), '1')
        u.umount()
        for d, s in links:
            if os.path.islink(d):
                k.rename2(d, s, k.RENAME_EXCHANGE)
            os.unlink(s)
        t.eq(tree.text(u.low('d/x')), '1')
