# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers with data only: where metacopy files of other layers have their data, and nothing is looked up."""
import errno
import os

from lib import test, tree
from lib.overlay import copied, mark, said
from lib.union import escape


def _data_only(t, name='u', digest=b''):
    """a: in the first data layer, b: in the second, c: in none."""
    u = t.union(name=name, lowers=2)
    data = [u.root + '/data%d' % i for i in range(2)]
    tree.build(data[0], 'f deep/a A; f other 1')
    tree.build(data[1], 'f deep/a wrong; f deep/b B; l deep/l b')
    for n in 'abcl':
        tree.write(u.low(n), '')
        os.truncate(u.low(n), 1)
        os.setxattr(u.low(n), t.ns + '.overlay.metacopy', digest)
        os.setxattr(u.low(n), t.ns + '.overlay.redirect', b'/deep/' + n.encode())
    u.put('f plain 1', 1)
    u.data = data
    return u


@test()
def data_only_layers(t):
    """`lowerdir=A:B::D1:D2` as the kernel has it (`::` before each) and datadir+=: names of theirs
    are not seen; the first that has the path gives the data; missing data is ENOENT at read."""
    for form in ('colons', 'option'):
        u = _data_only(t, form)
        if form == 'colons':
            u.mount('lowerdir=%s::%s' % (':'.join(map(escape, u.lowers)), '::'.join(map(escape, u.data))))
        else:
            u.mount()
        for _ in range(2):
            t.eq(tree.names(u.mnt), ['a', 'b', 'c', 'l', 'plain'])
            t.eq((tree.text(u.m('a')), tree.text(u.m('b'))), ('A', 'B'))
            t.eq(os.stat(u.m('c')).st_size, 1)
            before = len(said(u, '/deep/c'))
            t.fails(errno.ENOENT, tree.read, u.m('c'))
            t.ok(1 <= len(said(u, '/deep/c')) - before <= 2, 'lines in the log')     # a request each
            t.fails(errno.ENOENT, tree.read, u.m('l'))      # symlinks are not followed
            t.fails(errno.ENOENT, os.stat, u.m('deep'))
            u.remount()
        os.chmod(u.m('a'), 0o600)
        os.rename(u.m('b'), u.m('b2'))
        t.eq(copied(u), 0)
        for _ in range(2):
            t.eq((tree.text(u.m('a')), tree.text(u.m('b2'))), ('A', 'B'))
            u.remount()
        tree.append(u.m('a'), '+')
        tree.append(u.m('b2'), '+')
        u.remount()
        t.eq((tree.text(u.m('a')), tree.text(u.m('b2'))), ('A+', 'B+'))
        u.umount()


@test()
def digests_are_kept(t):
    """The fs-verity digest in the mark of a lower survives chmod, link and rename of the file, and
    goes with the first write."""
    digest = bytes([0, 36, 0, 1]) + bytes(range(32))
    u = _data_only(t, digest=digest).mount()
    os.chmod(u.m('a'), 0o600)
    os.rename(u.m('b'), u.m('b2'))
    os.link(u.m('b2'), u.m('b3'))
    for n in ('a', 'b2', 'b3'):
        t.eq(mark(u, u.up(n), 'metacopy'), digest, n)
    u.remount()
    tree.append(u.m('b3'), '+')
    t.eq(mark(u, u.up('b2'), 'metacopy'), None)
    t.eq((tree.text(u.m('a')), tree.text(u.m('b2'))), ('A', 'B+'))
