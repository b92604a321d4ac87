# SPDX-License-Identifier: GPL-2.0-or-later
"""What others make of an upper of ours: the table in README and man page. Never wrong data that is not told there."""
import contextlib
import errno
import os
import subprocess

from lib import k, test, tree
from lib.overlay import PLAIN, by_kernel

LOWER = 'f f hello; f d/x 1; f d/s/y 2; f m/a 1; f hard same; h hard2 hard; f gone 1; f od/old 1'
SCRIPT = 'rm gone; rm -r od; mkdir od; echo n > od/new; echo + >> m/a; touch new; mkdir nd; mv m/a m/b'


@contextlib.contextmanager
def by_fuse_overlayfs(t, u):
    proc = subprocess.Popen(['fuse-overlayfs', '-f', '-o', 'lowerdir=%s,upperdir=%s,workdir=%s' %
                             (':'.join(u.lowers), u.upper, u.work), u.mnt],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        if k.mounted_at(u.mnt) or proc.poll() is not None:
            break
        k.libc.usleep(10000)
    if not k.mounted_at(u.mnt):
        t.skip('fuse-overlayfs does not mount here')
    try:
        yield
    finally:
        u.unmount_once()
        proc.wait(10)


def _ours(t):
    u = t.mounted(LOWER)
    t.sh(SCRIPT + '; chmod 600 f; mv d e; echo + >> hard', cwd=u.mnt)
    u.umount()
    return u


@test(identities=('root',))
def kernel_by_default(t):
    """A redirect is followed (the kernel's usual build) or EPERM; metacopy EPERM; names of a hard
    link that are not copied up: the old content; everything else is right."""
    u = _ours(t)
    with by_kernel(u):
        try:
            t.eq(tree.names(u.m('e')), ['s', 'x'])
        except PermissionError:
            pass
        t.fails(errno.EPERM, tree.read, u.m('f'))
        t.eq((tree.text(u.m('hard')), tree.text(u.m('hard2'))), ('same+\n', 'same'))
        t.eq((tree.names(u.m('od')), tree.names(u.m('m')), tree.text(u.m('m/b'))), (['new'], ['b'], '1+\n'))
        t.fails(errno.ENOENT, os.lstat, u.m('gone'))
        t.fails(errno.ENOENT, os.lstat, u.m('d'))


@test(identities=('root',))
def kernel_that_does_not_follow(t):
    u = _ours(t)
    with by_kernel(u, 'redirect_dir=nofollow'):
        t.fails(errno.EPERM, os.listdir, u.m('e'))
        t.fails(errno.EPERM, os.lstat, u.m('f'))
        t.eq(tree.text(u.m('m/b')), '1+\n')


@test(identities=('root',), needs=('fuse-overlayfs',))
def fuse_overlayfs(t):
    """It knows neither mark: NULs for a metacopy file, an empty directory for a moved one."""
    u = _ours(t)
    with by_fuse_overlayfs(t, u):
        t.eq((tree.read(u.m('f')), tree.names(u.m('e'))), (b'\0' * 5, []))
        t.eq((tree.text(u.m('m/b')), tree.names(u.m('od'))), ('1+\n', ['new']))
        t.ok(not tree.exists(u.m('gone')) and not tree.exists(u.m('d')))


@test(identities=('root',), everywhere=True)
def everyone_reads_the_plain_form(t):
    """redirect_dir=off,metacopy=off,index=off: the kernel by default and with userxattr's rules,
    fuse-overlayfs, and ours with any settings."""
    u = t.union(text=LOWER).mount(*PLAIN)
    t.sh(SCRIPT + '; chmod 600 f; mv d e; echo + >> hard', cwd=u.mnt)
    want = tree.snapshot(u.mnt, times=False)
    u.umount()
    for opts in ((), ('redirect_dir=nofollow', 'metacopy=off')):
        with by_kernel(u, *opts):
            t.same_tree(want, tree.snapshot(u.mnt, times=False), 'the kernel %s' % (opts,))
    for opts in ((), ('redirect_dir=nofollow',), PLAIN):
        u.mount(*opts)
        t.same_tree(want, tree.snapshot(u.mnt, times=False), 'ours %s' % (opts,))
        u.umount()
    try:
        with by_fuse_overlayfs(t, u):
            got = tree.snapshot(u.mnt, times=False)
    except FileNotFoundError:
        return
    t.eq({n: v[-1] for n, v in got.items()}, {n: v[-1] for n, v in want.items()}, 'fuse-overlayfs')


@test(identities=('root',))
def hard_links_elsewhere(t):
    """Without index=on the kernel shows the old content under names that are not in the upper;
    fuse-overlayfs, as root, may not show what is only in a lower."""
    u = t.mounted('f a old; h s/b a; f s/only 1')
    tree.append(u.m('a'), '+')
    u.umount()
    for opts, other in (((), 'old'), (('index=on',), 'old+')):
        with by_kernel(u, *opts):
            t.eq((tree.text(u.m('a')), tree.text(u.m('s/b'))), ('old+', other), 'kernel %r' % (opts,))
    t.need('fuse-overlayfs')
    with by_fuse_overlayfs(t, u):
        t.eq(tree.text(u.m('a')), 'old+')
        if tree.exists(u.m('s/b')):
            t.eq(tree.text(u.m('s/b')), 'old')


@test(identities=('root',))
def whiteouts_of_other_kinds(t):
    """Uppers without device nodes: the kernel misses an xattr whiteout in listings only, a .wh. name wholly;
    fuse-overlayfs knows the latter."""
    u = t.union(text='f d/x 1; f d/y 1')
    u.put('xw d/x; wh d/y', 'upper')
    with by_kernel(u):
        t.fails(errno.ENOENT, os.lstat, u.m('d/x'))
        t.eq(tree.names(u.m('d')), ['.wh.y', 'x', 'y'])
        t.eq(tree.text(u.m('d/y')), '1')
    t.need('fuse-overlayfs')
    with by_fuse_overlayfs(t, u):
        t.eq((tree.names(u.m('d')), tree.text(u.m('d/x'))), (['x'], ''))


@test(identities=('root',))
def kernel_with_userxattr(t):
    """It does not follow what a plain user's mount writes by default, and says so."""
    u = t.mounted(LOWER, 'userxattr')
    t.sh(SCRIPT + '; chmod 600 f; mv d e', cwd=u.mnt)
    u.umount()
    for opts in (('redirect_dir=on',), ('metacopy=on',)):
        t.fails(errno.EINVAL, by_kernel(u, 'userxattr', *opts).__enter__)
    with by_kernel(u, 'userxattr'):
        for n in 'ef':
            t.fails(errno.EPERM, os.lstat, u.m(n))
        t.eq((tree.names(u.m('od')), tree.text(u.m('m/b'))), (['new'], '1+\n'))
