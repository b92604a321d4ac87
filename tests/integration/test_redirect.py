# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories that are moved with what lies below them. The oracle is a plain file system."""
import errno
import os
import random

from lib import k, test, tree
from lib.against import both, exchange as swap, flat, random_step, same
from lib.overlay import FULL, by_kernel, copied, mark

LAYERS = ('f a/top 1; f a/s/one 1; f m/x/y/z/f 1; d empty; f b/f 1; w m/gone',
          'f a/mid 2; f a/s/two 2; f m/x/y/z/g 2; f m/gone 2; f b/s/t/u/f 2; d empty; w b/w',
          'f a/low 3; f a/s/three 3; f m/x/y/z/h 3; f c/f 3; f b/w 3; l c/l f; f e/f 3; f big/a 3; f big/b 3')


def stack(t, name='u'):
    u = t.union(lowers=3, name=name)
    for i, text in enumerate(LAYERS):
        u.put(text, i)
    return u


MOVES = (('a', 'a2'), ('m/x/y', 'm/y2'), ('b/s/t', 'm/t'), ('a2/s', 'a2/s2'), ('a2', 'm/x/a3'),
         ('m/x', 'x'), ('x/a3/s2', 's'), ('m', 'empty'), ('empty', 'm'), ('b', 'c/b'), ('c/b/s', 'a'),
         ('e', 'c/b/e'), ('c', 'e'))


@test(everywhere=True)
def moves_at_any_depth(t):
    """Lower and merged directories, within their parent and away, again and again, back and over
    what is empty; what is made and removed in them then; after remounts. No data is copied."""
    u = stack(t).mount()
    p = flat(t, u)
    for i, (a, b) in enumerate(MOVES):
        both(u, p, os.rename, a, b)
        same(t, u, p, 'after %s -> %s' % (a, b))
        if i % 4 == 3:
            u.remount()
            same(t, u, p, 'after a remount, %s' % b)
    t.eq(copied(u), 0)
    for d in (p, u.mnt):
        for at, ds, fs in os.walk(d):
            tree.write(at + '/new', 'n')
            os.mkdir(at + '/newdir')
            for n in sorted(fs)[:1]:
                os.unlink(at + '/' + n)
            ds[:] = [n for n in ds if n != 'newdir']
    same(t, u, p)
    u.remount()
    same(t, u, p)


@test()
def the_old_name(t):
    """Under the old name something else is made: a directory (not merged), a file, another one
    that was moved; and the place that was left can be moved into."""
    u = stack(t).mount()
    p = flat(t, u)
    for a, b in (('a', 'was-a'), ('b', 'was-b'), ('m/x', 'was-x')):
        both(u, p, os.rename, a, b)
    both(u, p, os.mkdir, 'a')
    both(u, p, os.mkdir, 'a/s')
    both(u, p, lambda n: tree.write(n, 'file'), 'b')
    both(u, p, os.rename, 'c', 'm/x')
    same(t, u, p)
    u.remount()
    same(t, u, p)
    both(u, p, os.rename, 'was-a/s', 'a/s')
    both(u, p, os.unlink, 'b')
    both(u, p, os.rename, 'was-b', 'b')
    both(u, p, os.rename, 'm', 'a/s/m')
    u.remount()
    same(t, u, p)
    for d in (p, u.mnt):
        t.sh('rm -rf a b was-x; mkdir a b was-x', cwd=d)
    same(t, u, p)
    u.remount()
    same(t, u, p)


@test(everywhere=True)
def exchange(t):
    """Directories trade places with directories and files, of any layers, in and across parents."""
    u = stack(t).mount()
    p = flat(t, u)
    for a, b in (('a', 'b'), ('m/x', 'a'), ('b/s', 'm/x/s'), ('c/f', 'm'), ('e', 'empty'), ('m', 'c/f'), ('a', 'm'),
                 ('b', 'b/s')):
        both(u, p, swap, a, b)
        same(t, u, p, 'after %s <-> %s' % (a, b))
    u.remount()
    same(t, u, p)
    t.eq(copied(u), 0)


@test()
def over_what_is_empty(t):
    """Over a whiteout, an empty lower directory, a merged one that was emptied; not over others."""
    u = stack(t).mount()
    p = flat(t, u)
    for d in (p, u.mnt):
        t.sh('rm -r c; rm big/a big/b; rm e/f', cwd=d)
    both(u, p, os.rename, 'a', 'c')             # over a whiteout
    both(u, p, os.rename, 'b', 'big')           # over whiteouts in a merged directory
    both(u, p, os.rename, 'm/x', 'e')
    both(u, p, os.rename, 'big', 'empty')
    both(u, p, os.rename, 'c', 'm')
    both(u, p, os.rename, 'empty/f', 'm')
    both(u, p, os.rename, 'm', 'm/in/itself')
    both(u, p, os.rename, 'm', 'm/y')
    both(u, p, os.rename, 'e', 'empty/f')
    for _ in range(2):
        same(t, u, p)
        u.remount()


@test()
def a_tree_of_many(t):
    """mv of a directory of many files: one object in the upper, no data, at once."""
    u = t.union(text='; '.join('f d/s%d/f%d data' % (i % 20, i) for i in range(1000))).mount()
    os.mkdir(u.m('to'))
    os.rename(u.m('d'), u.m('to/e'))
    t.eq(sorted(tree.walk(u.upper)), ['.', 'd', 'to', 'to/e'])
    t.eq(mark(u, u.up('to/e'), 'redirect'), b'/d')
    for _ in range(2):
        t.eq(len(list(tree.walk(u.m('to/e')))), 1021)
        t.eq(copied(u), 0)
        u.remount()
    t.sh('rm -r to', cwd=u.mnt)
    t.eq(tree.names(u.mnt), [])
    u.remount()
    t.eq(tree.names(u.mnt), [])


@test(everywhere=True)
def random_moves_over_generations(t):
    """Random moves, exchanges, new and removed objects; every upper is a lower of the next mount,
    so redirects of several layers are followed one after the other."""
    u = stack(t).mount()
    p = flat(t, u)
    r = random.Random(7)
    for gen in range(5):
        for i in range(40):
            random_step(u, p, r, '%d-%d' % (gen, i))
        same(t, u, p, 'generation %d' % gen)
        u.remount()
        same(t, u, p, 'generation %d after a remount' % gen)
        u.umount()
        u = t.union(lowers=[u.upper] + u.lowers, name='gen%d' % gen).mount()
        same(t, u, p, 'generation %d as a lower' % gen)


@test()
def chains_by_hand(t):
    """Relative and absolute marks in several lowers, as other tools write them."""
    u = t.union(lowers=4)
    u.put('d z; x z %.overlay.redirect y; f z/0 1')
    u.put('d y; x y %.overlay.redirect /p/x; f y/1 1; o z; f z/wrong 1; d deep/er; x deep/er %.overlay.redirect /far', 1)
    u.put('d p; x p %.overlay.redirect q; f p/x/2 1; f y/wrong 1', 2)
    u.put('f q/x/3 1; f p/x/wrong 1; f far/3 1; f deep/er/wrong 1', 3)
    u.mount()
    for _ in range(2):
        t.eq(tree.names(u.m('z')), ['0', '1', '2', '3'])
        t.eq(tree.names(u.m('deep/er')), ['3'])
        u.remount()
    os.rename(u.m('z'), u.m('deep/z2'))
    for _ in range(2):
        t.eq(tree.names(u.m('deep/z2')), ['0', '1', '2', '3'])
        t.fails(errno.ENOENT, os.lstat, u.m('z'))
        u.remount()


@test()
def invalid_marks(t):
    """EINVAL on that name only; a target that is missing: what the upper has."""
    u = t.union(text='f a/x 1')
    for i, v in enumerate((b'', b'a/b', b'//a', b'/a/', b'a\0b', b'..', b'/../a')):
        u.put('f d%d/u 1' % i, 'upper')
        os.setxattr(u.up('d%d' % i), t.ns + '.overlay.redirect', v)
    u.put('f none/u 1; x none %.overlay.redirect nowhere; f fine 1', 'upper')
    u.mount()
    for i in range(7):
        t.fails(errno.EINVAL, os.lstat, u.m('d%d' % i))
    t.eq((tree.names(u.m('none')), tree.names(u.m('a')), tree.text(u.m('fine'))), (['u'], ['x'], '1'))


@test()
def settings(t):
    """off and follow: EXDEV before anything is changed, marks are followed. nofollow: EPERM at a
    mark, at every access; the directory above still works."""
    u = stack(t).mount()
    os.rename(u.m('a'), u.m('moved'))
    for opt in ('off', 'follow'):
        u.remount('redirect_dir=' + opt)
        t.eq(tree.names(u.m('moved')), ['low', 'mid', 's', 'top'])
        before = tree.snapshot(u.upper)
        for a, b in (('moved/s', 'x'), ('b', 'b2'), ('b', 'm/b'), ('moved', 'm2')):
            t.fails(errno.EXDEV, os.rename, u.m(a), u.m(b))
        t.fails(errno.EXDEV, k.rename2, u.m('b'), u.m('c'), k.RENAME_EXCHANGE)
        t.same_tree(before, tree.snapshot(u.upper), 'EXDEV changed the upper')
    u.remount('redirect_dir=nofollow')
    t.fails(errno.EPERM, os.lstat, u.m('moved'))
    t.fails(errno.EPERM, os.listdir, u.m('moved'))
    t.fails(errno.EPERM, os.rename, u.m('moved'), u.m('m2'))
    t.fails(errno.EPERM, tree.write, u.m('moved/new'), '')
    t.ok('moved' in os.listdir(u.mnt))
    t.fails(errno.EXDEV, os.rename, u.m('b'), u.m('b2'))
    u.remount('redirect_dir=on')
    t.eq(tree.names(u.m('moved')), ['low', 'mid', 's', 'top'])


@test(everywhere=True)
def paths_that_are_too_long(t):
    """An absolute redirect has 256 bytes: one more is EXDEV, and nothing is seen of it; a relative
    one has room at any depth; mv(1) copies."""
    u = t.union()
    deep = '/'.join(['n' * 80] * 3)                     # with the slash before: 243 bytes
    u.put('f %s/twelve-bytes/f 1; f %s/thirteen-byte/f 1' % (deep, deep))
    u.mount()
    os.rename(u.m(deep + '/twelve-bytes'), u.m('fits'))
    t.eq(len(mark(u, u.up('fits'), 'redirect')), 256)
    before = tree.snapshot(u.mnt)
    t.fails(errno.EXDEV, os.rename, u.m(deep + '/thirteen-byte'), u.m('not'))
    t.same_tree(before, tree.snapshot(u.mnt), 'EXDEV changed something')
    os.rename(u.m(deep + '/thirteen-byte'), u.m(deep + '/here'))
    for _ in range(2):
        t.eq((tree.names(u.m('fits')), tree.names(u.m(deep))), (['f'], ['here']))
        u.remount()
    t.sh('mv %s/here not' % deep, cwd=u.mnt)
    t.eq((tree.names(u.m('not')), tree.names(u.m(deep))), (['f'], []))


@test()
def who_is_inside(t):
    """Descriptors, the working directory and listings in a directory while it is moved."""
    u = stack(t).mount()
    fd = os.open(u.m('a/s'), os.O_RDONLY)
    f = os.open(u.m('a/s/one'), os.O_RDWR)
    listing = k.Dir(u.m('a/s'))
    first = listing.read()
    os.chdir(u.m('a/s'))
    os.rename(u.m('a'), u.m('m/x/a'))
    t.eq(os.getcwd(), u.m('m/x/a/s'))
    t.eq(sorted(n for _, _, n in [first] + listing.all()), ['.', '..', 'one', 'three', 'two'])
    listing.close()
    tree.write('new', 'n')
    os.pwrite(f, b'1!', 0)
    os.unlink('two')
    os.rename(u.m('m'), u.m('mm'))
    t.eq(os.getcwd(), u.m('mm/x/a/s'))
    os.mkdir('dir', dir_fd=fd)
    os.rename('three', '../up')
    t.eq(sorted(os.listdir(fd)), ['dir', 'new', 'one'])
    t.eq(os.stat('..').st_ino, os.stat(u.m('mm/x/a')).st_ino)
    os.chdir(t.dir)
    os.close(f)
    os.close(fd)
    for _ in range(2):
        t.eq(tree.names(u.m('mm/x/a/s')), ['dir', 'new', 'one'])
        t.eq((tree.text(u.m('mm/x/a/s/one')), tree.text(u.m('mm/x/a/up'))), ('1!', '3'))
        u.remount()


@test()
def inode_numbers(t):
    """A moved directory and what is in it keep their numbers, over a remount, too."""
    u = stack(t).mount()
    want = {n: os.lstat(u.m('a/' + n)).st_ino for n in ('', 's', 's/one', 's/three', 'low')}
    os.rename(u.m('a'), u.m('m/x/a'))
    for _ in range(2):
        t.eq({n: os.lstat(u.m('m/x/a/' + n)).st_ino for n in want}, want)
        t.eq({n: i for i, _, n in k.listing(u.m('m/x/a')) if n in want}, {n: i for n, i in want.items()
                                                                         if n in ('s', 'low')})
        u.remount()


@test()
def moved_by_two(t):
    """Two processes move directories into each other's; each is in one place, with its files."""
    u = t.union(text='; '.join('f a/d%d/f %d; f b/e%d/f %d' % (i, i, i, i) for i in range(30))).mount()
    pids = []
    for who in range(2):
        pid = os.fork()
        if pid == 0:
            for i in range(30):
                for a, b in (('a/d%d', 'b/d%d'), ('b/e%d', 'a/e%d')):
                    try:
                        os.rename(u.m(a % i), u.m(b % i)) if who == 0 else os.rename(u.m(b % i), u.m(a % i))
                    except FileNotFoundError:
                        pass
            os._exit(0)
        pids.append(pid)
    t.eq([os.waitpid(p, 0)[1] for p in pids], [0, 0])
    for _ in range(2):
        names = tree.names(u.m('a')) + tree.names(u.m('b'))
        t.eq(sorted(names), sorted(['d%d' % i for i in range(30)] + ['e%d' % i for i in range(30)]))
        for d in 'ab':
            for n in os.listdir(u.m(d)):
                t.eq(tree.text(u.m('%s/%s/f' % (d, n))), n[1:])
        u.remount()


@test()
def killed_between_moves(t):
    """SIGKILL during moves of directories: each is under its old name or its new one, complete."""
    u = t.union(text='; '.join('f a/d%d/s/f %d; f b/e%d/f %d' % (i, i, i, i) for i in range(40)) + '; d to')
    u.check_layers = False
    u.mount()
    pid = os.fork()
    if pid == 0:
        try:
            for i in range(40):
                os.rename(u.m('a/d%d' % i), u.m('to/d%d' % i))
                k.rename2(u.m('b/e%d' % i), u.m('to/d%d' % i), k.RENAME_EXCHANGE)
        except OSError:
            pass
        os._exit(0)
    for _ in range(100000):
        if tree.exists(u.up('to/d20')):
            break
    u.kill()
    os.waitpid(pid, 0)
    u.mount()
    for i in range(40):
        where = [n for n in ('a/d%d', 'b/e%d', 'to/d%d') if tree.exists(u.m(n % i))]
        t.eq(len(where), 2, 'places of %d: %s' % (i, where))
        kinds = sorted(tree.names(u.m(n % i)) for n in where)
        t.eq(kinds, [['f'], ['s']], 'of %d in %s' % (i, where))


@test(identities=('root',), everywhere=True)
def with_the_kernel_in_turns(t):
    """Each follows the other's redirects and goes on with them."""
    u = stack(t).mount()
    u.check_layers = False
    p = flat(t, u)
    r = random.Random(11)
    for i in range(60):
        random_step(u, p, r, 'u%d' % i)
    u.umount()
    with by_kernel(u, *FULL):
        same(t, u, p, 'the kernel on our upper')
        for a, b in [m for m in MOVES if os.path.isdir(p + '/' + m[0]) and not tree.exists(p + '/' + m[1])]:
            both(u, p, os.rename, a, b)
        both(u, p, os.mkdir, 'from-kernel')
        for n in [n for n in os.listdir(p) if n != 'from-kernel'][:3]:
            both(u, p, os.rename, n, 'from-kernel/' + n)
        same(t, u, p)
    u.mount()
    same(t, u, p, 'ours after the kernel')
    for i in range(30):
        random_step(u, p, r, 'v%d' % i)
    u.umount()
    with by_kernel(u, *FULL):
        same(t, u, p, 'the kernel again')


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
    """d_ino of `..` after the move of a directory that was listed before: the new parent's."""
    u = t.mounted('f a/f 1; f b/f 1')
    k.listing(u.m('a'))
    os.rename(u.m('a'), u.m('b/a'))
    here = {n: ino for ino, _, n in k.listing(u.m('b/a'))}
    t.eq(here['..'], os.stat(u.m('b')).st_ino)
