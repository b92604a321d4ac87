# SPDX-License-Identifier: GPL-2.0-or-later
"""Times of access: whose move, when, and where they are left alone."""
import os
import time

from lib import test, tree

OLD, NEWER = 1000000000, 1000000100     # an access before the last change: relatime moves it


def _old(path, follow=True):
    os.utime(path, (OLD, NEWER), follow_symlinks=follow)


def _atime(path):
    return os.lstat(path).st_atime


def _relatime(t, d):
    """Does a read move it here without us?"""
    p = os.path.join(d, 'probe')
    os.mkdir(p)
    _old(p)
    os.listdir(p)
    moves = _atime(p) > NEWER
    os.rmdir(p)
    if not moves:
        t.skip('the file system below is mounted noatime')


@test()
def listing_moves_a_directory_once(t):
    """As relatime: a directory of the upper when it is listed after a change, from memory as well, on
    disk too; never one of a lower."""
    u = t.union(text='f low/f 1; f both/f 1')
    u.put('f d/f 1; d both', 'upper')
    u.check_lowers = False
    _relatime(t, u.upper)
    u.mount()
    for p in (u.up('d'), u.up('both'), u.low('low'), u.low('both')):
        _old(p)
    for n in ('d', 'both', 'low'):
        os.listdir(u.m(n))
    t.ok(_atime(u.up('d')) > NEWER and _atime(u.up('both')) > NEWER, 'the first listing')
    t.eq([int(_atime(p)) for p in (u.low('low'), u.low('both'), u.m('low'))], [OLD] * 3)
    t.eq(_atime(u.m('d')), _atime(u.up('d')))
    first = _atime(u.up('d'))
    time.sleep(0.02)
    os.listdir(u.m('d'))
    t.eq(_atime(u.up('d')), first, 'it has not been changed since')
    for i, change in enumerate((lambda: tree.write(u.m('d/n'), '1'), lambda: os.unlink(u.m('d/n')),
                                lambda: os.mkdir(u.m('d/sub')), lambda: os.rename(u.m('d/f'), u.m('d/g')),
                                lambda: _old(u.m('d')))):
        time.sleep(0.02)
        change()
        before = _atime(u.up('d'))
        time.sleep(0.02)
        os.listdir(u.m('d'))
        t.ok(_atime(u.up('d')) > before, 'after change %d' % i)
        t.eq(_atime(u.m('d')), _atime(u.up('d')))
    os.mkdir(u.m('new'))
    _old(u.m('new'))
    os.listdir(u.m('new'))
    t.ok(_atime(u.up('new')) > NEWER, 'known from the start')


@test()
def only_a_listing_moves_it(t):
    """What we read for ourselves (is it empty? where is the name?) leaves times alone."""
    u = t.union(text='f d/low 1')
    u.put('f d/up 1; d e/sub', 'upper')
    _relatime(t, u.upper)
    u.mount()
    _old(u.m('d'))
    _old(u.m('e'))
    for i in range(100):
        tree.exists(u.m('d/missing%d' % i))
    try:
        os.rmdir(u.m('e'))
    except OSError:
        pass
    t.eq([int(_atime(u.up(n))) for n in ('d', 'e')], [OLD, OLD])


@test()
def reading_moves_a_file(t):
    u = t.union()
    u.put('f f 1', 'upper')
    _relatime(t, u.upper)
    _old(u.up('f'))
    u.mount()
    t.eq(tree.text(u.m('f')), '1')
    t.ok(_atime(u.up('f')) > NEWER)
    t.eq(_atime(u.m('f')), _atime(u.up('f')))


@test()
def noatime_is_kept_below(t):
    """noatime, and ro, for our own reads of the upper: files, through descriptors that write as well, and
    directories."""
    for option in ('noatime', 'ro'):
        u = t.union(text='f low/f 1; f both/f 1')
        u.put('f d/f 1; f d/w 1; f d/a 1; d both; l d/s to', 'upper')
        _relatime(t, u.upper)
        every = ['d/f', 'd/w', 'd/a', 'd', 'both']
        for n in every:
            _old(u.up(n))
        u.mount(option)
        for n in ('f', 'a'):
            t.eq(tree.text(u.m('d/' + n)), '1')
        for n in ('d', 'both', 'low'):
            os.listdir(u.m(n))
        if option == 'noatime':
            fd = os.open(u.m('d/w'), os.O_RDWR)
            os.pwrite(fd, b'x', 0)
            os.fsync(fd)
            _old(u.m('d/w'))
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            t.eq(os.pread(fd, 2, 0), b'x')
            os.close(fd)
            tree.write(u.m('d/made'), '12')
            _old(u.m('d/made'))
            fd = os.open(u.m('d/made'), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            t.eq(os.pread(fd, 2, 0), b'12')
            os.close(fd)
            _old(u.m('d'))
            os.listdir(u.m('d'))
            every.append('d/made')
        for n in every:
            t.eq((n, int(_atime(u.up(n))), int(_atime(u.m(n)))), (n, OLD, OLD))
        if t.identity == 'root' and option == 'noatime':
            _old(u.up('d/s'), False)
            t.eq(os.readlink(u.m('d/s')), 'to')
            t.eq(int(_atime(u.up('d/s'))), OLD)
        u.umount()


@test(everywhere=True)
def pure_again(t):
    """The impure mark goes when a listing finds nothing with an origin; it stays otherwise."""
    u = t.mounted('f a 1; f b 1; f dir/x 1; l s to; f keep/low 1', 'redirect_dir=on')

    def impure(n):
        return t.ns + '.overlay.impure' in os.listxattr(u.up(n))
    os.mkdir(u.m('d'))
    for i in range(300):
        tree.write(u.m('d/with-a-long-name-so-that-it-takes-more-than-one-reply-%d' % i), '')
    for n in ('a', 'dir', 's'):
        os.rename(u.m(n), u.m('d/' + n))
    t.ok(impure('d'))
    for n in ('a', 'dir', 's'):
        os.listdir(u.m('d'))
        t.ok(impure('d') or (n == 's' and not u.t.root), 'it still holds ' + n)
        os.rename(u.m('d/' + n), u.m(n))
    before = os.stat(u.m('d'))
    numbers = {e.name: e.inode() for e in os.scandir(u.m('d'))}
    t.ok(not impure('d'), 'nothing with an origin is left')
    t.eq((os.stat(u.m('d')).st_ctime_ns, os.stat(u.m('d')).st_mtime_ns), (before.st_ctime_ns, before.st_mtime_ns))
    t.eq(numbers, {n: os.stat(u.m('d/' + n)).st_ino for n in numbers})
    os.rename(u.m('b'), u.m('d/b'))
    t.ok(impure('d'), 'and it comes again')
    os.listdir(u.m('d'))
    t.ok(impure('d'))
    u.remount()
    os.unlink(u.m('d/b'))
    t.eq(len(os.listdir(u.m('d'))), 300)
    t.ok(not impure('d'))
