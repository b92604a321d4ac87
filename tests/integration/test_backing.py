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

LOWER = ('f f hello; f d/x 1; f d/y 2; f d/s/z 3; f e/x 1; d empty; f m/low 1; f gone 1; f big ' + 'b' * 5000)
LOWER2 = 'f m/low2 1; f m/low wrong; f d/s/z2 1'
LINKS = 'l l f; f hard 1; h hard2 hard; p fifo'
STEPS = '''echo more >> f; echo new > new; rm gone d/y; rm -r e; mkdir e; echo n > e/n; chmod 600 big; mv d/x d/moved
    touch -d @5 m/low; cp f copy; mkdir -p deep/er; echo 1 > deep/er/f; rmdir empty; echo t > m/low2; mv new m/'''


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


def _life(t, u, more=LINKS, plain='plain', xattrs=True):
    """What is read, changed and remounted is what a plain tree would be."""
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
        _life(t, u, plain='plain%d' % i)


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
    _life(t, u, **kw)
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
        _life(t, u, plain='plain-' + where)
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
    _life(t, u)
    same_after = flat(t, first, 'kept')
    first.remount()
    same(t, first, same_after)
