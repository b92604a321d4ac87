# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layers whose objects get other inode numbers when the kernel has forgotten them: FUSE file systems that number by
the node, FAT, directories of an overlay on two file systems.
"""
import os
import resource
import subprocess
import time

from lib import k, test, tree
from lib.against import flat
from lib.foreign import Foreign

FILES = 60
TREE = ' '.join('f d%02d/f%02d %d;' % (i, i, i) for i in range(FILES)) + ' f deep/er/est/f deep; l link d00/f00'


def _few():
    resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))


def _numbers(t, d):
    """What a tree shows: each object one number, the same in the listing, nobody else's. What the kernel has forgotten
    it tells the daemon later, which then has it forget listings with numbers that were taken only because of that."""
    for last in (False,) * 30 + (True,):
        seen, wrong = {}, []
        for at, dirs, files in os.walk(d):
            told = {n: i for i, _, n in k.listing(at)}
            for n in dirs + files:
                path = os.path.join(at, n)
                ino = os.lstat(path).st_ino
                if told[n] != ino:
                    wrong.append('%s: %d in the listing, %d by itself' % (path, told[n], ino))
                seen.setdefault(ino, []).append(path)
        double = [v for v in seen.values() if len(v) > 1]
        if last or not wrong + double:
            break
        time.sleep(0.1)
    t.eq(wrong, [])
    t.eq(double, [], 'two files with one number')


def _hold_on(t, u):
    """What is open, or somebody's working directory, stays good when the kernel forgets what is below."""
    fds = {i: os.open(u.m('d%02d/f%02d' % (i, i)), os.O_RDONLY) for i in range(0, FILES, 3)}
    dirs = {i: os.open(u.m('d%02d' % i), os.O_RDONLY) for i in range(FILES)}
    os.chmod(u.m('d01/f01'), 0o600)         # its data stays below
    os.chdir(u.m('deep/er/est'))
    before = {fd: os.fstat(fd).st_ino for fd in (*fds.values(), *dirs.values())}
    for _ in range(3):
        k.drop_caches(2)
        for i, fd in fds.items():
            t.eq((os.fstat(fd).st_size, os.pread(fd, 9, 0)), (len(str(i)), b'%d' % i))
        for i, fd in dirs.items():
            t.eq(os.listdir(fd), ['f%02d' % i])
            t.eq(os.stat('f%02d' % i, dir_fd=fd).st_size, len(str(i)))
        t.eq((os.getcwd(), tree.text('f')), (u.m('deep/er/est'), 'deep'))
        t.eq(tree.text(u.m('d01/f01')), '1')
        t.eq({fd: os.fstat(fd).st_ino for fd in before}, before, 'numbers of what is open')
    os.chdir(t.dir)
    for fd in before:
        os.close(fd)


def _lower(t, kind, at):
    for opts in ((), ('timeout=0',), ('threads=1',)):
        u = t.union(name='%s%s' % (kind, ''.join(opts)))
        u.lowers, u.check_lowers = [at], False
        u.mount(*opts, preexec_fn=_few)
        _numbers(t, u.mnt)
        _hold_on(t, u)
        _numbers(t, u.mnt)
        p = flat(t, u, 'plain-' + u.name)
        for d in (u.mnt, p):
            for i in range(0, FILES, 7):
                tree.append(d + '/d%02d/f%02d' % (i, i), 'more')
                os.rename(d + '/d%02d/f%02d' % (i + 1, i + 1), d + '/d%02d/moved' % i)
                tree.write(d + '/d%02d/f%02d' % (i + 1, i + 1), 'new')
            k.drop_caches(2)
        _numbers(t, u.mnt)
        for _ in range(2):
            t.same_tree(tree.snapshot(p, times=False), tree.snapshot(u.mnt, times=False), kind)
            u.remount()
        u.umount()


def _as_lower(kind):
    def case(t):
        src = t.plain('src')
        tree.build(src, TREE)
        f = Foreign(t, kind, src)
        _lower(t, kind, f.at)
        f.umount()
    case.__name__ = 'lower_on_' + kind.replace('-', '_')
    case.__doc__ = 'A lower on %s: open files, directories and data below outlive what the kernel forgets.' % kind
    return test(identities=('root',), timeout=120)(case)


for _kind in ('squashfuse', 'squashfuse_ll', 'fuseiso', 'mergerfs', 'unionfs', 'sshfs', 'bindfs', 'fuse2fs', 'rclone'):
    globals()['_lower_on_' + _kind] = _as_lower(_kind)


@test(identities=('root',))
def found_out_late(t):
    """A file system of which it is believed that its numbers last (it has another's name): the first object that comes
    back with another number tells."""
    src = t.plain('src')
    os.mkdir(src + '/sub')
    tree.build(src + '/sub', TREE)
    f = Foreign(t, 'sshfs', src, '-o', 'subtype=squashfuse_ll')
    u = t.union()
    u.lowers, u.check_lowers = [f.at + '/sub'], False
    u.mount(preexec_fn=_few)
    _hold_on(t, u)
    t.eq(u.log_text().count('inode numbers of files change'), 1, u.log_text())
    u.umount()
    f.umount()


@test(identities=('root',), timeout=120)
def lower_is_an_overlay(t):
    """The kernel's overlay on two file systems, as the root of a live medium: its directories change numbers."""
    src, two = t.plain('src'), t.plain('two')
    k.mount('tmpfs', two, 'tmpfs')
    tree.build(src, TREE)
    for d in ('up', 'work'):
        os.mkdir('%s/%s' % (two, d))
    at = t.plain('at')
    try:
        k.mount('overlay', at, 'overlay', 0, 'xino=off,lowerdir=%s,upperdir=%s/up,workdir=%s/work' % (src, two, two))
    except OSError as e:
        t.skip('no kernel overlayfs here: %s' % e)
    tree.build(at, 'f d00/more 1; f new/f 1')
    os.unlink(at + '/d00/more')
    _lower(t, 'overlay', at)
    k.umount(at)
    k.umount(two)


def _image(t, name, *mkfs):
    t.need(mkfs[0])
    img, at = '%s/%s.img' % (t.dir, name), t.plain(name)
    with open(img, 'wb') as f:
        f.truncate(64 << 20)
    t.run(*mkfs, img)
    p = subprocess.run(['mount', '-o', 'loop', img, at], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        t.skip('cannot mount: %s' % p.stdout)
    return at


@test(identities=('root',), timeout=120)
def lower_on_fat(t):
    """It has no numbers on disk."""
    at = _image(t, 'fat', 'mkfs.vfat')
    tree.build(at, TREE.replace('; l link d00/f00', ''))
    _lower(t, 'fat', at)
    k.umount(at)


def _upper(t, kind, at):
    for opts in ((), ('timeout=0',)):
        u = t.union(name='%s%s' % (kind, ''.join(opts)), text=TREE.replace('; l link d00/f00', ''))
        u.upper, u.work = '%s/u%d' % (at, len(opts)), '%s/w%d' % (at, len(opts))
        u.check_layers = kind not in ('sshfs', 'fat')      # no xattrs: .wh. names are its marks
        os.mkdir(u.upper)
        os.mkdir(u.work)
        u.mount(*opts, preexec_fn=_few)
        p = flat(t, u, 'plain-' + u.name)
        for d in (u.mnt, p):
            for i in range(FILES):
                tree.append(d + '/d%02d/f%02d' % (i, i), 'more')
                os.mkdir(d + '/n%02d' % i)
                tree.write(d + '/n%02d/f' % i, 'new %d' % i)
        held = {i: os.open(u.m('n%02d/f' % i), os.O_RDWR) for i in range(0, FILES, 3)}
        dirs = {i: os.open(u.m('n%02d' % i), os.O_RDONLY) for i in range(FILES)}
        before = {fd: os.fstat(fd).st_ino for fd in (*held.values(), *dirs.values())}
        os.chdir(u.m('n05'))
        for _ in range(2):
            k.drop_caches(2)
            _numbers(t, u.mnt)
            for i, fd in held.items():
                t.eq(os.pread(fd, 20, 0), b'new %d' % i)
            for i, fd in dirs.items():
                t.eq(os.listdir(fd), ['f'])
            t.eq((os.getcwd(), tree.text('f')), (u.m('n05'), 'new 5'))
            t.eq({fd: os.fstat(fd).st_ino for fd in before}, before, 'numbers of what is open')
        # Away, and others to the place they had: no number leads to the wrong one.
        for d in (u.mnt, p):
            for i in range(0, FILES, 2):
                os.rename(d + '/n%02d/f' % i, d + '/n%02d/g' % i)
                tree.write(d + '/n%02d/f' % i, 'other')
                os.rename(d + '/n%02d' % (i + 1), d + '/m%02d' % (i + 1))
                os.mkdir(d + '/n%02d' % (i + 1))
                tree.write(d + '/n%02d/f' % (i + 1), 'other, too')
        for i in range(2):
            _numbers(t, u.mnt)
            k.drop_caches(2)
        os.chdir(t.dir)
        for i, fd in held.items():
            t.eq(os.pwrite(fd, b'NEW', 0), 3)
            with open(p + ('/n%02d/g' % i if i % 2 == 0 else '/m%02d/f' % i), 'r+b') as f:
                f.write(b'NEW')
        for fd in before:
            os.close(fd)
        for _ in range(2):
            t.same_tree(tree.snapshot(p, times=False), tree.snapshot(u.mnt, times=False), kind)
            u.remount()
        u.umount()


def _as_upper(kind):
    def case(t):
        f = Foreign(t, kind, t.plain('src'))
        _upper(t, kind, f.at)
        f.umount()
    case.__name__ = 'upper_on_' + kind
    case.__doc__ = 'Upper and work on %s: nothing is taken for something else by its number.' % kind
    return test(identities=('root',), timeout=120)(case)


for _kind in ('sshfs', 'mergerfs', 'bindfs', 'fuse2fs'):
    globals()['_upper_on_' + _kind] = _as_upper(_kind)


@test(identities=('root',), timeout=120)
def upper_on_fat(t):
    at = _image(t, 'fat', 'mkfs.vfat')
    _upper(t, 'fat', at)
    k.umount(at)


@test(identities=('root',))
def a_lower_that_fails_to_tell_xattrs(t):
    """rclone: listxattr on a file is EIO where a directory says that there are none. A file is read all the same, and
    the log says it once."""
    src = t.plain('src')
    tree.build(src, 'f a 1; f b 2; f empty')
    f = Foreign(t, 'rclone', src)
    t.fails(5, os.listxattr, f.at + '/a')
    u = t.union()
    u.lowers, u.check_lowers = [f.at], False
    u.mount()
    t.eq([tree.text(u.m(n)) for n in ('a', 'b', 'empty')], ['1', '2', ''])
    t.eq(os.listxattr(u.m('a')), [])
    tree.append(u.m('a'), '+')
    u.remount()
    t.eq(tree.text(u.m('a')), '1+')
    u.umount()
    t.ok(1 <= u.log_text().count('taken for none') <= 2, u.log_text())      # once a mount
    f.umount()
