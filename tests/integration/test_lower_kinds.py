# SPDX-License-Identifier: GPL-2.0-or-later
"""Every type of layer people use as lower, with every change: what happens, and what is there afterwards, is what a
plain directory would make of it."""
import errno
import mmap
import os
import subprocess

from lib import k, test, tree
from lib.against import flat
from lib.foreign import IMAGES, KERNEL, LIVE, Foreign

# Each change has a directory of its own with these.
OBJECTS = 'f {0}/f hello; f {0}/g other; f {0}/d/x 1; f {0}/d/s/y 2; d {0}/e; l {0}/l f'


def _patch(d):
    fd = os.open(d + '/f', os.O_RDWR)
    os.pwrite(fd, b'J', 0)
    os.close(fd)


def _mapped(d):
    fd = os.open(d + '/f', os.O_RDWR)
    with mmap.mmap(fd, 0) as m:
        m[1:2] = b'E'
    os.close(fd)


def _allocate(d):
    fd = os.open(d + '/f', os.O_RDWR)
    os.posix_fallocate(fd, 0, 9000)
    os.close(fd)


def _append_only(d):
    fd = os.open(d + '/f', os.O_WRONLY | os.O_APPEND)
    os.write(fd, b'+')
    os.fsync(fd)
    os.close(fd)


def _rm_r(d):
    os.unlink(d + '/d/s/y')
    os.rmdir(d + '/d/s')
    os.unlink(d + '/d/x')
    os.rmdir(d + '/d')


def _again(d):
    _rm_r(d)
    os.mkdir(d + '/d')
    tree.write(d + '/d/new', '1')


def _link(d):
    os.link(d + '/f', d + '/ln')
    tree.append(d + '/ln', '+')


CHANGES = {
    'append': _append_only, 'patch': _patch, 'mmap': _mapped, 'allocate': _allocate,
    'cut': lambda d: os.truncate(d + '/f', 2), 'empty': lambda d: os.truncate(d + '/f', 0),
    'extend': lambda d: os.truncate(d + '/f', 8192), 'write': lambda d: tree.write(d + '/f', 'new'),
    'chmod': lambda d: os.chmod(d + '/f', 0o640), 'chmod-d': lambda d: os.chmod(d + '/d', 0o711),
    'chown': lambda d: os.chown(d + '/f', 3, 4), 'chown-l': lambda d: os.lchown(d + '/l', 3, 4),
    'touch': lambda d: os.utime(d + '/f', (5, 5)), 'touch-d': lambda d: os.utime(d + '/d', (5, 5)),
    'touch-l': lambda d: os.utime(d + '/l', (5, 5), follow_symlinks=False),
    'xattr': lambda d: os.setxattr(d + '/f', 'user.k', b'v'), 'xattr-d': lambda d: os.setxattr(d + '/d', 'user.k', b'v'),
    'rm': lambda d: os.unlink(d + '/f'), 'rm-l': lambda d: os.unlink(d + '/l'), 'rmdir': lambda d: os.rmdir(d + '/e'),
    'rmdir-full': lambda d: os.rmdir(d + '/d'), 'rm-r': _rm_r, 'again': _again,
    'mv': lambda d: os.rename(d + '/f', d + '/moved'), 'mv-away': lambda d: os.rename(d + '/f', d + '/d/s/f'),
    'mv-over': lambda d: os.rename(d + '/f', d + '/g'), 'mv-l': lambda d: os.rename(d + '/l', d + '/l2'),
    'mv-dir': lambda d: os.rename(d + '/d', d + '/d2'), 'mv-dir-away': lambda d: os.rename(d + '/d', d + '/e/d'),
    'mv-dir-over': lambda d: os.rename(d + '/d', d + '/e'),
    'swap': lambda d: k.rename2(d + '/f', d + '/g', 2), 'swap-dir': lambda d: k.rename2(d + '/f', d + '/d', 2),
    'ln': _link, 'new': lambda d: tree.write(d + '/d/s/new', '1'), 'mkdir': lambda d: os.makedirs(d + '/d/s/n/m'),
    'symlink': lambda d: os.symlink('x', d + '/d/new'), 'mkfifo': lambda d: os.mkfifo(d + '/d/p'),
}


def _result(fn, d):
    try:
        fn(d)
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]


def _every_change(t, name, lowers, opts=()):
    u = t.union(name=name)
    u.lowers, u.check_lowers = lowers, False
    u.mount(*opts)
    p = flat(t, u, 'plain-' + name)
    for step, fn in CHANGES.items():
        t.eq(_result(fn, u.m(step)), _result(fn, '%s/%s' % (p, step)), '%s: %s' % (name, step))
    for i in range(3):
        t.same_tree(tree.snapshot(p, times=False), tree.snapshot(u.mnt, times=False), '%s, time %d' % (name, i))
        for step in ('touch', 'touch-d'):
            n = '%s/%s' % (step, 'd' if step == 'touch-d' else 'f')
            t.eq(os.stat(u.m(n)).st_mtime, 5.0, '%s: time of %s' % (name, n))
        if i == 0 and t.root:
            k.drop_caches(2)
        else:
            u.remount()
    u.umount()


def _fill(d):
    for step in CHANGES:
        tree.build(d, OBJECTS.format(step))
    os.chmod(d + '/chmod/g', 0o4711)
    os.utime(d + '/append/g', (7, 7))


def _kind(kind):
    def case(t):
        src = t.plain('src')
        _fill(src)
        f = Foreign(t, kind, src)
        for opts in ((), ('timeout=0',), ('index=off,metacopy=off',)):
            _every_change(t, kind + ''.join(opts), [f.at], opts)
        f.umount()
    case.__name__ = kind.replace('-', '_')
    case.__doc__ = 'Lowers of type %s.' % kind
    return test(identities=('root',) if kind in KERNEL else ('root', 'user', 'userns'), timeout=180)(case)


for _name in (*KERNEL, *IMAGES, *LIVE):
    globals()['_on_' + _name] = _kind(_name)


def _two(t, name, a, b):
    """Two layers of one type: the top one has some of the names."""
    _fill(b)
    tree.build(a, 'f new/d/s/top 1; f mv-dir/d/top 2; f rm-r/other 3')
    os.unlink(b + '/rm-r/l')
    _every_change(t, name, [a, b])


@test(identities=('root',), timeout=120)
def btrfs_subvolumes(t):
    """Two subvolumes as two lowers, and a subvolume within one."""
    t.need('mkfs.btrfs', 'btrfs')
    img, at = t.dir + '/img', t.plain('at')
    with open(img, 'wb') as f:
        f.truncate(256 << 20)
    t.run('mkfs.btrfs', '-q', img)
    p = subprocess.run(['mount', '-o', 'loop', img, at], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        t.skip('cannot mount btrfs: %s' % p.stdout)
    for n in 'ab':
        t.run('btrfs', 'subvolume', 'create', '%s/%s' % (at, n))
    t.run('btrfs', 'subvolume', 'create', at + '/b/inner')
    tree.build(at + '/b', 'f inner/f 1')
    _two(t, 'btrfs', at + '/a', at + '/b')
    k.umount(at)


@test(identities=('root',), timeout=120)
def xfs_with_projects(t):
    """Directories of different projects, which new files inherit there."""
    t.need('mkfs.xfs', 'xfs_io')
    img, at = t.dir + '/img', t.plain('at')
    with open(img, 'wb') as f:
        f.truncate(320 << 20)
    t.run('mkfs.xfs', '-q', img)
    p = subprocess.run(['mount', '-o', 'loop', img, at], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True)
    if p.returncode:
        t.skip('cannot mount xfs: %s' % p.stdout)
    for i, n in enumerate(('a', 'b')):
        os.mkdir('%s/%s' % (at, n))
        t.run('xfs_io', '-c', 'chproj %d' % (i + 7), '-c', 'chattr +P', '%s/%s' % (at, n))
    _two(t, 'xfs', at + '/a', at + '/b')
    k.umount(at)


@test(identities=('root',), timeout=120)
def tmpfs(t):
    at = t.plain('at')
    k.mount('tmpfs', at, 'tmpfs')
    for n in 'ab':
        os.mkdir('%s/%s' % (at, n))
    _two(t, 'tmpfs', at + '/a', at + '/b')
    k.umount(at)


@test(identities=('root',), timeout=120)
def overlay(t):
    """A read-only overlay of the kernel's, and one of ours."""
    src, top = t.plain('src'), t.plain('top')
    _fill(src)
    tree.build(top, 'f new/d/s/top 1')
    at = t.plain('at')
    try:
        k.mount('overlay', at, 'overlay', 0, 'lowerdir=%s:%s' % (top, src))
    except OSError as e:
        t.skip('no kernel overlayfs here: %s' % e)
    _every_change(t, 'over', [at])
    k.umount(at)
    inner = t.union(name='inner', lowers=[top, src], upper=False)
    inner.mount()
    _every_change(t, 'ours', [inner.mnt])
    inner.umount()
