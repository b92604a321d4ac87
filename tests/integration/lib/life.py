# SPDX-License-Identifier: GPL-2.0-or-later
"""What a union goes through: read, changed in every way, remounted, and compared with a plain tree."""
import os

from . import kernel as k
from . import tree
from .against import flat

LOWER = ('f f hello; f d/x 1; f d/y 2; f d/s/z 3; f e/x 1; d empty; f m/low 1; f gone 1; f big ' + 'b' * 5000)
LOWER2 = 'f m/low2 1; f m/low wrong; f d/s/z2 1'
LINKS = 'l l f; f hard 1; h hard2 hard; p fifo'
STEPS = '''echo more >> f; echo new > new; rm gone d/y; rm -r e; mkdir e; echo n > e/n; chmod 600 big; mv d/x d/moved
    touch -d @5 m/low; cp f copy; mkdir -p deep/er; echo 1 > deep/er/f; rmdir empty; echo t > m/low2; mv new m/'''


def life(t, u, more=LINKS, plain='plain', xattrs=True):
    """What is read, changed and remounted is what a plain tree would be. more=None: its lowers are made already."""
    if more is not None:
        u.put(LOWER + ('; ' + more if more else ''))
        u.put(LOWER2, 1)
    for opts in ((), ('timeout=0',)):
        u.mount(*opts)
        types = {n: ty for _, ty, n in k.listing(u.mnt)}
        t.ok(0 not in types.values() and types['d'] == 4 and types['f'] == 8, 'types in a listing: %s' % types)
        t.eq((tree.text(u.m('f')), tree.names(u.m('m')), tree.text(u.m('m/low'))), ('hello', ['low', 'low2'], '1'))
        u.umount()
    u.mount()
    p = flat(t, u, plain)
    for d in (u.mnt, p):
        t.sh(STEPS + ('; rm l hard; ln -s x l; ln hard2 hard; chmod 600 fifo' if more else ''), cwd=d)
        if xattrs:
            os.setxattr(d + '/m/low', 'user.k', b'v')
    for i in range(3):
        t.same_tree(*(({n: v for n, v in tree.snapshot(d, times=False).items()}) for d in (p, u.mnt)), 'time %d' % i)
        if i == 0:
            t.sh('sync -f .', cwd=u.mnt)
        u.remount()
    u.umount()
