# SPDX-License-Identifier: GPL-2.0-or-later
"""
Others change, while it is mounted, what a redirect or a metacopy file leads to: files and directories of lower layers
that are part of no directory looked into, and those of layers with data only. And index entries.
"""
import os
import random
import signal
import time

from lib import test, tree
from lib.edits import edit
from lib.live import KERNEL, Mapped, fresh, result, see, view

ON = ('metacopy=on', 'redirect_dir=on')
NO_DATA = {'EIO', 'ENOENT', 'ESTALE'}


def _marks(t, path, redirect, size):
    """A metacopy file, made by others."""
    tree.write(path, '')
    os.truncate(path, size)
    os.setxattr(path, t.ns + '.overlay.metacopy', b'')
    os.setxattr(path, t.ns + '.overlay.redirect', redirect.encode())


def _mount(u, *opts):
    if KERNEL:
        u.t.skip('not by default')
    u.check_lowers = False
    u.mount(*(ON + opts))
    return u


def _end(u):
    see(u, lambda: view(u.mnt), fresh(u, *ON), 'ours -> a fresh mount')
    u.umount()


def _file(u, rel, text):
    see(u, lambda: tree.text(u.m(rel)), text, rel)


def _moved(t, *opts):
    """e/f has its data in the lower's d/s/f, which nobody looks at."""
    u = t.union(lowers=2, text='f d/s/f old-text; d e; f e/g other')
    _mount(u, 'index=off', *opts)
    os.chmod(u.m('d/s/f'), 0o600)
    os.rename(u.m('d/s/f'), u.m('e/f'))
    t.ok(u.is_metacopy('e/f'))
    return u.remount()


def _data_only(t, where='/x/y/f', *opts):
    """The lower's f has its data in a layer with data only."""
    u = t.union(lowers=1, text='f g other')
    u.data = [t.plain('data1'), t.plain('data2')]
    tree.build(u.data[0], 'd x', t.ns)
    tree.build(u.data[1], 'f %s old-text' % where[1:], t.ns)
    _marks(t, u.low('f'), where, len('old-text'))
    return _mount(u, *opts)


def _changes(u, name, target):
    """Of the file @target, which @name shows: each kind."""
    t = u.t
    fd = os.open(u.m(name), os.O_RDONLY)
    mapped = Mapped(u.m(name), 8)

    def shows(text):
        chars = ''.join(sorted(set(text)))
        see(u, lambda: (tree.text(u.m(name)), os.pread(fd, 100, 0).decode(), mapped.read()), (text, text, chars), name)
    shows('old-text')
    st = os.stat(target)
    with open(target, 'r+b', buffering=0) as f:
        for text in ('new-text', 'NEW-TEXT'):
            f.write(text.encode())
            f.seek(0)
            os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))
            shows(text)
    os.rename(_aside(t, 'replaced'), target)
    shows('replaced')
    os.truncate(target, 0)
    see(u, lambda: tree.text(u.m(name)).strip('\0'), '', name)
    tree.write(target, '12345678')
    shows('12345678')
    mapped.close()
    os.close(fd)
    os.unlink(target)
    see(u, lambda: tree.text(u.m(name)), NO_DATA, name)
    os.rename(_aside(t, 'is-again'), target)
    _file(u, name, 'is-again')


def _aside(t, text):
    p = os.path.join(t.plain('aside'), 'f')
    tree.write(p, text)
    return p


@test()
def data_of_a_moved_file(t):
    """In place, also of the same time, under a descriptor and a mapping; replaced, truncated, removed, put back."""
    u = _moved(t)
    _changes(u, 'e/f', u.low('d/s/f'))
    _end(u)


@test()
def data_of_a_file_that_is_being_moved(t):
    """The same without another mount between: its directory has been looked into, and was removed since."""
    u = t.union(lowers=2, text='f d/f old-text; f b/f old-text; d e')
    _mount(u, 'index=off')
    for n in 'db':
        os.chmod(u.m(n + '/f'), 0o600)
        os.rename(u.m(n + '/f'), u.m('e/' + n))
        os.rmdir(u.m(n))
        _changes(u, 'e/' + n, u.low(n + '/f'))
    _end(u)


@test()
def data_of_a_file_with_another_name(t):
    """Renamed in its directory."""
    u = t.union(lowers=2, text='f d/f old-text')
    _mount(u, 'index=off')
    os.chmod(u.m('d/f'), 0o600)
    os.rename(u.m('d/f'), u.m('d/new'))
    u.remount()
    _changes(u, 'd/new', u.low('d/f'))
    _end(u)


@test()
def data_in_a_layer_with_data_only(t):
    u = _data_only(t)
    _changes(u, 'f', u.data[1] + '/x/y/f')
    _end(u)


@test()
def data_that_comes_above(t):
    """In a layer between: what is found first counts, also if its directories are made only then."""
    u = _data_only(t)
    _file(u, 'f', 'old-text')
    tree.build(u.data[0], 'f x/y/f ABOVE-IT', t.ns)
    _file(u, 'f', 'ABOVE-IT')
    os.rename(u.data[0] + '/x', t.plain('aside') + '/x')
    _file(u, 'f', 'old-text')
    _end(u)
    u = _moved(t)
    _file(u, 'e/f', 'old-text')
    os.rename(u.low('d'), u.low('d', 1))
    _file(u, 'e/f', 'old-text')
    u.put('f d/s/f ABOVE-IT')
    _file(u, 'e/f', 'ABOVE-IT')
    u.put('f d/s/f OVER-IT!')
    _file(u, 'e/f', 'OVER-IT!')
    os.rename(u.low('d'), u.low('elsewhere'))
    _file(u, 'e/f', 'old-text')
    _end(u)


@test()
def written_to_after_its_data_was_replaced(t):
    """The copy is made of what is there now, also through a descriptor from before."""
    u = _moved(t)
    fd = os.open(u.m('e/f'), os.O_RDWR)
    t.eq(os.pread(fd, 100, 0), b'old-text')
    os.rename(_aside(t, 'replaced'), u.low('d/s/f'))
    os.pwrite(fd, b'R', 0)
    os.close(fd)
    _file(u, 'e/f', 'Replaced')
    t.eq(tree.text(u.low('d/s/f')), 'replaced')
    _end(u)


@test()
def directory_elsewhere(t):
    """A moved directory shows what the lower has at its old path, when a part of this path is moved or replaced."""
    u = t.union(lowers=2, text='f a/b/c/f 1; f other x')
    _mount(u)
    os.rename(u.m('a/b/c'), u.m('new'))
    u.remount()
    t.eq(tree.names(u.m('new')), ['f'])
    fd = os.open(u.m('new'), os.O_RDONLY)
    os.rename(u.low('a'), u.low('z'))
    see(u, lambda: tree.names(u.m('new')), [])
    u.put('f a/b/c/g 2')
    see(u, lambda: tree.names(u.m('new')), ['g'])
    tree.build(u.lowers[1], 'f a/b/c/below 3', t.ns)
    see(u, lambda: tree.names(u.m('new')), ['below', 'g'])
    t.sh('rm -r a', cwd=u.low())
    see(u, lambda: tree.names(u.m('new')), ['below'])
    u.put('f a file')
    see(u, lambda: tree.names(u.m('new')), [])
    os.unlink(u.low('a'))
    see(u, lambda: tree.text(u.m('new/below')), '3')
    os.close(fd)
    _end(u)


@test()
def marks_made_by_others(t):
    """A file becomes a metacopy file under who has read it, its mark leads elsewhere, and is taken off."""
    u = t.union(lowers=1, text='f x/one 11111111; f x/two 22222222; f g other')
    tree.write(u.up('f'), 'itself..')
    _mount(u)
    _file(u, 'f', 'itself..')
    _marks(t, u.up('f'), '/x/one', 8)
    _file(u, 'f', '11111111')
    os.setxattr(u.up('f'), t.ns + '.overlay.redirect', b'/x/two')
    _file(u, 'f', '22222222')
    os.removexattr(u.up('f'), t.ns + '.overlay.metacopy')
    _file(u, 'f', '\0' * 8)
    tree.write(u.up('f'), 'again...')
    _file(u, 'f', 'again...')
    _end(u)


# ---- what goes away

@test()
def target_goes_away(t):
    """An error for the one name, said once; everything else goes on."""
    for make, name, rest in ((_moved, 'e/f', 'e/g'), (_data_only, 'f', 'g')):
        u = make(t)
        target = u.data[1] + '/x/y/f' if u.data else u.low('d/s/f')
        t.eq(tree.text(u.m(name)), 'old-text')
        said = len(u.log_text().splitlines())
        os.unlink(target)
        for _ in range(5):
            see(u, lambda: tree.text(u.m(name)), NO_DATA)
            see(u, lambda: tree.text(u.m(rest)), 'other')
        result(os.truncate, u.m(name), 3)
        tree.write(u.m(rest + '-new'), 'x')
        t.eq(len(u.log_text().splitlines()), said + 1, u.log_text())
        os.unlink(u.m(rest + '-new'))
        os.rename(u.m(rest), u.m('elsewhere'))
        t.eq(tree.text(u.m('elsewhere')), 'other')
        u.umount()


@test()
def index_entry_goes_away(t):
    """The names that are in the upper go on. One that is not there shows it or the old file; said once."""
    u = t.union(lowers=1, text='f g other')
    u.put('f d/a 1; d e')
    for n in ('d/b', 'e/later'):
        os.link(u.low('d/a'), u.low(n))
    _mount(u)
    t.eq([tree.text(u.m('d/' + n)) for n in 'ab'], ['1', '1'])
    tree.append(u.m('d/a'), '+')
    if not os.path.isdir(u.work + '/index') or not os.listdir(u.work + '/index'):
        t.skip('no index here')
    t.eq([tree.text(u.m('d/' + n)) for n in 'ab'], ['1+', '1+'])
    for n in os.listdir(u.work + '/index'):
        os.unlink(u.work + '/index/' + n)
    _file(u, 'd/a', '1+')
    t.eq(tree.text(u.m('g')), 'other')
    tree.append(u.m('d/a'), '+')
    _file(u, 'd/a', '1++')
    tree.append(u.m('g'), '+')
    _file(u, 'g', 'other+')
    t.run(t.binary, 'ctl', u.mnt, 'drop')
    _file(u, 'd/a', '1++')
    _file(u, 'd/b', '1++')
    t.ok(tree.text(u.m('e/later')) in ('1', '1++'))
    os.rename(u.m('d/a'), u.m('d/c'))
    tree.append(u.m('d/c'), '+')
    _file(u, 'd/c', '1+++')
    u.remount()
    t.eq([tree.text(u.m('d/' + n)) for n in 'bc'], ['1+++', '1+++'])
    t.eq(tree.text(u.m('e/later')), '1')
    u.umount()
    t.ok(len(u.log_text().splitlines()) <= 1, u.log_text())


# ---- at once

def _until(end, fn):
    """In another process, again and again."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            while time.monotonic() < end:
                result(fn)
        finally:
            os._exit(0)
    return pid


@test(timeout=90, alone=True)
def readers_and_writers(t):
    """Two look at everything and one changes attributes and names in the mount while the layers are edited."""
    u = t.union(lowers=2)
    u.data = [t.plain('data')]
    layers = [u.upper] + u.lowers + u.data
    seed = random.SystemRandom().randrange(10**6)
    print('seed %d' % seed)
    r, mine = random.Random(seed), random.Random(seed + 1)
    for _ in range(100):
        edit(r, layers, t.ns, True)
    _mount(u, 'index=off')

    def change():
        a, b = [os.path.join(u.mnt, mine.choice(('', 'd0', 'd1')), mine.choice(('f0', 'f1', 'd0', 'd1'))) for _ in 'ab']
        result(os.chmod, a, 0o700 | mine.randrange(8))
        result(os.rename, a, b)
        if mine.random() < 0.2:
            result(tree.append, b, 'm')
    end = time.monotonic() + 5
    pids = [_until(end, lambda: view(u.mnt)), _until(end, lambda: view(u.mnt)), _until(end, change)]
    while time.monotonic() < end:
        result(edit, r, layers, t.ns, True)
    for pid in pids:
        os.waitpid(pid, 0)
    _end(u)


# ---- where nothing can be watched

def _in_time(u, rel, text):
    end = time.monotonic() + 3 * u.t.slow
    while tree.text(u.m(rel)) != text:
        u.t.ok(time.monotonic() < end, rel)
        time.sleep(0.05)


@test()
def a_second_later(t):
    """The budget is used up by the root: what others change shows a second later."""
    u = _data_only(t, '/x/y/f', 'watches=1')
    t.eq(tree.text(u.m('f')), 'old-text')
    os.rename(_aside(t, 'replaced'), u.data[1] + '/x/y/f')
    _in_time(u, 'f', 'replaced')
    u.umount()
    u = _moved(t, 'watches=1')
    t.eq(tree.text(u.m('e/f')), 'old-text')
    os.rename(_aside(t, 'replaced'), u.low('d/s/f'))
    _in_time(u, 'e/f', 'replaced')
    u.umount()
