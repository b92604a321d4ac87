# SPDX-License-Identifier: GPL-2.0-or-later
"""unlink and rmdir: whiteouts, no copies, directories of whiteouts, and making names anew."""
import errno
import os

from lib import k, test, tree


@test(everywhere=True)
def whiteout_of_every_kind(t):
    """Deleting any lower object makes a 0:0 character device in the upper and copies nothing."""
    u = t.union(text='f f hello; l l f; p p; s s; d d; f deep/er/x 1')
    if t.root:
        u.put('c c 1:3; b b 7:0')
    u.mount()
    for n in tree.names(u.mnt):
        if n in ('d', 'deep'):
            continue
        os.unlink(u.m(n))
        t.ok(tree.is_whiteout(u.up(n)), 'no whiteout for ' + n)
        t.fails(errno.ENOENT, os.lstat, u.m(n))
    os.rmdir(u.m('d'))
    os.unlink(u.m('deep/er/x'))
    st = os.lstat(u.up('deep/er/x'))
    t.ok(tree.is_whiteout(u.up('d')) and tree.is_whiteout(u.up('deep/er/x')))
    t.eq(os.major(st.st_rdev) + os.minor(st.st_rdev), 0)
    u.remount()
    t.eq(tree.names(u.mnt), ['deep'])
    t.eq(tree.names(u.m('deep/er')), [])
    os.rmdir(u.m('deep/er'))
    os.rmdir(u.m('deep'))
    t.eq(tree.names(u.mnt), [])
    u.remount()
    t.eq(tree.names(u.mnt), [])


@test()
def nothing_is_copied(t):
    """Removing a 100 MB lower file writes no data; its whiteouts share one inode."""
    u = t.union(text='; '.join('f n%d' % i for i in range(20)))
    os.truncate(u.low('n0'), 100 << 20)
    u.mount()
    for i in range(20):
        os.unlink(u.m('n%d' % i))
    t.eq([os.lstat(u.up(n)).st_blocks for n in tree.names(u.upper)], [0] * 20)
    inos = {os.lstat(u.up(n)).st_ino for n in tree.names(u.upper)}
    t.ok(len(inos) <= 2, '%d inodes for 20 whiteouts' % len(inos))


@test()
def pure_upper_leaves_nothing(t):
    """Names with nothing below disappear without a whiteout; also above a lower whiteout."""
    u = t.union(lowers=2, text='w w; f d/x 1')
    u.put('f w 1', 1)
    u.mount()
    tree.write(u.m('a'), '1')
    os.mkdir(u.m('b'))
    tree.write(u.m('w'), '1')
    tree.write(u.m('d/n'), '1')
    for n in ('a', 'w', 'd/n'):
        os.unlink(u.m(n))
    os.rmdir(u.m('b'))
    t.eq(tree.names(u.upper), ['d'])
    t.eq(tree.names(u.up('d')), [])
    t.eq(tree.names(u.mnt), ['d'])


@test()
def copied_up_then_removed(t):
    """The upper copy is replaced by a whiteout at once; the lower never shines through."""
    u = t.mounted('f a 1; d d; l l a')
    tree.append(u.m('a'), '2')
    os.chmod(u.m('d'), 0o700)
    os.lchown(u.m('l'), os.getuid(), os.getgid())
    os.unlink(u.m('a'))
    os.unlink(u.m('l'))
    os.rmdir(u.m('d'))
    for n in ('a', 'd', 'l'):
        t.ok(tree.is_whiteout(u.up(n)), n)
    t.eq(tree.names(u.mnt), [])


@test(everywhere=True)
def not_empty(t):
    """rmdir of a directory with anything in it, in any layer: ENOTEMPTY, nothing changed."""
    u = t.union(lowers=2, text='f a/x 1; d m/sub')
    u.put('f b/x 1; f m/x 1', 1)
    u.put('f c/x 1; w m/x', 'upper')
    u.mount()
    for d in ('a', 'b', 'c', 'm'):
        t.fails(errno.ENOTEMPTY, os.rmdir, u.m(d))
    t.eq(tree.names(u.m('m')), ['sub'])
    os.rmdir(u.m('m/sub'))
    os.rmdir(u.m('m'))
    t.ok(tree.is_whiteout(u.up('m')))
    t.eq(tree.names(u.mnt), ['a', 'b', 'c'])


@test()
def directory_of_whiteouts(t):
    """rmdir of a merged directory whose upper part holds only whiteouts."""
    u = t.mounted('; '.join('f d/n%d 1; f d/s/n%d 1' % (i, i) for i in range(30)))
    for i in range(30):
        os.unlink(u.m('d/n%d' % i))
        os.unlink(u.m('d/s/n%d' % i))
    os.rmdir(u.m('d/s'))
    os.rmdir(u.m('d'))
    t.ok(tree.is_whiteout(u.up('d')))
    t.eq(tree.names(u.upper), ['d'])
    os.mkdir(u.m('d'))
    t.eq(tree.names(u.m('d')), [])


@test()
def aufs_whiteouts_do_not_count(t):
    """A lower directory that holds only .wh. names and whiteouts is empty."""
    u = t.mounted('wh d/a; w d/b; woq d')
    t.eq(tree.names(u.m('d')), [])
    os.rmdir(u.m('d'))
    t.fails(errno.ENOENT, os.lstat, u.m('d'))
    os.mkdir(u.m('d'))
    t.eq(tree.names(u.m('d')), [])


@test()
def recreation(t):
    """Delete and make anew, as another kind, several times over; the last one counts."""
    u = t.mounted('f n/x 1; f n/s/y 1; f m low')
    for i in range(4):
        t.sh('rm -rf n; echo file > n; rm n; mkdir n; echo %d > n/x; ln -s n/x l; rm l' % i, cwd=u.mnt)
        t.sh('rm m; mkdir m; rmdir m; mkdir m; echo 1 > m/a; rm -r m; printf "new%d" > m' % i, cwd=u.mnt)
        t.eq(tree.names(u.m('n')), ['x'])
        t.eq((tree.text(u.m('n/x')), tree.text(u.m('m'))), ('%d\n' % i, 'new%d' % i))
        t.fails(errno.ENOENT, os.stat, u.m('n/s'))
    u.remount()
    t.eq((tree.names(u.m('n')), tree.text(u.m('m'))), (['x'], 'new3'))


@test()
def deep_trees(t):
    """rm -rf of a lower tree leaves one whiteout at the top."""
    u = t.union()
    for a in range(4):
        for b in range(4):
            for c in range(4):
                u.put('f t/%d/%d/%d 1' % (a, b, c))
    u.mount()
    t.sh('rm -rf t', cwd=u.mnt)
    t.eq(tree.names(u.upper), ['t'])
    t.ok(tree.is_whiteout(u.up('t')))


@test(identities=('root',))
def sticky_directories(t):
    """In a sticky directory others' files stay; permission is by the merged attributes."""
    u = t.mounted('d t 1777; f t/root 1; f t/mine 1; u t/mine 1000 1000; d w 755; f w/x 1')
    t.fails(errno.EPERM, t.as_user, 1000, os.unlink, u.m('t/root'))
    t.fails(errno.EACCES, t.as_user, 1000, os.unlink, u.m('w/x'))
    t.as_user(1000, os.unlink, u.m('t/mine'))
    t.as_user(1000, tree.write, u.m('t/new'), 'x')
    t.eq(os.stat(u.m('t/new')).st_uid, 1000)
    t.eq(tree.names(u.m('t')), ['new', 'root'])


@test()
def remove_while_listing(t):
    """rm -rf as programs do it: remove each name as it is read, from a stream that stays open."""
    for kind in ('lower', 'upper'):
        u = t.union(name=kind, text='d d', mount=())
        where = u.low('d') if kind == 'lower' else u.m('d')
        if kind == 'lower':
            u.umount()
        for i in range(1000):
            tree.write('%s/name-%04d' % (where, i), '')
        if kind == 'lower':
            u.mount()
        d = k.Dir(u.m('d'))
        n = 0
        while True:
            e = d.read()
            if e is None:
                break
            if e[2] not in ('.', '..'):
                os.unlink(u.m('d/' + e[2]))
                n += 1
        d.close()
        t.eq(n, 1000, kind)
        os.rmdir(u.m('d'))
        u.umount()
