# SPDX-License-Identifier: GPL-2.0-or-later
"""
Overlays inside our mount, as containers in containers have them: their lowers, or their upper, are
what we show. The marks they set are stored escaped and given back to them.
"""
import errno
import importlib
import os
import stat
import subprocess

from lib import Fail, Skip, k, registry, test, tree
from lib.context import Context
from lib.overlay import mark

INNER = ('create', 'read', 'redirect', 'remove', 'rename')
# What cannot be in a mount of ours: times of lowers are the outer one's to change, the kernel refuses
# an upper on FUSE, and what takes long.
NOT_INSIDE = ('read.lower_atime_is_left_alone', 'redirect.with_the_kernel_in_turns', 'redirect.a_tree_of_many',
              'remove.remove_while_listing', 'remove.nothing_is_copied', 'rename.in_a_storm',
              'redirect.random_moves_over_generations', 'redirect.moved_by_two', 'rename.directories', 'rename.exchange')


def _inner_cases(identity):
    for name in INNER:
        importlib.import_module('test_' + name)
    return [c for c in registry.CASES if c.name.split('.')[0] in INNER and not c.long and not c.prepare and
            identity in c.identities and c.name not in NOT_INSIDE]


def _run_inside(t, outer, case):
    """None, or what was wrong."""
    where = outer.m(case.name)
    logs = '%s/%s' % (t.logs, case.name)
    os.mkdir(where)
    os.makedirs(logs)
    inner = Context(where, logs, t.identity, 'fuse', t.binary, t.slow)
    try:
        os.chdir(where)
        case.fn(inner)
        inner.finish()
    except Skip:
        pass
    except (Fail, OSError) as e:
        return '%s: %s' % (case.name, str(e)[:800])
    finally:
        os.chdir(t.dir)
        inner.cleanup()
    return None


@test(identities=('root', 'userns'), timeout=120)      # fusermount3 wants to own the mountpoint's parents
def basic_tests_on_the_inner_one(t):
    """Lowers, upper, work and mountpoint of the inner one lie in our mount."""
    outer = t.mounted('d lower')
    outer.check_layers = False
    tree.devices = False
    bad = [why for why in (_run_inside(t, outer, c) for c in _inner_cases(t.identity)) if why]
    if bad:
        raise Fail('\n'.join(bad))


@test()
def marks_are_escaped(t):
    """What an inner overlay sets is stored one `overlay.` deeper, shown as it was set, at each
    level; it means nothing to us. Then it is copied up with the object."""
    u = t.mounted('d d; f d/f hello')
    name = t.ns + '.overlay.'
    os.setxattr(u.m('d'), name + 'opaque', b'y')
    os.setxattr(u.m('d'), name + 'overlay.redirect', b'/x')
    os.setxattr(u.m('d/f'), name + 'metacopy', b'')
    for _ in range(2):
        t.eq(sorted(n for n in os.listxattr(u.m('d')) if 'overlay' in n),
             [name + 'opaque', name + 'overlay.redirect'])
        t.eq((os.getxattr(u.m('d'), name + 'opaque'), tree.text(u.m('d/f'))), (b'y', 'hello'))
        t.eq((mark(u, u.up('d'), 'overlay.opaque'), mark(u, u.up('d'), 'overlay.overlay.redirect')), (b'y', b'/x'))
        t.eq(mark(u, u.up('d'), 'opaque'), None)
        u.remount()
    v = t.union(lowers=[u.upper] + u.lowers, name='next').mount()
    os.chmod(v.m('d/f'), 0o600)
    os.chmod(v.m('d'), 0o700)
    t.eq(mark(v, v.up('d/f'), 'overlay.metacopy'), b'')
    os.removexattr(v.m('d'), name + 'opaque')
    t.eq([n for n in os.listxattr(v.m('d')) if 'opaque' in n], [])


@test()
def no_device_whiteouts(t):
    """mknod of a character device 0:0 is EPERM, as in the kernel; nothing appears."""
    u = t.mounted('f f 1')
    for n in ('new', 'f'):
        t.fails((errno.EPERM, errno.EEXIST), os.mknod, u.m(n), stat.S_IFCHR, os.makedev(0, 0))
    t.eq((tree.names(u.mnt), tree.names(u.upper)), (['f'], []))


@test()
def whiteouts_made_in_it(t):
    """Layers built through our mount, with xattr whiteouts, opaque marks and redirects, are right
    for an overlay on them; in our mount they are files and directories with xattrs."""
    outer = t.mounted('f low/d/a 1; f low/d/b 1; f low/o/x 1; f low/r/y 1; f low/f 1')
    inner = t.union(lowers=[outer.m('top'), outer.m('low')], name='inner')
    tree.build(outer.m('top'), 'ox d; xw d/a; o o; f o/new 1; d q; x q %.overlay.redirect r; xw f', t.ns)
    for _ in range(2):
        t.eq(tree.names(outer.m('top')), ['d', 'f', 'o', 'q'])
        inner.mount()
        t.eq((tree.names(inner.mnt), tree.names(inner.m('d'))), (['d', 'o', 'q', 'r'], ['b']))
        t.eq((tree.names(inner.m('o')), tree.names(inner.m('q'))), (['new'], ['y']))
        inner.umount()
        outer.remount()


@test(identities=('root',))
def kernel_overlay_on_lowers_of_ours(t):
    """The kernel with lowers in our mount and its upper on tmpfs: marks made through us count."""
    outer = t.mounted('f low/d/a 1; f low/d/b 1; f low/o/x 1; f low/r/y 1; f low/big 12345')
    tree.build(outer.m('top'), 'ox d; xw d/a; o o; f o/new 1; d q; x q trusted.overlay.redirect r')
    tmp, at = t.dir + '/tmp', t.dir + '/at'
    for d in (tmp, at):
        os.mkdir(d)
    k.mount('tmpfs', tmp, 'tmpfs')
    os.mkdir(tmp + '/u')
    os.mkdir(tmp + '/w')
    k.mount('overlay', at, 'overlay', 0, 'lowerdir=%s:%s,upperdir=%s/u,workdir=%s/w,redirect_dir=on,metacopy=on'
            % (outer.m('top'), outer.m('low'), tmp, tmp))
    t.eq((tree.names(at), tree.names(at + '/d')), (['big', 'd', 'o', 'q', 'r'], ['b']))
    t.eq((tree.names(at + '/o'), tree.names(at + '/q')), (['new'], ['y']))
    t.sh('chmod 600 big; mv r r2; rm -r o; mkdir o; echo 6 >> big; mv o q/; rm d/b', cwd=at)
    t.eq((tree.text(at + '/big'), tree.names(at + '/d'), tree.names(at + '/q')), ('123456\n', [], ['o', 'y']))
    k.umount(at)
    k.umount(tmp)


@test(needs=('fuse-overlayfs',))
def fuse_overlayfs_in_it(t):
    """fuse-overlayfs with its upper in our mount: its `.wh.` names are files in ours, and stay."""
    outer = t.mounted('f low/f 1; f low/g 1; f low/d/x 1; d up; d work; d at')
    outer.check_layers = False
    at = outer.m('at')
    proc = subprocess.Popen(['fuse-overlayfs', '-f', '-o', 'lowerdir=%s,upperdir=%s,workdir=%s' %
                             (outer.m('low'), outer.m('up'), outer.m('work')), at],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        if k.mounted_at(at) or proc.poll() is not None:
            break
        k.libc.usleep(10000)
    if not k.mounted_at(at):
        t.skip('fuse-overlayfs does not mount here')
    t.sh('rm f; echo 2 > g; rm -r d; mkdir d; touch d/new', cwd=at)
    t.eq((tree.names(at), tree.names(at + '/d')), (['d', 'g'], ['new']))
    if t.identity == 'user':
        t.run('fusermount3', '-u', at)
    else:
        k.umount(at)
    proc.wait(10)
    for _ in range(2):
        t.ok('.wh.f' in os.listdir(outer.m('up')), str(os.listdir(outer.m('up'))))
        t.ok(tree.exists(outer.m('up/.wh.f')) and not tree.exists(outer.m('up/f')))
        t.eq(tree.text(outer.m('low/f')), '1')
        outer.remount()
