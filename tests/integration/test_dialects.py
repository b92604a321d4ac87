# SPDX-License-Identifier: GPL-2.0-or-later
"""Whiteouts and opaque marks in every dialect, marks that are not to be followed, hidden names."""
import errno
import os

from lib import k, test, tree


def _gone(t, u, *names):
    for n in names:
        t.fails(errno.ENOENT, os.lstat, u.m(n))
        d, b = os.path.split(u.m(n))
        t.ok(b not in os.listdir(d), '%s is listed' % n)


@test(everywhere=True)
def character_device(t):
    """0:0, whatever its mode and owner, in every layer, over every kind."""
    u = t.union(lowers=3)
    u.put('f a 1; f d/x 1; l s a; f keep 1; w mid', 0)
    u.put('f mid 1; f a 2; f e/x 1; w e2', 1)
    u.put('f mid 2; f low 1; f e2/x 1; w lowest; f e/y 1', 2)
    u.put('w a; w d; w s; w low; w nothing_below; w e', 'upper')
    os.chmod(u.up('a'), 0o777)
    if t.root:
        os.chown(u.up('d'), 12, 34)
    u.mount()
    _gone(t, u, 'a', 'd', 's', 'mid', 'low', 'lowest', 'nothing_below', 'e', 'e2')
    t.eq(tree.names(u.mnt), ['keep'])


@test(identities=('root',))
def block_device_is_ordinary(t):
    u = t.mounted('b zero 0:0; c null 1:3')
    t.eq(tree.names(u.mnt), ['null', 'zero'])


@test()
def stale_whiteout_in_pure_upper(t):
    """A whiteout where nothing is below is hidden, and rmdir cleans it."""
    u = t.union()
    u.put('w d/x; f d/y 1; w e/only', 'upper')
    u.mount()
    t.eq(tree.names(u.m('d')), ['y'])
    os.rmdir(u.m('e'))
    t.ok(not tree.exists(u.up('e')))


@test(everywhere=True)
def xattr_whiteout(t):
    """A zero-size file with overlay.whiteout, in marked and unmarked directories, in every layer."""
    u = t.union(lowers=2)
    u.put('xw a; xw d/x; f d/own 1; ox m; xw m/x; xw top')
    u.put('f a 1; f d/x 1; f d/y 1; f m/x 1; f m/y 1; f up 1; f upd/x 1; f upd/y 1', 1)
    u.put('xw up; xw upd/x', 'upper')
    os.setxattr(u.low('d/own'), t.ns + '.overlay.whiteout', b'')   # not empty: no whiteout
    u.mount()
    _gone(t, u, 'a', 'd/x', 'm/x', 'top', 'up', 'upd/x')
    t.eq(tree.names(u.m('d')), ['own', 'y'])
    t.eq(tree.names(u.m('m')), ['y'])
    t.eq(tree.names(u.m('upd')), ['y'])
    t.eq(tree.text(u.m('d/own')), '1')
    for n in ('a', 'd/x', 'up'):        # and can be made anew
        tree.write(u.m(n), 'new')
    u.remount()
    for n in ('a', 'd/x', 'up'):
        t.eq(tree.text(u.m(n)), 'new')


@test(everywhere=True)
def aufs_whiteout(t):
    """.wh.NAME in lowers deletes NAME below; in the same layer NAME is new (the OCI rule)."""
    u = t.union(lowers=3)
    u.put('wh a; wh d; f top 1', 0)
    u.put('f a 1; f d/x 1; wh n; d n; f n/new 1; wh f; f f new; wh .wh.odd; f keep/y 1', 1)
    u.put('f a 2; f d/y 1; f n/old 1; f f old; f keep/x 1; wh lowest', 2)
    u.mount()
    _gone(t, u, 'a', 'd', 'lowest', '.wh.a', '.wh.d', '.wh.n')
    t.eq(tree.names(u.m('n')), ['new'], 'a directory beside its .wh. is not merged with below')
    t.eq(tree.text(u.m('f')), 'new')
    t.eq(tree.names(u.m('keep')), ['x', 'y'])
    t.eq(tree.names(u.mnt), ['f', 'keep', 'n', 'top'])


@test(everywhere=True)
def aufs_opaque(t):
    """.wh..wh..opq in lowers; AUFS's own .wh..wh.* names are not shown."""
    u = t.union(lowers=2)
    u.put('f d/x 1; woq d; f e/x 1; f .wh..wh.aufs 1; d .wh..wh.plnk; f e/.wh..wh.foo 1')
    u.put('f d/y 1; f d/sub/z 1; f e/y 1', 1)
    u.mount()
    t.eq(tree.names(u.m('d')), ['x'])
    _gone(t, u, 'd/y', 'd/sub', 'd/.wh..wh..opq', '.wh..wh.aufs', '.wh..wh.plnk')
    t.eq(tree.names(u.m('e')), ['x', 'y'])
    tree.write(u.m('d/y'), 'new')
    t.eq(tree.names(u.m('d')), ['x', 'y'])
    u.umount()
    t.ok(not [n for _, ds, fs in os.walk(u.upper) for n in ds + fs if n.startswith('.wh.')])


@test()
def mixed_dialects_in_one_stack(t):
    """What podman leaves: .wh. names of image layers under devices of running containers."""
    u = t.union(lowers=3)
    u.put('w a; f b/new 1')
    u.put('wh b; f a 1; f c/x 1; wh d', 1)
    u.put('f b/old 1; f d 1; f a 0; f c/y 1', 2)
    u.put('xw c', 'upper')
    u.mount()
    t.eq(tree.names(u.mnt), ['b'])
    t.eq(tree.names(u.m('b')), ['new'])


@test()
def opaque_values(t):
    """Only the one byte `y`; on a layer's root it means nothing."""
    u = t.union(lowers=2)
    for n in ('y', 'x', 'yes', 'n', 'empty'):
        u.put('f %s/top 1' % n)
        u.put('f %s/low 1' % n, 1)
        os.setxattr(u.low(n), t.ns + '.overlay.opaque', b'' if n == 'empty' else n.encode())
    os.setxattr(u.low(''), t.ns + '.overlay.opaque', b'y')
    u.put('f root 1', 1)
    u.mount()
    for n in ('y', 'x', 'yes', 'n', 'empty'):
        t.eq(tree.names(u.m(n)), ['top'] if n == 'y' else ['low', 'top'], n)
    t.ok(tree.exists(u.m('root')), 'opaque on a layer root')


@test()
def fuse_overlayfs_opaque(t):
    """user.fuseoverlayfs.opaque is read in uppers and lowers, and hidden."""
    u = t.union(lowers=2)
    u.put('f a/top 1; f b/top 1')
    u.put('f a/low 1; f b/low 1', 1)
    os.setxattr(u.low('a'), 'user.fuseoverlayfs.opaque', b'y')
    u.put('d b', 'upper')
    os.setxattr(u.up('b'), 'user.fuseoverlayfs.opaque', b'y')
    u.mount()
    t.eq(tree.names(u.m('a')), ['top'])
    t.eq(tree.names(u.m('b')), [])


@test()
def fuse_overlayfs_sentinels(t):
    """An upper that fuse-overlayfs wrote: its sentinel files are hidden and do not keep a
    directory from being removed; a file with data is ordinary."""
    u = t.union(text='f d/low 1; f p/low 1; f r/low 1')
    u.put('o d; f d/.wh..wh..opq; f d/own 1; f p/.wh.thing 1; o r; f r/.wh..wh..opq', 'upper')
    if t.root:
        u.put('w d/.wh..opq', 'upper')
    u.check_layers = False
    u.mount()
    t.eq(tree.names(u.m('d')), ['own'])
    _gone(t, u, 'd/.wh..wh..opq', 'd/.wh..opq')
    t.eq(tree.names(u.m('p')), ['.wh.thing', 'low'])
    t.eq(tree.text(u.m('p/.wh.thing')), '1')
    os.rmdir(u.m('r'))
    _gone(t, u, 'r')
    os.mkdir(u.m('r'))
    t.eq(tree.names(u.m('r')), [])


@test(everywhere=True)
def tar_marks_in_the_upper(t):
    """Empty regular .wh.NAME and .wh..wh..opq in an upper are marks, as image tools leave them there;
    with data, and of other kinds, they are ordinary."""
    low = 'f a 1; f b 1; f k 1; f s 1; f d/x 1; f d/y 1; f e/old 1; f n/z 1; f deep/e/old 1; f u 1; f only/x 1'
    for first in ('look', 'list'):
        u = t.union(text=low)
        u.put('wh a; wh d/x; woq e; f e/new 1; wh n; f n/own 1; f .wh.k data; d .wh.s; woq deep/e; d deep/e/sub;'
              'wh u; f u 2; wh only/x; f .wh..wh.aufs; wh nothing', 'upper')
        u.check_layers = False
        u.mount()
        shown = ['.wh.k', '.wh.s', 'b', 'd', 'deep', 'e', 'k', 'n', 'only', 's', 'u']
        if first == 'list':
            t.eq(tree.names(u.mnt), shown)
        for n in ('a', '.wh.a', 'd/x', 'd/.wh.x', 'e/old', 'e/.wh..wh..opq', 'n/z', '.wh.n', 'deep/e/old',
                  'only/x', '.wh..wh.aufs', '.wh.nothing'):
            t.fails(errno.ENOENT, os.lstat, u.m(n))
        t.eq(tree.names(u.mnt), shown)
        t.eq([tree.names(u.m(n)) for n in ('d', 'e', 'n', 'deep/e', 'only')],
             [['y'], ['new'], ['own'], ['sub'], []])
        t.eq((tree.text(u.m('u')), tree.text(u.m('.wh.k')), tree.text(u.m('k'))), ('2', 'data', '1'))
        # What is made there hides what is below as it did; what goes away leaves nothing behind.
        os.mkdir(u.m('a'))
        os.rename(u.m('n'), u.m('moved'))
        os.rename(u.m('e'), u.m('d/e'))
        os.rename(u.m('deep/e'), u.m('e'))
        os.unlink(u.m('u'))
        os.rmdir(u.m('only'))
        os.unlink(u.m('d/e/new'))
        os.rmdir(u.m('d/e'))
        for i in range(2):
            t.eq(tree.names(u.mnt), ['.wh.k', '.wh.s', 'a', 'b', 'd', 'deep', 'e', 'k', 'moved', 's'])
            t.eq([tree.names(u.m(n)) for n in ('a', 'd', 'deep', 'e', 'moved')],
                 [[], ['y'], [], ['sub'], ['own']])
            u.remount()
        u.umount()


@test(everywhere=True)
def tar_marks_made_into_names(t):
    """A name that a mark in the upper has can be used: what the mark hid stays hidden."""
    u = t.union(text='f a 1; f b/x 1; f c 1; f e/old 1; f g 1; f h 1; f move 1; f i 1; f own 1')
    u.put('wh a; wh b; d b; wh c; woq e; wh g; f g 2; wh h; wh i; f old 1; wh own', 'upper')
    u.check_layers = False
    u.mount()
    os.listdir(u.mnt)
    tree.write(u.m('own'), '')
    os.rename(u.m('own'), u.m('.wh.own'))
    os.unlink(u.m('.wh.own'))
    tree.write(u.m('.wh.a'), '')
    os.mkdir(u.m('.wh.b'))
    os.rename(u.m('old'), u.m('.wh.c'))
    tree.write(u.m('e/.wh..wh..opq'), '')
    os.link(u.m('.wh.a'), u.m('.wh.g'))
    os.rename(u.m('move'), u.m('.wh.h'))
    os.symlink('to', u.m('.wh.i'))
    os.unlink(u.m('g'))
    for _ in range(2):
        t.eq(tree.names(u.mnt), ['.wh.a', '.wh.b', '.wh.c', '.wh.g', '.wh.h', '.wh.i', 'b', 'e'])
        t.eq((tree.names(u.m('b')), tree.names(u.m('e')), tree.names(u.m('.wh.b'))), ([], ['.wh..wh..opq'], []))
        t.fails(errno.ENOENT, os.lstat, u.m('a'))
        t.eq((tree.text(u.m('.wh.c')), tree.text(u.m('.wh.h'))), ('1', '1'))
        u.remount()
    for n in ('.wh.a', '.wh.c', '.wh.g', '.wh.h', '.wh.i', 'e/.wh..wh..opq'):
        os.unlink(u.m(n))
    os.rmdir(u.m('.wh.b'))
    for _ in range(2):
        t.eq((tree.names(u.mnt), tree.names(u.m('b')), tree.names(u.m('e'))), (['b', 'e'], [], []))
        u.remount()


@test()
def tar_mark_beside_what_was_moved(t):
    """A directory, a file without its data that comes to a name which a mark hides: it has what it had."""
    u = t.union(text='f big/sub/x 1; f gone/y 1; f gone2 1; f meta data; f dir/gone/y 1; f other/z 1')
    u.put('wh gone; wh gone2; wh dir/gone', 'upper')
    u.check_layers = False
    u.mount('redirect_dir=on,metacopy=on')
    os.rename(u.m('big'), u.m('gone'))
    os.rename(u.m('other'), u.m('dir/gone'))
    os.rename(u.m('meta'), u.m('gone2'))
    for i in range(3):
        t.eq((tree.names(u.m('gone')), tree.names(u.m('gone/sub')), tree.names(u.m('dir/gone'))), (['sub'], ['x'], ['z']))
        t.eq((tree.text(u.m('gone2')), tree.names(u.mnt)), ('data', ['.wh.gone'] * (i > 0) + ['dir', 'gone', 'gone2']))
        if i == 0:
            tree.write(u.m('.wh.gone'), '')      # the mark's name is used: still
        u.remount()


@test(identities=('root',))
def tar_names_of_the_kernel(t):
    """Files that were made under such names through the kernel's overlayfs carry no mark of ours: empty
    ones are marks, others are files."""
    u = t.union(text='f a 1; f b 1')
    k.mount('overlay', u.mnt, 'overlay', 0, 'lowerdir=%s,upperdir=%s,workdir=%s' % (u.lowers[0], u.upper, u.work))
    tree.write(u.m('.wh.a'), '')
    tree.write(u.m('.wh.b'), 'data')
    k.umount(u.mnt)
    u.check_layers = False
    u.mount()
    t.eq((tree.names(u.mnt), tree.text(u.m('.wh.b'))), (['.wh.b', 'b'], 'data'))
    tree.write(u.m('.wh.c'), '')
    u.umount()
    k.mount('overlay', u.mnt, 'overlay', 0, 'lowerdir=%s,upperdir=%s,workdir=%s' % (u.lowers[0], u.upper, u.work))
    t.eq(tree.names(u.mnt), ['.wh.a', '.wh.b', '.wh.c', 'a', 'b'])
    t.eq(os.listxattr(u.m('.wh.c')), [])
    k.umount(u.mnt)


@test(everywhere=True)
def tar_names_are_kept(t):
    """Files made through the mount under names of marks are files, there and where the upper is a
    lower later: engines that run inside keep their data."""
    u = t.union(text='f lower 1; f from 1; f x 1; f h1 1; h h2 h1')
    u.check_layers = False
    for fresh in (True, False):
        u.mount()
        names = ['.wh.' + n for n in ('cut', 'link', 'low', 'made', 'moved', 'node', 'x')]
        if fresh:
            for n in ('.wh.x', '.wh.made', 'plain', 'second', 'd/.wh..wh..opq'):
                os.makedirs(os.path.dirname(u.m(n)), exist_ok=True)
                tree.write(u.m(n), '')
            os.mknod(u.m('.wh.node'), 0o600)
            os.rename(u.m('plain'), u.m('.wh.moved'))
            os.link(u.m('second'), u.m('.wh.link'))
            os.truncate(u.m('from'), 0)
            os.rename(u.m('from'), u.m('.wh.low'))
            tree.write(u.m('.wh.cut'), 'data')
            os.truncate(u.m('.wh.cut'), 0)
            os.chmod(u.m('.wh.made'), 0o400)
            with open(u.m('h1'), 'w'):
                pass
            os.mkdir(u.m('hard'))
            os.link(u.m('h1'), u.m('hard/.wh.h'))
            os.rename(u.m('h2'), u.m('hard/.wh.h2'))
        t.eq(tree.names(u.mnt), names + ['d', 'h1', 'hard', 'lower', 'second', 'x'])
        t.eq((tree.names(u.m('d')), tree.names(u.m('hard'))), (['.wh..wh..opq'], ['.wh.h', '.wh.h2']))
        for n in names:
            t.eq((os.stat(u.m(n)).st_size, os.listxattr(u.m(n))), (0, []))
        u.umount()
    v = t.union(lowers=2)
    v.lowers = [u.upper, v.lowers[1]]
    for d in ('', 'd/'):
        tree.build(v.lowers[1], 'f %sx 1; f %scut 1; f %sbelow 1' % (d, d, d))
    v.check_layers = False
    v.mount()
    for i in range(2):
        t.eq(tree.names(v.mnt), names + ['below', 'cut', 'd', 'h1', 'hard', 'second', 'x'])
        t.eq((tree.names(v.m('d')), tree.text(v.m('x'))), (['.wh..wh..opq', 'below', 'cut', 'x'], '1'))
        os.chmod(v.m('.wh.x'), 0o640)
        os.chmod(v.m('d/.wh..wh..opq'), 0o640)
        os.utime(v.m('.wh.made'))
        v.remount()
    os.unlink(v.m('.wh.x'))
    os.unlink(v.m('d/.wh..wh..opq'))
    v.remount()
    t.eq(tree.names(v.mnt), names[:-1] + ['below', 'cut', 'd', 'h1', 'hard', 'second', 'x'])
    t.eq(tree.names(v.m('d')), ['below', 'cut', 'x'])


@test()
def tar_name_with_data_is_cut_off(t):
    """A file of such a name that somebody else put into the upper does not become a mark by being emptied."""
    u = t.union(text='f a 1')
    u.put('f .wh.a data', 'upper')
    u.check_layers = False
    u.mount()
    with open(u.m('.wh.a'), 'w'):
        pass
    for _ in range(2):
        t.eq((tree.names(u.mnt), tree.text(u.m('a'))), (['.wh.a', 'a'], '1'))
        u.remount()


@test()
def wh_names_made_through_the_mount(t):
    """Where whiteouts are devices, .wh. names are ordinary for users of the mount."""
    u = t.mounted('f x 1')
    try:
        tree.write(u.m('.wh.x'), 'data')
    except OSError as e:
        t.eq(e.errno, errno.EINVAL)     # refusing them would be honest, too
        return
    u.check_layers = False
    t.eq(tree.names(u.mnt), ['.wh.x', 'x'])
    u.remount()
    t.eq(tree.text(u.m('.wh.x')), 'data')
    t.eq(tree.text(u.m('x')), '1')


@test()
def redirect_is_refused(t):
    """redirect_dir=nofollow, a directory with a redirect: EPERM on that name, at every access, in upper
    and lower."""
    u = t.union(lowers=2)
    u.put('f a/x 1; d lb; x lb %.overlay.redirect a; f ok 1')
    u.put('f a/y 1; f lb/wrong 1; f b/wrong 1', 1)
    u.put('d b; x b %.overlay.redirect a; d abs; x abs %.overlay.redirect /a', 'upper')
    u.mount('redirect_dir=nofollow')
    for n in ('b', 'lb', 'abs'):
        t.fails(errno.EPERM, os.lstat, u.m(n))
        t.fails(errno.EPERM, os.listdir, u.m(n))
        t.fails(errno.EPERM, os.lstat, u.m(n + '/wrong'))
        t.fails(errno.EPERM, tree.write, u.m(n + '/new'), 'x')
        t.ok(n in os.listdir(u.mnt), n + ' is not listed')
    t.eq(tree.names(u.m('a')), ['x', 'y'])
    t.eq(tree.text(u.m('ok')), '1')


@test()
def metacopy_is_refused(t):
    """metacopy=off, a metacopy file: EPERM, never the hole it holds."""
    u = t.union(lowers=2)
    u.put('f low 00000; x low %.overlay.metacopy')
    u.put('f a hello; f low hello', 1)
    u.put('f a; x a %.overlay.metacopy', 'upper')
    os.truncate(u.up('a'), 5)
    u.mount('metacopy=off')
    for n in ('a', 'low'):
        t.fails(errno.EPERM, os.lstat, u.m(n))
        t.fails(errno.EPERM, tree.read, u.m(n))
        t.fails(errno.EPERM, tree.append, u.m(n), 'x')
        t.ok(n in os.listdir(u.mnt))


@test(identities=('root',))
def other_namespace_is_ordinary(t):
    """On a trusted mount user.overlay.* is visible, means nothing and is copied up, and the
    other way round with userxattr."""
    for opts, used, other in (((), 'trusted', 'user'), (('userxattr',), 'user', 'trusted')):
        u = t.union(lowers=2)
        u.put('f d/top 1; f o/top 1')
        u.put('f d/low 1; f o/low 1', 1)
        os.setxattr(u.low('d'), other + '.overlay.opaque', b'y')
        os.setxattr(u.low('o'), used + '.overlay.opaque', b'y')
        u.mount(*opts)
        t.eq(tree.names(u.m('d')), ['low', 'top'], other)
        t.eq(tree.names(u.m('o')), ['top'], used)
        t.eq(os.getxattr(u.m('d'), other + '.overlay.opaque'), b'y')
        os.chmod(u.m('d'), 0o700)
        os.chmod(u.m('o'), 0o700)
        t.eq(os.getxattr(u.up('d'), other + '.overlay.opaque'), b'y', 'copied up')
        t.ok(used + '.overlay.opaque' not in os.listxattr(u.up('o')), 'a mark of a lower was copied')
        t.eq(tree.names(u.m('o')), ['top'])
        u.remount()
        t.eq(tree.names(u.m('o')), ['top'])
        u.umount()


@test()
def refused_names_are_logged(t):
    """A mark that is not followed gives EPERM; the log says why, with the path, once a name and for so many."""
    u = t.union(text='f d/sub/a 1; f real/x 1; f i1 1; h i2 i1')
    u.put('d d/sub/moved; x d/sub/moved %.overlay.redirect /real', 'upper')
    u.put('f d/sub/meta 1; x d/sub/meta %.overlay.metacopy', 'upper')
    for i in range(300):
        u.put('d many/r%d; x many/r%d %%.overlay.redirect /real' % (i, i), 'upper')
    os.makedirs(u.up('d/sub/line\nbreak'))
    os.setxattr(u.up('d/sub/line\nbreak'), t.ns + '.overlay.redirect', b'/real')
    tree.build(u.lowers[0], 'f d/sub/meta 1')
    u.mount('redirect_dir=nofollow,metacopy=off')

    def lines(word):
        return [l for l in u.log_text().split('\n') if word in l]
    for _ in range(3):
        for n in ('moved', 'meta', 'line\nbreak'):
            t.fails(errno.EPERM, os.lstat, u.m('d/sub/' + n))
    for n, mark, option in (('moved', 'redirect', 'redirect_dir=nofollow'), ('meta', 'metacopy', 'metacopy=off'),
                            ('line?break', 'redirect', 'redirect_dir=nofollow')):
        found = lines(u.m('d/sub/' + n) + ':')
        t.eq(len(found), 1, u.log_text())
        t.ok(all(w in found[0] for w in (t.ns + '.overlay.' + mark, u.upper, option)), found[0])
    for i in range(300):
        t.fails(errno.EPERM, os.lstat, u.m('many/r%d' % i))
    t.eq((len(lines('is not followed')), len(lines('not logged'))), (256, 1))


@test()
def index_data_is_refused(t):
    """The same of a hard link whose file in the index has its data below."""
    u = t.mounted('f a 1; h b a', 'index=on,redirect_dir=on,metacopy=on')
    os.chmod(u.m('a'), 0o600)
    if not u.is_metacopy('a'):
        t.skip('no metadata-only copy of it')
    u.umount()
    u.mount('index=on,metacopy=off')
    t.fails(errno.EPERM, os.lstat, u.m('a'))
    t.fails(errno.EPERM, os.lstat, u.m('b'))
    for n in ('a', 'b'):
        t.eq(len([l for l in u.log_text().split('\n') if u.m(n) + ':' in l]), 1, u.log_text())


@test()
def marks_of_a_lower_are_not_copied_up(t):
    """opaque, impure and origin of a lower describe the lower only; an opaque lower directory
    stays opaque after its copy-up."""
    u = t.union(lowers=2)
    u.put('f d/top 1; o d; x d %.overlay.impure y; f f 1; x f %.overlay.origin')
    u.put('f d/low 1', 1)
    u.mount()
    os.chmod(u.m('d'), 0o711)
    os.chmod(u.m('f'), 0o600)
    t.eq(tree.names(u.m('d')), ['top'])
    t.ok(t.ns + '.overlay.opaque' not in os.listxattr(u.up('d')))
    u.remount()
    t.eq(tree.names(u.m('d')), ['top'])


@test()
def d_type_of_a_name_behind_a_whiteout(t):
    """Listing a directory whose lower holds hundreds of whiteouts and names."""
    u = t.union(lowers=2)
    for i in range(300):
        u.put('%s d/n%d' % ('w' if i % 3 == 0 else 'f', i))
        u.put('f d/n%d 1; f d/m%d 1' % (i, i), 1)
    u.mount()
    got = {n for _, _, n in k.listing(u.m('d'))} - {'.', '..'}
    want = {'n%d' % i for i in range(300) if i % 3} | {'m%d' % i for i in range(300)}
    t.eq(got, want)
