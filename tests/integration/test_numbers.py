# SPDX-License-Identifier: GPL-2.0-or-later
"""
Two objects never show one number, whatever was copied, moved or edited in the layers while nothing was
mounted: `diff`, `cp -a` and `tar` take the number for the object.
"""
import os
import random
import shutil
import stat
import subprocess

from lib import k, test, tree
from lib.overlay import mark

ALL = ('root', 'user', 'userns')


def _cp(a, b):
    """Marks and all."""
    subprocess.run(['cp', '-a', a, b], check=True)


def _numbers(t, u, order=None, seen=None, broken=False):
    """{name: number}; listings say the same; a number once seen belongs to one object for good. @broken:
    marks may be, and then an error is an answer."""
    out = {}
    names = sorted(tree.walk(u.mnt))
    (order or (lambda x: None))(names)
    for rel in names:
        try:
            st = os.lstat(u.m(rel))
        except OSError:
            if not broken:
                raise
            continue
        out[rel] = st.st_ino
        if seen is not None:
            key = (st.st_ino, rel) if st.st_nlink < 2 or stat.S_ISDIR(st.st_mode) else None
            if key:
                t.eq(seen.setdefault(st.st_ino, rel), rel, 'one number for two')
    for rel in out:
        if os.path.isdir(u.m(rel)) and not os.path.islink(u.m(rel)):
            for ino, _, n in k.listing(u.m(rel)):
                at = os.path.normpath(os.path.join(rel, n))
                if n not in ('.', '..') and at in out:
                    t.eq(ino, out[at], 'd_ino of ' + at)
    return out


def _distinct(t, u, order=None, seen=None):
    n = _numbers(t, u, order, seen)
    links = {}
    for rel in n:
        links.setdefault(n[rel], []).append(rel)
    for ino, rels in links.items():
        if len(rels) > 1:
            t.ok(all(os.lstat(u.m(r)).st_nlink > 1 and not os.path.isdir(u.m(r)) for r in rels),
                 'one number for %s' % rels)
    return n


def _every_way(t, u, *opts):
    """Looked up in any order, after eviction and after a remount."""
    for order in (lambda n: None, lambda n: n.reverse(), random.Random(7).shuffle):
        u.mount(*opts)
        seen = {}
        for _ in range(3 if t.root else 1):
            n = _distinct(t, u, order, seen)
            if t.root:
                t.drop_caches()
        t.eq(_distinct(t, u), n, 'numbers changed')
        u.umount()


def _differ(t, u, a, b):
    """Tools see that they differ, and copies have the right content."""
    want = {n: tree.text(u.m(n)) for n in (a, b)}
    t.ok('differ' in t.sh('cmp %s %s || true; diff -q %s %s || true' % (a, b, a, b), cwd=u.mnt))
    out = t.plain('copies')
    t.sh('cp -a %s/. %s/cp; mkdir %s/tar; tar -C %s -c . | tar -C %s/tar -x' %
         (u.mnt, out, out, u.mnt, out))
    for how in ('cp', 'tar'):
        for n in want:
            t.eq(tree.text('%s/%s/%s' % (out, how, n)), want[n], '%s by %s' % (n, how))
    shutil.rmtree(out)


@test(identities=ALL)
def a_copy_of_a_copy(t):
    """`cp -a` of an upper file carries its origin along."""
    for i, opts in enumerate(((), ('index=off',), ('metacopy=off', 'redirect_dir=off'))):
        u = t.mounted('f ref1 old', *opts, name='u%d' % i)
        ino = os.stat(u.m('ref1')).st_ino
        os.chmod(u.m('ref1'), 0o600)
        tree.append(u.m('ref1'), '+')
        u.umount()
        _cp(u.up('ref1'), u.up('ref2'))
        t.ok(mark(u, u.up('ref2'), 'origin'))
        _every_way(t, u, *opts)
        u.mount(*opts)
        t.eq(os.stat(u.m('ref1')).st_ino, ino, 'the first that comes is the one')
        tree.write(u.m('ref1'), 'one')
        tree.write(u.m('ref2'), 'two')
        _distinct(t, u)
        _differ(t, u, 'ref1', 'ref2')
        u.umount()
        _every_way(t, u, *opts)


@test(identities=ALL)
def a_link_broken_before_the_index(t):
    """Copied up as a file of one name; then its lower file got more names."""
    u = t.mounted('f 0 old', 'index=off')
    tree.write(u.m('0'), 'new')
    os.link(u.m('0'), u.m('1'))
    u.umount()
    for n in '23':
        os.link(u.low('0'), u.low(n))
    for names in ('01234', '43210', '20143'):
        u.mount('index=on')
        if not os.path.exists(u.m('4')):
            os.link(u.m('2'), u.m('4'))
        st = {n: os.stat(u.m(n)) for n in names}
        t.eq(st['0'].st_ino, st['1'].st_ino)
        t.eq({st[n].st_ino for n in '34'}, {st['2'].st_ino})
        t.ok(st['0'].st_ino != st['2'].st_ino, 'two files, one number')
        t.eq([tree.text(u.m(n)) for n in '01234'], ['new', 'new', 'old', 'old', 'old'])
        _differ(t, u, '1', '4')
        u.umount()
    _every_way(t, u, 'index=on')


@test(identities=ALL)
def moved_without_a_whiteout(t):
    """What it was copied up from is seen again, with its number."""
    u = t.mounted('f a old; d d; f d/x old; f e/y y')
    tree.append(u.m('a'), '+')
    os.rename(u.m('d'), u.m('d2'))
    tree.append(u.m('d2/x'), '+')
    u.umount()
    os.rename(u.up('a'), u.up('b'))
    os.unlink(u.up('d'))
    _every_way(t, u)
    u.mount()
    _differ(t, u, 'a', 'b')
    tree.append(u.m('a'), '-')
    tree.append(u.m('d/x'), '-')
    os.rename(u.m('a'), u.m('e/a'))
    n = _distinct(t, u)
    if t.root:
        t.drop_caches()
        t.eq(_distinct(t, u), n, 'numbers changed')
    u.umount()
    _every_way(t, u)


@test(identities=ALL)
def a_copied_redirect(t):
    """Two directories that lead to one below, changed through each."""
    u = t.mounted('f d/x x; f d/s/y y; f d/m 0123456789; f d/k/z z')
    os.rename(u.m('d'), u.m('d2'))
    os.chmod(u.m('d2/m'), 0o600)
    tree.append(u.m('d2/s/y'), 'y')
    u.umount()
    _cp(u.up('d2'), u.up('d3'))
    _every_way(t, u)
    u.mount()
    tree.append(u.m('d2/x'), 'two')
    tree.append(u.m('d3/x'), 'three')
    tree.append(u.m('d3/m'), '+')
    os.rename(u.m('d3/k'), u.m('k'))
    n = _distinct(t, u)
    _differ(t, u, 'd2/x', 'd3/x')
    if t.root:
        t.drop_caches()
        t.eq(_distinct(t, u), n, 'numbers changed')
    u.umount()
    _every_way(t, u)


@test(identities=ALL)
def lowers_with_one_redirect(t):
    """The same in layers that are lowers by now."""
    u = t.mounted('f d/x x; f d/s/y y')
    os.rename(u.m('d'), u.m('d2'))
    u.umount()
    _cp(u.up('d2'), u.up('d3'))
    os.rename(u.upper, u.root + '/top')
    os.mkdir(u.upper)
    shutil.rmtree(u.work)
    os.mkdir(u.work)
    u.lowers = [u.root + '/top'] + u.lowers
    _every_way(t, u)
    u.mount()
    tree.append(u.m('d2/x'), '2')
    tree.append(u.m('d3/s/y'), '3')
    n = _distinct(t, u)
    if t.root:
        t.drop_caches()
        t.eq(_distinct(t, u), n, 'numbers changed')
    u.umount()
    _every_way(t, u)


@test(identities=ALL)
def the_impure_mark_is_gone(t):
    """Listing and stat agree in a directory that was copied without its marks."""
    u = t.mounted('f d/x x; f d/y y; f d/z z; f e/a a; h e/b e/a')
    tree.append(u.m('d/x'), '+')
    tree.append(u.m('e/a'), '+')
    os.chmod(u.m('e/b'), 0o600)
    u.umount()
    for d in 'de':
        os.removexattr(u.up(d), t.ns + '.overlay.impure')
    _every_way(t, u)
    u.mount()
    t.eq((tree.text(u.m('e/b')), os.stat(u.m('e/b')).st_nlink), ('a+', 2))
    os.link(u.m('d/x'), u.m('d/w'))
    _distinct(t, u)


@test(identities=ALL)
def legitimate_ones_are_constant(t):
    """Copied up, renamed, linked, moved with their directory: over eviction and remounts."""
    u = t.mounted('; '.join('f d%d/f%d %d' % (i % 5, i, i) for i in range(50)) + '; l l x; p p; f g/h/i i')
    ids = {rel: os.lstat(u.m(rel)).st_ino for rel in tree.walk(u.mnt)}
    where = {rel: rel for rel in ids}

    def move(a, b):
        os.rename(u.m(a), u.m(b))
        for r, at in where.items():
            if at == a or at.startswith(a + '/'):
                where[r] = b + at[len(a):]

    def check(what):
        now = _distinct(t, u)
        off = [r for r, at in where.items() if now[at] != ids[r]
               and not (t.ns == 'user' and r in 'lp')]
        t.eq(off, [], what)
    for i in range(0, 50, 3):
        tree.append(u.m('d%d/f%d' % (i % 5, i)), '+')
    move('d0/f0', 'd1/g0')
    move('d0/f5', 'new')
    move('d2', 'e2')
    move('e2/f2', 'd3/f2')
    move('g', 'd4/g')
    move('d4/g/h', 'h')
    os.chmod(u.m('d1'), 0o700)
    if t.root:
        os.utime(u.m('l'), (1, 1), follow_symlinks=False)
        os.chmod(u.m('p'), 0o600)
    check('in the mount')
    if t.root:
        t.drop_caches()
        check('after eviction')
    u.remount()
    check('after a remount')
    move('e2', 'e3')
    if t.root:
        t.drop_caches()
    check('moved once more')
    u.remount()
    check('after another')


# ---- file systems that cannot be told apart

def _image(t, kind, name, files):
    where = '%s/%s' % (t.dir, name)
    os.mkdir(where)
    src = where + '.src'
    tree.build(src, files)
    img = where + '.img'
    if kind == 'squashfs':
        t.need('mksquashfs')
        t.run('mksquashfs', src, img, '-quiet', '-no-progress', '-noappend')
    else:
        t.need('mkfs.' + kind)
        with open(img, 'wb') as f:
            f.truncate(320 << 20 if kind == 'xfs' else 16 << 20)
        t.run('mkfs.' + kind, '-q', *(['-d', src] if kind == 'ext4' else []), img)
    return img, where, src


def _copied_images(t, kind):
    """An image and its dd copy, changed apart, so that numbers are of different files."""
    img, a, src = _image(t, kind, 'a', 'f a1 a-one; f a2 a-two')
    if kind == 'squashfs':
        img2, b, _ = _image(t, kind, 'b', 'f b1 b-one; f b2 b-two')
        t.run('mount', '-o', 'loop,ro', img, a)
        t.run('mount', '-o', 'loop,ro', img2, b)
        return [a, b]
    b, img2 = t.dir + '/b', t.dir + '/b.img'
    os.mkdir(b)
    shutil.copy(img, img2)
    extra = ',nouuid' if kind == 'xfs' else ''
    for i, d, p in ((img, a, 'a'), (img2, b, 'b')):
        t.run('mount', '-o', 'loop' + extra, i, d)
        for n in os.listdir(d):
            if n != 'lost+found':
                os.unlink(d + '/' + n)
        tree.build(d, 'f %s1 %s-one; f %s2 %s-two' % (p, p, p, p))
    return [a, b]


def _subvolumes(t, _):
    t.need('mkfs.btrfs', 'btrfs')
    img, top = t.dir + '/btrfs.img', t.dir + '/btrfs'
    with open(img, 'wb') as f:
        f.truncate(256 << 20)
    t.run('mkfs.btrfs', '-q', img)
    os.mkdir(top)
    t.run('mount', '-o', 'loop', img, top)
    for p in 'ab':
        t.run('btrfs', 'subvolume', 'create', '%s/%s' % (top, p))
        tree.build('%s/%s' % (top, p), 'f %s1 %s-one; f %s2 %s-two' % (p, p, p, p))
    return [top + '/a', top + '/b']


@test(identities=('root',))
def lowers_of_one_uuid(t):
    """Copied images, images without a uuid, subvolumes: a file of one is none of the other."""
    for kind, make in (('squashfs', _copied_images), ('ext4', _copied_images), ('xfs', _copied_images),
                       ('btrfs', _subvolumes)):
        os.mkdir('%s/%s' % (t.dir, kind))
        was, t.dir = t.dir, '%s/%s' % (t.dir, kind)
        lowers = make(t, kind)
        u = t.union(lowers=lowers, name=kind)
        u.mount()
        for n in ('b1', 'a2'):
            tree.append(u.m(n), ' changed')
        n = _distinct(t, u)
        t.drop_caches()
        t.eq(_distinct(t, u), n, kind + ': numbers changed by eviction')
        _differ(t, u, 'a1', 'b1')
        if kind == 'btrfs':
            u.remount()
            t.eq(_distinct(t, u), n, 'subvolumes are told apart by their handles')
        u.umount()
        _every_way(t, u)
        u.mount()
        _differ(t, u, 'a1', 'b1')
        _differ(t, u, 'a2', 'b2')
        u.umount()
        t.dir = was


# ---- anything

def _meddle(t, u, rng):
    """One edit of the upper behind everybody's back."""
    marked = ('origin', 'redirect', 'metacopy', 'nlink', 'impure')
    names = sorted(r for r in tree.walk(u.upper) if r != '.' and
                   not stat.S_ISCHR(os.lstat(u.up(r)).st_mode))
    if not names:
        return
    a, fresh = rng.choice(names), 'n%d' % rng.randrange(10 ** 6)
    dirs = ['.'] + [r for r in names if os.path.isdir(u.up(r))]
    to = os.path.normpath(os.path.join(rng.choice(dirs), fresh))
    if (to + '/').startswith(a + '/'):
        to = fresh
    what = rng.randrange(6)
    isdir = os.path.isdir(u.up(a))
    if what < 2:
        _cp(u.up(a), u.up(to))
    elif what == 2:
        os.rename(u.up(a), u.up(to))
    elif what == 3 and not isdir:
        os.link(u.up(a), u.up(to), follow_symlinks=False)
    elif what == 4:
        m = '%s.overlay.%s' % (t.ns, rng.choice(marked))
        for r in names:
            if m in os.listxattr(u.up(r), follow_symlinks=False) and 'metacopy' not in m:
                os.removexattr(u.up(r), m, follow_symlinks=False)
    else:
        b = rng.choice(names)
        m = t.ns + '.overlay.origin'
        if m in os.listxattr(u.up(a), follow_symlinks=False) and os.path.isdir(u.up(b)) == isdir:
            os.setxattr(u.up(b), m, os.getxattr(u.up(a), m, follow_symlinks=False), follow_symlinks=False)


def _use(t, u, rng):
    """One change through the mount."""
    names = sorted(r for r in tree.walk(u.mnt) if r != '.')
    if not names:
        return
    a, fresh = rng.choice(names), 'm%d' % rng.randrange(10 ** 6)
    what = rng.randrange(5)
    try:
        if what == 0:
            os.chmod(u.m(a), 0o755 if os.path.isdir(u.m(a)) else 0o640)
        elif what == 1 and not os.path.isdir(u.m(a)):
            tree.append(u.m(a), fresh)
        elif what == 2:
            os.rename(u.m(a), u.m(fresh))
        elif what == 3 and not os.path.isdir(u.m(a)):
            os.link(u.m(a), u.m(fresh))
        elif what == 4 and not os.path.isdir(u.m(a)):
            os.unlink(u.m(a))
    except OSError:
        pass        # broken marks: an error is an answer


def _same(t, u):
    """Names of one number are one file: what is written through one is read through each."""
    by = {}
    for rel, ino in _numbers(t, u, broken=True).items():
        by.setdefault(ino, []).append(rel)
    for rels in by.values():
        if len(rels) < 2:
            continue
        kinds = {stat.S_IFMT(os.lstat(u.m(r)).st_mode) for r in rels}
        t.eq(kinds, {stat.S_IFREG}, 'one number for %s' % rels)
        t.eq(len({tree.text(u.m(r)) for r in rels}), 1, 'one number for %s' % rels)
        tree.append(u.m(rels[0]), '~')      # without an index that breaks a link, which is seen
        rels = [r for r in rels if os.stat(u.m(r)).st_ino == os.stat(u.m(rels[0])).st_ino]
        t.eq({tree.text(u.m(r)) for r in rels}, {tree.text(u.m(rels[0]))}, 'one number for %s' % rels)


@test(identities=ALL)
def random_meddling(t):
    text = 'f a a; f b bb; f d/x x; f d/y yy; f d/s/z zzz; f e/p p; h e/q e/p; f e/f/g g'
    for seed in range(12):
        rng = random.Random(seed)
        u = t.union(text=text, name='r%d' % seed)
        u.check_layers = False
        opts = ((), ('index=off',), ('metacopy=off',))[seed % 3]
        for _ in range(4):
            u.mount(*opts)
            for _ in range(5):
                _use(t, u, rng)
            _same(t, u)
            if t.root and seed % 2:
                t.drop_caches()
                _same(t, u)
            u.umount()
            for _ in range(3):
                _meddle(t, u, rng)
