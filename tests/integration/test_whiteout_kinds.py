# SPDX-License-Identifier: GPL-2.0-or-later
"""
Uppers on file systems that lack something. Our own mount refuses 0:0 devices: deletions are marked by
an xattr there. With noxattrs=1 it has no xattrs either: they are .wh. names. Both are fully usable.
"""
import errno
import os
import random
import stat
import subprocess

from lib import k, test, tree
from lib.against import both, exchange, flat, random_step, remove, same
from lib.overlay import mark, said

KINDS = {'xattr': (), 'beside': ('noxattrs=1',)}
LOWER = 'f f 1; f g 2; l l f; f d/x 1; f d/y 2; f d/s/z 3; f e/x 1; d empty; f m/low 1; f hard 1; h hard2 hard'
LOWER2 = 'f m/low2 1; f m/low wrong; f d/s/z2 1'


def nested(t, kind, name='in', **kw):
    """A union whose upper and work lie in another union, which is mounted."""
    if kind == 'ramfs':
        where = '%s/%s-ramfs' % (t.dir, name)
        os.mkdir(where)
        k.mount('ramfs', where, 'ramfs')
        os.chmod(where, 0o755)
    else:
        outer = t.mounted('', *KINDS[kind], name=name + '-outer')
        outer.check_layers = False      # .wh. names are ordinary files there
        where = outer.mnt
    u = t.union(lowers=2, text=LOWER, name=name, **kw)
    u.put(LOWER2, 1)
    u.upper, u.work = where + '/upper', where + '/work'
    os.mkdir(u.upper)
    os.mkdir(u.work)
    u.check_layers = kind == 'xattr'
    return u


def may_fail(kind):
    return () if kind == 'xattr' else ('EXDEV',)       # no xattr, no redirect


def is_hidden(u, kind, rel):
    """The upper hides @rel in the way of its kind."""
    p = u.up(rel)
    if kind == 'beside':
        return tree.exists(os.path.join(os.path.dirname(p), '.wh.' + os.path.basename(p)))
    st = os.lstat(p)
    return stat.S_ISREG(st.st_mode) and st.st_size == 0 and mark(u, p, 'whiteout') is not None


@test()
def removals(t):
    """unlink and rmdir of lower, merged and copied-up names; once more made, once more removed."""
    for kind in KINDS:
        u = nested(t, kind, kind).mount()
        t.eq(len(said(u, 'no 0:0 device nodes')), 1, 'lines in the log')
        p = flat(t, u, 'plain-' + kind)
        tree.append(u.m('g'), '')
        for d in (u.mnt, p):
            t.sh('rm f g l hard; rm -r d; rmdir empty; rm m/low', cwd=d)
        for n in ('f', 'd', 'm/low', 'hard', 'empty'):
            t.ok(is_hidden(u, kind, n), '%s: %s' % (kind, n))
        same(t, u, p)
        u.remount()
        same(t, u, p)
        for d in (u.mnt, p):
            t.sh('echo new > f; mkdir d d/s; touch d/s/n; mkfifo g; ln hard2 hard; ln -s x l; mkdir empty m/low', cwd=d)
        same(t, u, p)
        u.remount()
        same(t, u, p, kind)
        for d in (u.mnt, p):
            t.sh('rm f g l hard; rm -r d m/low empty', cwd=d)
        u.remount()
        same(t, u, p)
        u.umount()


@test()
def moves(t):
    """rename of files from and over whiteouts, exchange, link over a whiteout, rmdir of a
    directory with whiteouts, mkdir and mv of directories over whiteouts."""
    for kind in KINDS:
        u = nested(t, kind, kind).mount()
        p = flat(t, u, 'plain-' + kind)
        kw = {'may_fail': may_fail(kind)}
        both(u, p, os.rename, 'f', 'd/f')
        both(u, p, os.rename, 'd/x', 'f')
        both(u, p, os.rename, 'g', 'd/x')
        both(u, p, os.rename, 'd/x', 'f')
        both(u, p, os.link, 'f', 'g')
        both(u, p, exchange, 'f', 'd/y')
        both(u, p, exchange, 'l', 'd/f', **kw)
        both(u, p, os.unlink, 'e/x')
        both(u, p, os.mkdir, 'new')
        both(u, p, os.mkdir, 'new/in')
        both(u, p, os.rename, 'new', 'e')
        same(t, u, p)
        u.remount()
        same(t, u, p)
        both(u, p, os.rename, 'd', 'was-d', **kw)
        both(u, p, os.rename, 'm', 'empty', **kw)
        both(u, p, exchange, 'e', 'empty', **kw)
        for d in (u.mnt, p):
            t.sh('rm -rf m; mkdir m; touch m/low', cwd=d)
        same(t, u, p)
        u.remount()
        same(t, u, p, kind)
        u.umount()


@test()
def random_steps(t):
    for kind in KINDS:
        u = nested(t, kind, kind).mount()
        p = flat(t, u, 'plain-' + kind)
        r = random.Random(5)
        for i in range(100):
            random_step(u, p, r, str(i), may_fail(kind))
            if i % 50 == 49:
                same(t, u, p, '%s, step %d' % (kind, i))
                u.remount()
                same(t, u, p, '%s, step %d and a remount' % (kind, i))
        u.umount()


@test()
def attributes_and_data(t):
    """The rest of life on such uppers: modes, times, data, listings with whiteouts in them."""
    for kind in KINDS:
        u = nested(t, kind, kind).mount()
        os.chmod(u.m('f'), 0o600)
        tree.append(u.m('f'), '+')
        os.utime(u.m('d/x'), ns=(5, 6))
        os.unlink(u.m('d/y'))
        fd = os.open(u.m('g'), os.O_RDWR)
        os.unlink(u.m('g'))
        os.pwrite(fd, b'W', 0)
        t.eq(os.pread(fd, 9, 0), b'W')
        os.close(fd)
        if kind == 'xattr':
            os.setxattr(u.m('d'), 'user.k', b'v')
        for _ in range(2):
            t.eq((tree.text(u.m('f')), oct(os.stat(u.m('f')).st_mode & 0o777)), ('1+', '0o600'))
            t.eq((tree.names(u.m('d')), os.stat(u.m('d/x')).st_mtime_ns), (['s', 'x'], 6))
            t.eq({n for _, _, n in k.listing(u.mnt)} & {'g', '.wh.g', 'f'}, {'f'})
            t.eq({n for _, _, n in k.listing(u.m('d'))}, {'.', '..', 's', 'x'})
            u.remount()
        u.umount()


@test()
def names_of_whiteouts(t):
    """Where .wh. names are whiteouts they cannot be made by hand: EINVAL; not found either. With
    other kinds they are names like others. Names without room for `.wh.` before them."""
    u = nested(t, 'beside', 'beside').mount()
    for fn in (lambda n: tree.write(n, 'x'), os.mkdir, os.mkfifo, lambda n: os.symlink('x', n),
               lambda n: os.rename(u.m('g'), n), lambda n: os.link(u.m('g'), n)):
        t.fails(errno.EINVAL, fn, u.m('.wh.f'))
    t.eq(tree.text(u.m('f')), '1')
    t.eq(tree.text(u.m('g')), '2')
    os.unlink(u.m('f'))
    t.fails(errno.ENOENT, os.lstat, u.m('.wh.f'))
    t.fails(errno.ENOENT, os.unlink, u.m('.wh.f'))
    u.umount()
    long = 'n' * 253
    u.put('f %s 1' % long)
    u.mount()
    t.fails(errno.ENAMETOOLONG, os.unlink, u.m(long))
    t.eq(tree.text(u.m(long)), '1')
    u.umount()
    u = nested(t, 'xattr', 'xattr').mount()
    u.check_layers = False
    tree.write(u.m('.wh.f'), 'mine')
    u.remount()
    t.eq((tree.text(u.m('.wh.f')), tree.text(u.m('f'))), ('mine', '1'))


@test()
def mixtures(t):
    """Whiteouts of all kinds in one stack, and in an upper that was used by others before."""
    u = nested(t, 'xattr', 'xattr')
    u.put('f a 1; f b 1; f c 1; f q/a 1; f q/b 1; f q/c 1; f keep 1', 1)
    u.put('w a; wh b; xw c; w q/a; wh q/b; xw q/c', 0)
    u.mount()
    for _ in range(2):
        t.eq([n for n in tree.names(u.mnt) if n in 'abcq' or n == 'keep'], ['keep', 'q'])
        t.eq(tree.names(u.m('q')), [])
        u.remount()
    for n in ('a', 'b', 'c', 'q/a', 'q/b', 'q/c'):
        tree.write(u.m(n), 'new')
    u.remount()
    t.eq(tree.names(u.m('q')), ['a', 'b', 'c'])
    t.sh('rm -r a b c q', cwd=u.mnt)
    u.remount()
    t.ok(not {'a', 'b', 'c', 'q'} & set(os.listdir(u.mnt)))


@test()
def an_upper_that_changes_its_kind(t):
    """Layers written on such a file system, copied to one with devices, and used there as upper
    and as lower: what was deleted stays deleted."""
    for kind in KINDS:
        u = nested(t, kind, kind).mount()
        t.sh('rm f d/y; rm -r e; mkdir e; touch e/new', cwd=u.mnt)
        want = tree.snapshot(u.mnt, times=False)
        u.umount()
        os.makedirs(t.dir + '/copied-' + kind)
        t.run('cp', '-a', '--preserve=xattr' if kind == 'xattr' else '--preserve=mode', u.upper + '/.',
              t.dir + '/copied-' + kind)
        v = t.union(lowers=[t.dir + '/copied-' + kind] + u.lowers, name='lower-' + kind).mount()
        t.same_tree(want, tree.snapshot(v.mnt, times=False), 'as a lower: ' + kind)
        t.sh('touch f d/y; mkdir m/again; rm -r d', cwd=v.mnt)
        v.remount()
        t.eq(tree.text(v.m('f')), '')
        t.fails(errno.ENOENT, os.lstat, v.m('d'))
        v.umount()


@test()
def killed(t):
    """SIGKILL while names go: each is there with its content, or is gone for good."""
    for kind in KINDS:
        u = nested(t, kind, kind)
        u.check_layers = False
        for i in range(60):
            u.put('f k/f%d %d' % (i, i))
        u.mount()
        pid = os.fork()
        if pid == 0:
            try:
                for i in range(60):
                    os.unlink(u.m('k/f%d' % i)) if i % 2 else os.rename(u.m('k/f%d' % i), u.m('d/f%d' % i))
            except OSError:
                pass
            os._exit(0)
        for _ in range(100000):
            if tree.exists(u.up('d/f30')):
                break
        u.kill()
        os.waitpid(pid, 0)
        u.mount()
        for i in range(60):
            where = [p for p in ('k/f%d', 'd/f%d') if tree.exists(u.m(p % i))]
            t.ok(len(where) == 1 or i % 2 and not where, '%s: f%d in %s' % (kind, i, where))
            t.ok(all(tree.text(u.m(p % i)) == str(i) for p in where), str(where))
        for at in 'kd':
            for n in tree.names(u.m(at)):
                remove(u.m(at + '/' + n)) if n[0] == 'f' else None
        t.eq(tree.names(u.m('k')), [])
        u.remount()
        t.eq(tree.names(u.m('k')), [])
        u.umount()


@test(identities=('root',), needs=('mkfs.vfat',))
def vfat(t):
    """No xattrs, no devices, no links, no owners: names and data still work."""
    img, at = t.dir + '/vfat.img', t.dir + '/vfat'
    with open(img, 'wb') as f:
        f.truncate(20 << 20)
    t.run('mkfs.vfat', img)
    os.mkdir(at)
    if subprocess.run(['mount', '-o', 'loop', img, at], stderr=subprocess.DEVNULL).returncode:
        t.skip('cannot mount vfat')
    u = t.union(text='f f 1; f d/x 1; f d/y 2; f e/x 1')
    u.upper, u.work = at + '/upper', at + '/work'
    os.mkdir(u.upper)
    os.mkdir(u.work)
    u.check_layers = False
    u.mount()
    t.sh('rm f; rm -r e; mkdir e; echo n > e/n; mv d/x d/z; echo + >> d/y', cwd=u.mnt)
    for _ in range(2):
        t.eq((tree.names(u.mnt), tree.names(u.m('e')), tree.names(u.m('d'))), (['d', 'e'], ['n'], ['y', 'z']))
        t.eq(tree.text(u.m('d/y')), '2+\n')
        u.remount()
    u.umount()
    k.umount(at)


@test(identities=('root', 'userns'))
def directory_over_a_wh_name_where_devices_work(t):
    """An upper with 0:0 devices but without xattrs (ramfs; NFS as root is the same): a `.wh.` name
    that stays behind hides what is below, and is not in the way of a new directory."""
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
