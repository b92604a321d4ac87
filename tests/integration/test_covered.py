# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layers in which something is mounted, where they cannot be cloned: a plain user's and in user namespaces. Files show what covers
them, as in every container /etc/hosts; directories are not entered.
"""
import errno
import os

from lib import k, test, tree

BELOW = 'f hosts below; f d/f below 600; f d/sub/hidden 1; f d/after 1; f other 1; d at'
COVER = b'127.0.0.1 covering\n'


def _covers(directory):
    """As root, in the test's own namespace: a file and a directory of a lower are mounted on."""
    base = directory + '/u0/l1'
    tree.build(base, BELOW)
    tree.build(directory, 'f cover/hosts x; f cover/f x 640; f cover/dir/in-mount 1')
    for n in ('hosts', 'f'):
        with open('%s/cover/%s' % (directory, n), 'wb') as f:
            f.write(COVER)
        os.utime('%s/cover/%s' % (directory, n), (1e9, 1e9))
    os.setxattr(directory + '/cover/f', 'user.k', b'v')
    k.mount(directory + '/cover/hosts', base + '/hosts', None, k.MS_BIND)
    k.mount(directory + '/cover/f', base + '/d/f', None, k.MS_BIND)
    k.mount(directory + '/cover/dir', base + '/d/sub', None, k.MS_BIND)
    t_own = [os.path.join(directory, n) for n in ('u0', 'cover')]
    for top in t_own:
        for where, dirs, files in os.walk(top):
            for n in dirs + files + ['.']:
                os.chown(os.path.join(where, n), 1000, 1000)


@test(identities=('user', 'userns'), prepare=_covers)
def files(t):
    """Read, stat, xattrs, listing; changed; moved; deleted; after a remount. Never empty, never somebody else's data lost."""
    u = t.union()
    u.check_lowers = False
    u.mount()
    for n, cover in (('hosts', 'hosts'), ('d/f', 'f')):
        st, want = os.stat(u.m(n)), os.stat(t.dir + '/cover/' + cover)
        t.eq(tree.read(u.m(n)), COVER, n)
        t.eq((st.st_size, st.st_mode, st.st_mtime, st.st_uid), (want.st_size, want.st_mode, want.st_mtime, want.st_uid), n)
    t.eq(os.getxattr(u.m('d/f'), 'user.k'), b'v')
    t.eq({n: ty for _, ty, n in k.listing(u.mnt)}['hosts'], 8)
    # Metadata alone cannot be copied: at the next mount the data would be sought below.
    os.chmod(u.m('d/f'), 0o600)
    t.eq(tree.read(u.up('d/f')), COVER)
    tree.append(u.m('hosts'), 'more')
    t.eq(tree.read(u.m('hosts')), COVER + b'more')
    t.eq(tree.read(t.dir + '/cover/hosts'), COVER, 'the covering file has changed')
    u.remount()
    t.eq((tree.read(u.m('hosts')), tree.read(u.m('d/f')), os.stat(u.m('d/f')).st_mode & 0o777), (COVER + b'more', COVER, 0o600))
    os.rename(u.m('hosts'), u.m('d/hosts2'))
    os.unlink(u.m('d/f'))
    t.eq((tree.names(u.mnt), tree.names(u.m('d'))), (['at', 'd', 'other'], ['after', 'hosts2', 'sub']))
    u.umount()
    t.run('rm', '-rf', *(u.up(n) for n in os.listdir(u.upper)))
    u.mount()
    os.rename(u.m('hosts'), u.m('moved'))
    os.unlink(u.m('d/f'))
    t.eq(tree.read(u.m('moved')), COVER)
    tree.write(u.m('d/f'), 'new')
    u.remount()
    t.eq((tree.read(u.m('moved')), tree.text(u.m('d/f'))), (COVER, 'new'))
    t.eq(tree.read(t.dir + '/cover/f'), COVER)


@test(identities=('user', 'userns'), prepare=_covers)
def directories(t):
    """An empty stand-in, in which nothing can be made and which cannot be taken away."""
    u = t.union()
    u.check_lowers = False
    u.mount()
    t.eq(os.listdir(u.m('d/sub')), [])
    t.fails(errno.ENOENT, os.stat, u.m('d/sub/in-mount'))
    for fn, args in ((tree.write, ('d/sub/new', 'x')), (os.mkdir, ('d/sub/new',)), (os.chmod, ('d/sub', 0o700))):
        t.fails(errno.EXDEV, fn, u.m(args[0]), *args[1:])
    t.fails(errno.EXDEV, os.rename, u.m('other'), u.m('d/sub/new'))
    t.fails(errno.EBUSY, os.rmdir, u.m('d/sub'))
    t.fails(errno.EBUSY, os.rename, u.m('d/sub'), u.m('d/sub2'))
    os.mkdir(u.m('empty'))
    t.fails(errno.EBUSY, os.rename, u.m('empty'), u.m('d/sub'))
    os.rmdir(u.m('empty'))
    t.eq([n for n in os.listdir(u.upper)], [], 'a refused call leaves something')
    tree.append(u.m('d/after'), '2')
    t.eq(os.listdir(u.up('d')), ['after'])
    # Where the upper has one of its own, that is what is used.
    u.umount()
    os.mkdir(u.up('d/sub'))
    u.mount()
    tree.write(u.m('d/sub/new'), 'x')
    t.eq((tree.names(u.m('d/sub')), tree.text(u.up('d/sub/new'))), (['new'], 'x'))
    os.unlink(u.m('d/sub/new'))
    t.fails(errno.EBUSY, os.rmdir, u.m('d/sub'))


@test(identities=('user', 'userns'), prepare=_covers)
def below_another_layer(t):
    """A directory of a layer above it is used as any other."""
    u = t.union(lowers=[t.dir + '/top', t.dir + '/u0/l1'], text='f d/sub/x 1')
    u.check_lowers = False
    u.mount()
    tree.write(u.m('d/sub/new'), 'x')
    os.chmod(u.m('d/sub'), 0o700)
    t.eq(tree.names(u.m('d/sub')), ['new', 'x'])
    os.unlink(u.m('d/sub/new'))
    os.unlink(u.m('d/sub/x'))
    t.fails(errno.EBUSY, os.rmdir, u.m('d/sub'))
    t.eq(tree.read(u.m('d/f')), COVER)


@test(identities=('userns',), prepare=_covers)
def a_file_of_our_own_mount(t):
    """It covers a file of the layer: not asked, since the answer would be ours."""
    u = t.union()
    u.check_lowers = False
    u.mount('threads=1', 'timeout=0')
    t.eq(tree.text(u.m('other')), '1')
    k.mount(u.m('other'), u.low('d/after'), None, k.MS_BIND)
    try:
        for _ in range(3):
            t.fails(errno.EXDEV, os.stat, u.m('d/after'))
            t.eq(sorted(os.listdir(u.m('d'))), ['after', 'f', 'sub'])
            t.eq(tree.text(u.m('other')), '1')
    finally:
        k.umount(u.low('d/after'), k.MNT_DETACH)
    t.eq(tree.text(u.m('d/after')), '1')
