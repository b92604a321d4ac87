# SPDX-License-Identifier: GPL-2.0-or-later
"""WORK/index at mount: what is found there, other lowers, file systems without handles, the kernel's."""
import errno
import os

from lib import Fail, test, tree
from lib.links import GROUP, NAMES, look, plan, regular, run_step
from lib.overlay import FULL, by_kernel, index_entries, said


@test()
def orphans_go_at_mount(t):
    """An entry that no name leads to any more (a crash before it was removed)."""
    u = t.mounted(GROUP)
    tree.append(u.m('a/x'), '+')
    os.unlink(u.m('b/y'))
    os.unlink(u.m('c'))
    u.umount()
    t.eq(len(index_entries(u)), 1)
    os.unlink(u.up('a/x'))
    u.put('w a/x', 'upper')
    for junk in ('#1', '#ff'):
        d = os.path.join(u.work, 'index')
        os.chmod(d, 0o700)
        tree.write(d + '/' + junk, '')
    u.mount()
    t.eq(index_entries(u), [])
    t.eq(regular(u.mnt), ['a/z'])


@test()
def a_foreign_name_in_the_index(t):
    """Not an index of an overlay: refused, nothing is removed."""
    u = t.mounted(GROUP)
    tree.append(u.m('c'), '+')
    u.umount()
    d = os.path.join(u.work, 'index')
    os.chmod(d, 0o700)
    tree.write(d + '/foreign', 'x')
    try:
        u.mount()
        raise Fail('mounted')
    except Fail as e:
        t.ok('foreign' in str(e), str(e))
    t.eq(tree.text(d + '/foreign'), 'x')
    os.unlink(d + '/foreign')
    u.mount()
    t.eq(tree.text(u.m('a/x')), '0123456789+')


def _other_lower(t, u):
    tree.append(u.m('c'), '+')
    u.umount()
    other = u.root + '/other'
    tree.build(other, GROUP)
    u.lowers = [other]


@test()
def over_another_lower(t):
    """The upper of one lower over a copy of it: index=on refuses and says why; by default there
    is no index, one line tells, and nothing shows the wrong file."""
    u = t.mounted(GROUP, 'index=on')
    _other_lower(t, u)
    try:
        u.mount('index=on')
        raise Fail('mounted')
    except Fail as e:
        t.ok('another lower' in str(e) or 'Stale' in str(e), str(e))
    before = len(said(u, 'index'))
    u.mount()
    t.eq(len(said(u, 'index')) - before, 1, 'lines in the log')
    t.eq([tree.text(u.m(n)) for n in NAMES], ['0123456789', '0123456789', '0123456789+'])
    tree.append(u.m('a/x'), '-')
    t.eq([tree.text(u.m(n)) for n in NAMES], ['0123456789-', '0123456789', '0123456789+'])
    u.remount()
    t.eq([tree.text(u.m(n)) for n in NAMES], ['0123456789-', '0123456789', '0123456789+'])


@test()
def read_only(t):
    """-o ro: what the index has is seen under each name; nothing can be changed."""
    u = t.mounted(GROUP)
    tree.append(u.m('b/y'), '+')
    u.remount('ro')
    t.eq([tree.text(u.m(n)) for n in NAMES], ['0123456789+'] * 3)
    t.eq({(os.stat(u.m(n)).st_ino, os.stat(u.m(n)).st_nlink) for n in NAMES},
         {(os.stat(u.m('c')).st_ino, 3)})
    t.fails(errno.EROFS, tree.append, u.m('c'), 'x')
    t.fails(errno.EROFS, os.unlink, u.m('c'))
    u.remount('rw')
    t.eq([tree.text(u.m(n)) for n in NAMES], ['0123456789+'] * 3)


@test()
def lower_without_handles(t):
    """A FUSE file system as lower: no index, one line says so, links break without a loss."""
    below = t.union(text=GROUP, name='below').mount()
    u = t.union(lowers=[below.mnt], name='above')
    u.check_lowers = False
    u.mount()
    t.eq(len(said(u, 'file handles')), 1, 'lines in the log')
    tree.append(u.m('a/x'), '+')
    for _ in range(2):
        t.eq([tree.text(u.m(n)) for n in NAMES], ['0123456789+', '0123456789', '0123456789'])
        u.remount()
    u.umount()


@test(identities=('root',))
def kernel_overlay_as_lower(t):
    below = t.union(text=GROUP, name='below')
    with by_kernel(below):
        u = t.union(lowers=[below.mnt], name='above').mount()
        tree.append(u.m('a/x'), '+')
        for _ in range(2):
            got = [tree.text(u.m(n)) for n in NAMES]
            t.ok(got in (['0123456789+'] * 3, ['0123456789+', '0123456789', '0123456789']), str(got))
            u.remount()
        u.umount()


@test(identities=('root',), filesystems=('ext4', 'tmpfs', 'xfs'), everywhere=True)
def the_kernel_sees_the_same(t):
    """Our upper and index mounted by the kernel with its index, and ours after it went on."""
    u = t.union()
    for g in range(20):
        tree.build(u.low('g%d' % g), GROUP)
    u.mount()
    for g in range(20):
        for step in plan(9000 + g, 5):
            run_step(u.m('g%d' % g), step, regular(u.m('g%d' % g)))
    seen = look(u.mnt)
    u.umount()
    u.check_layers = False
    with by_kernel(u, *FULL):
        t.eq(look(u.mnt), seen, 'the kernel on our upper')
        for g in range(20):
            for step in plan(9500 + g, 4):
                run_step(u.m('g%d' % g), step, regular(u.m('g%d' % g)))
        seen = look(u.mnt)
    u.mount()
    t.eq(look(u.mnt), seen, 'ours after the kernel')
    for g in range(20):
        for n in regular(u.m('g%d' % g)):
            tree.append(u.m('g%d/%s' % (g, n)), '!')
    seen = look(u.mnt)
    u.remount()
    t.eq(look(u.mnt), seen)


@test(identities=('root',), filesystems=('btrfs',))
def kernel_index_on_btrfs(t):
    """btrfs does not tell its uuid by FS_IOC_GETFSUUID: without it our handles would not be the kernel's,
    nor its index ours."""
    u = t.union(text=GROUP)
    u.check_layers = False
    with by_kernel(u, *FULL):
        tree.append(u.m('a/x'), '+')
        seen = look(u.mnt)
    u.mount()
    t.eq(look(u.mnt), seen, 'ours on the index of the kernel')
    tree.append(u.m('c'), '+')
    seen = look(u.mnt)
    u.umount()
    with by_kernel(u, *FULL):
        t.eq(look(u.mnt), seen, 'the kernel on ours')
