# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layers on file systems that are not like the rest: without d_type, without xattrs or ACLs, the kernel's
overlayfs, another mount of ours. Uppers without devices or xattrs: test_whiteout_kinds.py; tmpfs, xfs and
btrfs: every test marked `everywhere`.
"""
import os
import subprocess

from lib import k, test, tree
from lib.against import flat, same
from lib.life import life


def _image(t, name, mkfs):
    """A file system of its own in a file; where it is mounted."""
    t.need(mkfs[0])
    img, at = '%s/%s.img' % (t.dir, name), '%s/%s' % (t.dir, name)
    with open(img, 'wb') as f:
        f.truncate(64 << 20)
    t.run(*mkfs, img)
    os.mkdir(at)
    p = subprocess.run(['mount', '-o', 'loop', img, at], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True)
    if p.returncode:
        t.skip('cannot mount: %s' % p.stdout)
    return at


def _lower_upper_both(t, at):
    """The file system at @at as lower, as upper and work, and as both."""
    for i, where in enumerate(('lower', 'upper', 'both')):
        u = t.union(lowers=2, name=where)
        if where != 'upper':
            u.lowers = [os.path.join(at, where + n) for n in 'ab']
        if where != 'lower':
            u.upper, u.work = os.path.join(at, where + 'u'), os.path.join(at, where + 'w')
        for d in u.lowers + [u.upper, u.work]:
            os.makedirs(d, exist_ok=True)
        life(t, u, plain='plain%d' % i)


@test(identities=('root',), timeout=120)
def without_d_type(t):
    """ext4 without `filetype`: as lower, as upper and work, and as both."""
    at = _image(t, 'untyped', ['mkfs.ext4', '-q', '-F', '-O', '^filetype'])
    tree.write(at + '/probe', '')
    t.eq([ty for _, ty, n in k.listing(at) if n == 'probe'], [0], 'it does have d_type')
    _lower_upper_both(t, at)
    k.umount(at)


def _lowers_on(t, at, **kw):
    u = t.union(lowers=2)
    u.lowers = [at + '/a', at + '/b']
    for d in u.lowers:
        os.mkdir(d)
    life(t, u, **kw)
    k.umount(at)


@test(identities=('root',))
def lowers_without_xattrs(t):
    """ramfs below an ordinary upper."""
    at = t.dir + '/ramfs'
    os.mkdir(at)
    k.mount('ramfs', at, 'ramfs')
    _lowers_on(t, at)


@test(identities=('root',))
def lowers_on_vfat(t):
    """It knows no owners, links or modes either."""
    _lowers_on(t, _image(t, 'fat', ['mkfs.vfat']), more='')


@test(identities=('root', 'userns'), needs=('setfacl',))
def without_acls(t):
    """A file system with xattrs and without ACLs (a mount of ours, with noacl), as lower and as upper: ACLs are
    offered where the upper keeps them, and nothing fails where it does not."""
    outer = t.mounted('f x 1', 'noacl', name='outer')
    outer.check_layers = False
    for where in ('lower', 'upper'):
        u = t.union(lowers=2, name=where)
        if where == 'lower':
            u.lowers = [outer.m('a'), outer.m('b')]
        else:
            u.upper, u.work = outer.m('u'), outer.m('w')
        for d in u.lowers + [u.upper, u.work]:
            os.makedirs(d, exist_ok=True)
        life(t, u, plain='plain-' + where)
        u.mount()
        p = subprocess.run(['setfacl', '-m', 'u:%d:r' % os.getuid(), u.m('f')], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
        t.eq(p.returncode == 0, where == 'lower', '%s: %s' % (where, p.stdout))
        u.umount()


@test(identities=('root',), timeout=120)
def on_the_kernels_overlay(t):
    """Lowers, and upper and work, in a mount of the kernel's overlayfs."""
    base, at = t.dir + '/base', t.dir + '/overlay'
    for d in ('low', 'up', 'work'):
        os.makedirs('%s/%s' % (base, d))
    os.mkdir(at)
    tree.build(base + '/low', 'f below/f 1', t.ns)
    try:
        k.mount('overlay', at, 'overlay', 0, 'lowerdir=%s/low,upperdir=%s/up,workdir=%s/work' % (base, base, base))
    except OSError as e:
        t.skip('no kernel overlayfs here: %s' % e)
    _lower_upper_both(t, at)
    k.umount(at)


@test(identities=('root', 'userns'), timeout=120)
def on_another_of_ours(t):
    """Upper and work in one mount of ours, the lowers in a second."""
    first, second = t.mounted('f x 1', name='first'), t.mounted('f x 1', name='second')
    first.check_layers = second.check_layers = False
    u = t.union(lowers=2, name='on')
    u.upper, u.work = first.m('u'), first.m('w')
    u.lowers = [second.m('a'), second.m('b')]
    for d in u.lowers + [u.upper, u.work]:
        os.mkdir(d)
    life(t, u)
    same_after = flat(t, first, 'kept')
    first.remount()
    same(t, first, same_after)
