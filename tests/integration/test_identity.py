# SPDX-License-Identifier: GPL-2.0-or-later
"""Inode numbers and hard links: unique, the same before and after copy-up and remount."""
import errno
import os
import threading
import time

from lib import k, test, tree


def _ino(u, rel):
    return os.lstat(u.m(rel)).st_ino


@test(everywhere=True)
def same_over_copy_up(t):
    """Files, symlinks, fifos, directories, of the top and of a middle layer."""
    u = t.union(lowers=2, text='f f 1; l l x; p p; d d; f d/x 1; d m')
    u.put('f f2 1; l l2 x; p p2; d m; f m/y 1; s s2', 1)
    u.mount()
    names = [n for n in tree.walk(u.mnt) if n != '.']
    before = {n: _ino(u, n) for n in names}
    t.eq(len(set(before.values())), len(names), 'unique')
    for n in names:
        if os.path.islink(u.m(n)):
            os.lchown(u.m(n), os.getuid(), os.getgid())
        else:
            os.chmod(u.m(n), 0o700)
    t.eq({n: _ino(u, n) for n in names}, before, 'after copy-up')
    listed = {n: i for i, _, n in k.listing(u.mnt)}
    for n in tree.names(u.mnt):
        t.eq(listed[n], before[n], 'd_ino of ' + n)
    u.remount()
    after = {n: _ino(u, n) for n in names}
    special = set() if t.root else {'l', 'l2', 'p', 'p2', 's2'}     # user.* cannot be set on them
    for n in names:
        if n not in special:
            t.eq(after[n], before[n], n + ' after a remount')
    t.eq(len(set(after.values())), len(names), 'unique after a remount')
    listed = {n: i for i, _, n in k.listing(u.mnt)}
    for n in tree.names(u.mnt):
        t.eq(listed[n], after[n], 'd_ino after a remount of ' + n)


@test(identities=('root', 'userns'))
def same_over_copy_up_on_two_file_systems(t):
    """Layers on different file systems whose inode numbers collide: still unique and constant."""
    u = t.union(lowers=2)
    for l in u.lowers:
        k.mount('tmpfs', l, 'tmpfs')
    try:
        u.put('; '.join('f a%d 1; d da%d; f sub/a%d 1' % (i, i, i) for i in range(20)))
        u.put('; '.join('f b%d 1; d db%d; f sub/b%d 1' % (i, i, i) for i in range(20)), 1)
        u.mount()
        names = [n for n in tree.walk(u.mnt)]
        before = {n: _ino(u, n) for n in names}
        t.eq(len({(os.lstat(u.m(n)).st_dev, before[n]) for n in names}), len(names), 'unique')
        for d in ('', 'sub'):
            for i, _, n in k.listing(u.m(d)):
                if n not in ('.', '..'):
                    t.eq(i, os.lstat(os.path.join(u.m(d), n)).st_ino, 'd_ino of ' + n)
        for n in names[1:]:
            os.chmod(u.m(n), 0o700)
        t.eq({n: _ino(u, n) for n in names}, before, 'after copy-up')
        t.eq(len({os.lstat(u.m(n)).st_dev for n in names}), 1, 'one st_dev')
        u.umount()
    finally:
        u.cleanup()
        for l in u.lowers:
            k.umount(l, k.MNT_DETACH)


@test(identities=('root', 'user'))
def not_reused_while_known(t):
    """Numbers of removed files that are still open are not given to new ones."""
    u = t.mounted('; '.join('f low%d 1' % i for i in range(50)))
    fds = []
    for i in range(300):
        p = u.m('f%d' % i)
        fds.append(os.open(p, os.O_CREAT | os.O_RDWR))
        os.write(fds[-1], b'%d' % i)
        os.unlink(p)
    for i in range(50):
        fds.append(os.open(u.m('low%d' % i), os.O_RDONLY))
        os.unlink(u.m('low%d' % i))
    inos = [os.fstat(fd).st_ino for fd in fds]
    t.eq(len(set(inos)), len(fds))
    for i in range(300):
        t.eq(os.pread(fds[i], 10, 0), b'%d' % i)
    for fd in fds:
        os.close(fd)


@test()
def reuse_below_does_not_confuse(t):
    """ext4 gives the numbers of deleted files to new ones at once: content, type and size of
    the new ones must be theirs."""
    u = t.mounted('f x 1')
    for i in range(300):
        a, b = u.m('a%d' % i), u.m('b%d' % i)
        tree.write(a, 'first %d' % i)
        t.eq(os.stat(a).st_size, 6 + len(str(i)))
        os.unlink(a)
        if i % 3 == 0:
            os.mkdir(b)
            t.eq(os.listdir(b), [])
        elif i % 3 == 1:
            os.symlink('s%d' % i, b)
            t.eq(os.readlink(b), 's%d' % i)
        else:
            tree.write(b, 'second')
            t.eq(tree.text(b), 'second')
        t.fails(errno.ENOENT, os.lstat, a)


@test(everywhere=True)
def hard_links_of_a_lower_lose_nothing(t):
    """Lower a/x and a/y are one inode; append to a/x, unmount, mount: both are right. With an index
    both have the change, without one only a/x."""
    for opts in ((), ('index=off',)):
        u = t.mounted('f a/x old; h a/y a/x; h b a/x; f r1 old; h r2 r1', *opts)
        tree.append(u.m('a/x'), ' new')
        tree.write(u.m('r2'), 'replaced')
        other, r1 = ('old', 'old') if opts else ('old new', 'replaced')
        for _ in range(3):
            t.eq((tree.text(u.m('a/x')), tree.text(u.m('a/y')), tree.text(u.m('b'))), ('old new', other, other))
            t.eq((tree.text(u.m('r1')), tree.text(u.m('r2'))), (r1, 'replaced'))
            t.eq((os.stat(u.m('a/x')).st_size, os.stat(u.m('a/y')).st_size), (7, len(other)))
            if not opts:
                t.eq({_ino(u, n) for n in ('a/x', 'a/y', 'b')}, {_ino(u, 'b')}, 'one inode')
                t.eq([os.stat(u.m(n)).st_nlink for n in ('a/x', 'a/y', 'b', 'r1')], [3, 3, 3, 2])
            u.remount()
        # A name that was looked up has its entry, for whoever reads the upper without the index.
        t.eq(tree.names(u.up('a')), ['x'] if opts else ['x', 'y'])
        u.umount()


@test()
def hard_links_of_a_lower_in_any_order(t):
    """The same whichever name was looked up or listed first, through open descriptors too."""
    for opts in ((), ('index=off',)):
        for first in ('x', 'y', 'list', 'none', 'fd'):
            _in_any_order(t, first, 'old' if opts else 'old new', *opts)


def _in_any_order(t, first, other, *opts):
    u = t.mounted('f a/x old; h a/y a/x', *opts)
    fd = -1
    if first in 'xy':
        tree.text(u.m('a/' + first))
    elif first == 'list':
        k.listing(u.m('a'))
    elif first == 'fd':
        fd = os.open(u.m('a/y'), os.O_RDONLY)
    tree.append(u.m('a/x'), ' new')
    if fd >= 0:
        t.eq(os.pread(fd, 20, 0), other.encode())
        os.close(fd)
    u.remount()
    t.eq((tree.text(u.m('a/x')), tree.text(u.m('a/y'))), ('old new', other), first)
    u.umount()


@test()
def broken_link_gets_a_new_number(t):
    """index=off: a name whose hard link was broken by copy-up has its own number, or tar and rsync would
    take two files for one; the others keep theirs."""
    u = t.mounted('f a 1; h b a; h c a', 'index=off')
    b = os.stat(u.m('b'))
    tree.append(u.m('a'), '2')
    for _ in range(2):
        sa, sb, sc = (os.stat(u.m(n)) for n in 'abc')
        t.ok(sa.st_ino not in (sb.st_ino, sc.st_ino), 'a shares its number')
        t.eq(sa.st_nlink, 1)
        listed = {n: i for i, _, n in k.listing(u.mnt)}
        t.eq([listed[n] for n in 'abc'], [sa.st_ino, sb.st_ino, sc.st_ino])
        u.remount()
    t.ok(b.st_nlink >= 1)


@test()
def unbroken_link_keeps_its_number(t):
    """With an index all names keep number and count, whichever is changed, and agree with the listing."""
    u = t.mounted('f a 1; h b a; h c a')
    before = os.stat(u.m('b'))
    for n in 'ab':
        tree.append(u.m(n), '2')
        for _ in range(2):
            sts = [os.stat(u.m(x)) for x in 'abc']
            t.eq([(s.st_ino, s.st_nlink, s.st_size) for s in sts],
                 [(before.st_ino, 3, 2 if n == 'a' else 3)] * 3)
            listed = {x: i for i, _, x in k.listing(u.mnt)}
            t.eq([listed[x] for x in 'abc'], [before.st_ino] * 3)
            u.remount()


@test(needs=('tar',))
def tar_sees_lower_hard_links(t):
    """The names of a lower inode are one inode to tar; without an index until one of them is changed."""
    for opts in ((), ('index=off',)):
        _tar(t, 'data' if opts else 'data more', *opts)


def _tar(t, other, *opts):
    u = t.mounted('f a/x data; h b/y a/x; h c a/x; f a/z data', *opts)
    t.sh('tar -cf ../out.tar . && mkdir ../out && tar -xf ../out.tar -C ../out', cwd=u.mnt)
    out = u.root + '/out'
    ino = os.stat(out + '/a/x').st_ino
    t.eq((os.stat(out + '/b/y').st_ino, os.stat(out + '/c').st_ino), (ino, ino))
    t.ok(os.stat(out + '/a/z').st_ino != ino)
    sts = [os.stat(u.m(n)) for n in ('a/x', 'b/y', 'c')]
    t.eq(len({s.st_ino for s in sts}), 1, 'st_ino of the three names')
    t.eq([s.st_nlink for s in sts], [3, 3, 3], 'st_nlink')
    tree.append(u.m('b/y'), ' more')
    t.sh('rm -r ../out ../out.tar; tar -cf ../out.tar . && mkdir ../out && tar -xf ../out.tar -C ../out', cwd=u.mnt)
    t.eq((tree.text(out + '/b/y'), tree.text(out + '/c')), ('data more', other))
    t.eq(os.stat(out + '/a/x').st_ino, os.stat(out + '/c').st_ino)
    t.eq(os.stat(out + '/b/y').st_ino == os.stat(out + '/c').st_ino, not opts)
    u.umount()


@test(timeout=120)
def copy_ups_do_not_touch_directories(t):
    """Times of a directory never show that names in it are copied up, or get their aliases: not for a moment."""
    n = 100
    files = '; '.join('f d/e/f%d 1; f d/l%d 2; h d/e/k%d d/l%d' % (i, i, i, i) for i in range(n))
    u = t.mounted(files, 'index=on', 'volatile')            # hundreds of fsyncs prove nothing here
    for d in ('d', 'd/e'):                                  # from here on they are in the upper
        tree.write(u.m(d + '/new'), '')

    def times():
        return [(st['ctime'], st['mtime']) for st in
                (k.statx(u.m(d), flags=k.AT_STATX_FORCE_SYNC) for d in ('d', 'd/e'))]

    # What is hidden is forgotten with the directory, whenever somebody empties the machine's caches.
    held = [os.open(u.m(d), os.O_RDONLY) for d in ('d', 'd/e')]
    before = times()
    seen, done = [], threading.Event()

    def look():
        while not done.is_set():
            now = times()
            if now != before:
                seen.append(now)
                return

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for th in lookers:
        th.start()
    for i in range(n):
        tree.append(u.m('d/e/f%d' % i), 'x')
        tree.append(u.m('d/l%d' % i), 'x')
    time.sleep(2.5)                                         # aliases come after a second or two
    done.set()
    for th in lookers:
        th.join()
    t.eq(seen, [], 'times of the directories, before: %s' % (before,))
    for fd in held:
        os.close(fd)


@test()
def upper_hard_links(t):
    """Names of an upper inode are one inode, whichever is asked first, also after drop_caches."""
    u = t.union(text='f d/low 1')
    u.put('f a 1; h d/b a; h d/c a', 'upper')
    u.mount()
    t.eq(len({_ino(u, n) for n in ('a', 'd/b', 'd/c')}), 1)
    t.eq({os.stat(u.m(n)).st_nlink for n in ('a', 'd/b', 'd/c')}, {3})
    tree.append(u.m('d/b'), '2')
    t.eq(tree.text(u.m('a')), '12')
    if t.root:
        k.drop_caches(3)
        tree.append(u.m('d/c'), '3')
        t.eq(tree.text(u.m('a')), '123')
    os.unlink(u.m('a'))
    t.eq((os.stat(u.m('d/b')).st_nlink, os.stat(u.m('d/c')).st_nlink), (2, 2))
    d = {n: i for i, _, n in k.listing(u.m('d'))}
    t.eq(d['b'], d['c'])


@test()
def numbers_survive_a_remount(t):
    """Of untouched and of changed objects; tools that remember numbers find nothing new."""
    u = t.mounted('; '.join('f d%d/f%d 1' % (i % 3, i) for i in range(20)))
    tree.append(u.m('d1/f1'), 'x')
    tree.write(u.m('d1/new'), 'x')
    os.rename(u.m('d2/f2'), u.m('d1/moved'))
    before = {n: _ino(u, n) for n in tree.walk(u.mnt)}
    u.remount()
    t.eq({n: _ino(u, n) for n in tree.walk(u.mnt)}, before)


@test(identities=('root',))
def file_handles(t):
    """EXPORT_SUPPORT is either not claimed, or handles still work when the kernel forgot all."""
    u = t.mounted('f d/a hello')
    try:
        handle = k.file_handle(u.m('d/a'))
        fd = os.open(u.mnt, os.O_RDONLY)
        try:
            k.drop_caches(3)
            f = k.open_by_handle(fd, handle)
            t.eq(os.read(f, 10), b'hello')
            os.close(f)
        finally:
            os.close(fd)
    except OSError as e:
        t.ok(e.errno in (errno.EOPNOTSUPP, errno.ESTALE), str(e))    # not claimed
