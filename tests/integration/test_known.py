# SPDX-License-Identifier: GPL-2.0-or-later
"""Known bugs of the daemon, one test each: each moves to the file of its subject when it is fixed."""
import errno
import os

from lib import k, test, tree
from lib.links import GROUP, look
from lib.overlay import FULL, by_kernel


@test(identities=('root', 'userns'))
def directory_over_a_wh_name_where_devices_work(t):
    """An upper with 0:0 devices but without xattrs (ramfs; NFS as root): rmdir of a directory that
    was moved into a merged one leaves `.wh.NAME`, and mkdir of NAME is ENOENT from then on."""
    where = t.dir + '/ramfs'
    os.mkdir(where)
    k.mount('ramfs', where, 'ramfs')
    u = t.union(text='f d/f 1')
    u.check_layers = False
    u.upper, u.work = where + '/upper', where + '/work'
    os.mkdir(u.upper)
    os.mkdir(u.work)
    u.mount()
    for _ in range(2):
        os.mkdir(u.m('y'))
        os.rename(u.m('y'), u.m('d/y'))
        os.rmdir(u.m('d/y'))
        os.mkdir(u.m('d/y'))
        u.remount()
        os.rmdir(u.m('d/y'))


@test(identities=('root',), filesystems=('btrfs',))
def kernel_index_on_btrfs(t):
    """btrfs does not tell its uuid by FS_IOC_GETFSUUID, so our handles have none: the kernel with
    index=on refuses our upper (ESTALE), and its own index means nothing to us."""
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


@test()
def too_long_a_redirect_copies_nothing_up(t):
    """EXDEV comes before any change, also before the directory itself is copied up."""
    u = t.union()
    deep = '/'.join(['n' * 80] * 3)
    u.put('f %s/thirteen-byte/f 1' % deep)
    u.mount()
    before = sorted(tree.walk(u.upper))
    t.fails(errno.EXDEV, os.rename, u.m(deep + '/thirteen-byte'), u.m('not'))
    t.eq(sorted(tree.walk(u.upper)), before)


@test()
def parent_number_in_a_listed_and_moved_directory(t):
    """d_ino of `..` after the move of a directory that was listed before: it was the old parent's."""
    u = t.mounted('f a/f 1; f b/f 1')
    k.listing(u.m('a'))
    os.rename(u.m('a'), u.m('b/a'))
    here = {n: ino for ino, _, n in k.listing(u.m('b/a'))}
    t.eq(here['..'], os.stat(u.m('b')).st_ino)
