# SPDX-License-Identifier: GPL-2.0-or-later
"""Metadata-only copy-up: what copies no data, what does, and that nobody ever reads the hole."""
import ctypes
import errno
import mmap
import os
import signal

from lib import k, test, tree
from lib.overlay import FULL, blocks, by_kernel, copied, mark, said

SIZE = 1 << 20
DATA = bytes(range(1, 252)) * (SIZE // 251 + 1)
DATA = DATA[:SIZE]


def big(u, *names, i=0):
    for n in names:
        os.makedirs(os.path.dirname(u.low(n, i)), exist_ok=True)
        tree.write(u.low(n, i), DATA)
    return u


def sparse(path):
    """Data, a hole, data."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    tree.write(path, DATA[:65536])
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, DATA[:65536], 8 << 20)
    os.close(fd)


# ---- changes of attributes and names

def _chown(p):
    os.chown(p, *((1, 2) if os.getuid() == 0 and _can_chown(p) else (-1, os.getgid())))


def _can_chown(p):
    try:
        os.chown(p, 1, 2)
        return True
    except OSError:
        return False


CHANGES = {
    'chmod': lambda p: os.chmod(p, 0o4711),
    'chown': _chown,
    'utime': lambda p: os.utime(p, ns=(5, 1234567890123456789)),
    'setxattr': lambda p: os.setxattr(p, 'user.k', b'v'),
    'rename': lambda p: os.rename(p, p + '-moved'),
    'away': lambda p: os.rename(p, os.path.dirname(p) + '/../d/' + os.path.basename(p)),
    'link': lambda p: os.link(p, p + '-link'),
    'open': lambda p: os.close(os.open(p, os.O_RDWR)),
}


@test(everywhere=True)
def attributes_and_names_copy_no_data(t):
    """Not a byte is read for it; the upper holds no data; all is as on a plain file system."""
    u, plain = t.union(text='d s; d d'), t.plain()
    for d in (u.lowers[0], plain):
        tree.build(d, 'd s; d d')
        for n in CHANGES:
            tree.write('%s/s/%s' % (d, n), DATA)
            os.utime('%s/s/%s' % (d, n), ns=(10**18, 10**18 + 123456789))
    u.mount()
    for d in (u.mnt, plain):
        for n, change in CHANGES.items():
            change('%s/s/%s' % (d, n))
    for _ in range(2):
        want, got = tree.snapshot(plain), tree.snapshot(u.mnt)
        for rel in ('.', 's', 'd'):
            want.pop(rel), got.pop(rel)
        t.same_tree(want, got)
        t.eq(copied(u), 0, 'bytes copied')
        t.ok(blocks(u.upper) * 512 < SIZE // 4, 'the upper has data: %d' % blocks(u.upper))
        for rel in want:
            t.ok(os.stat(u.m(rel)).st_blocks * 512 >= SIZE, 'st_blocks of ' + rel)
        u.remount()


@test(everywhere=True)
def a_tree(t):
    """chmod -R, chown -R, touch and mv of a lower tree: no data."""
    u = t.union()
    big(u, *['d/s%d/f%d' % (i % 5, i) for i in range(20)])
    u.mount()
    t.sh('chmod -R go-rwx d; chgrp -R %d d; find d -type f -exec touch {} +; mv d/s1 d/s2/; mv d e'
         % os.getgid(), cwd=u.mnt)
    for _ in range(2):
        files = [r for r in tree.walk(u.mnt) if os.path.isfile(u.m(r))]
        t.eq(len(files), 20)
        for r in files:
            t.ok(tree.read(u.m(r)) == DATA, r)
            t.eq(os.stat(u.m(r)).st_mode & 0o777, 0o600)
        t.eq(copied(u), 0)
        t.ok(blocks(u.upper) < 512, 'blocks in the upper: %d' % blocks(u.upper))
        u.remount()


# ---- the first change of data

def _pwrite(p):
    tree.write(p, b'W', os.O_RDWR)


def _append(p):
    tree.append(p, b'A')


def _mmap(p):
    fd = os.open(p, os.O_RDWR)
    m = mmap.mmap(fd, 0)
    m[5000:5003] = b'MAP'
    m.flush()
    m.close()
    os.close(fd)


def _fallocate(mode, off, length):
    def do(p):
        fd = os.open(p, os.O_RDWR)
        try:
            k.fallocate(fd, mode, off, length)
        finally:
            os.close(fd)
    return do


def _copy_range(p):
    a, b = os.open(p, os.O_RDONLY), os.open(p, os.O_RDWR)
    k.check(k.libc.copy_file_range(a, ctypes.byref(ctypes.c_int64(10)), b, ctypes.byref(ctypes.c_int64(70000)),
                                   ctypes.c_size_t(5000), 0))
    os.close(a)
    os.close(b)


FIRST = {      # name: (what, bytes to be copied or None: it depends)
    'pwrite': (_pwrite, SIZE),
    'append': (_append, SIZE),
    'mmap': (_mmap, SIZE),
    'copy_range': (_copy_range, SIZE),
    'empty': (lambda p: os.truncate(p, 0), 0),
    'o_trunc': (lambda p: tree.write(p, 'new'), 0),
    'shorter': (lambda p: os.truncate(p, 4096), 4096),
    'longer': (lambda p: os.truncate(p, SIZE + 5000), None),
    'same': (lambda p: os.truncate(p, SIZE), None),
    'falloc': (_fallocate(0, SIZE, 4096), None),
    'punch': (_fallocate(k.FALLOC_PUNCH_HOLE | k.FALLOC_KEEP_SIZE, 4096, 8192), None),
}


@test(everywhere=True)
def first_change_of_data(t):
    """Each kind as the first one, after a chmod and without: content, size, mode as on a plain
    file system; only what remains is copied, once; the mark has gone."""
    plain = t.plain()
    for before in ('chmod', 'moved', 'none'):
        u = t.union(name=before, text='d d')
        big(u, *FIRST)
        u.mount()
        for n, (change, want) in FIRST.items():
            p, q = u.m(n), plain + '/' + n
            tree.write(q, DATA)
            os.chmod(q, 0o644)
            if before == 'moved':
                p = u.m('d/' + n)
                os.rename(u.m(n), p)
            if before != 'none':
                os.chmod(p, 0o600)
                os.chmod(q, 0o600)
            had = copied(u)
            try:
                change(q)
            except OSError as e:
                t.eq((t.fs, e.errno), (t.fs, errno.EOPNOTSUPP), n)
                continue
            change(p)
            if want is not None:
                t.eq(copied(u) - had, want, '%s: bytes copied' % n)
            t.ok(tree.read(p) == tree.read(q), n)
            t.eq((oct(os.stat(p).st_mode), os.stat(p).st_size), (oct(os.stat(q).st_mode), os.stat(q).st_size), n)
            t.eq(mark(u, p.replace(u.mnt, u.upper), 'metacopy'), None, n)
            had = copied(u)
            change(p)
            change(q)
            t.eq(copied(u), had, n)
        u.remount()
        for n in FIRST:
            t.ok(tree.read(u.m('d/' + n if before == 'moved' else n)) == tree.read(plain + '/' + n), n)
        u.umount()


@test()
def descriptors_over_it(t):
    """Descriptors and mappings opened before the chmod, before the first write, and after."""
    u = big(t.union(), 'f').mount()
    fds = [os.open(u.m('f'), os.O_RDONLY)]
    mem = mmap.mmap(fds[0], 0, prot=mmap.PROT_READ)
    os.chmod(u.m('f'), 0o600)
    fds.append(os.open(u.m('f'), os.O_RDWR))
    t.eq(copied(u), 0)
    t.ok(os.pread(fds[1], SIZE, 0) == DATA and mem[:] == DATA)
    os.pwrite(fds[1], b'new', 100)
    want = DATA[:100] + b'new' + DATA[103:]
    for f in fds:
        t.ok(os.pread(f, SIZE, 0) == want)
    t.ok(mem[:] == want, 'the mapping')
    os.unlink(u.m('f'))
    t.ok(os.pread(fds[0], SIZE, 0) == want)
    mem.close()
    for f in fds:
        os.close(f)


@test()
def unlinked_before_its_first_write(t):
    """A moved and removed metacopy file lives in its descriptor, and takes a first write there."""
    u = big(t.union(text='d d'), 'f', 'g').mount()
    for n in 'fg':
        fd = os.open(u.m(n), os.O_RDWR)
        os.fchmod(fd, 0o600)
        os.rename(u.m(n), u.m('d/x'))
        if n == 'f':
            os.unlink(u.m('d/x'))
        else:
            tree.write(u.m('other'), 'o')
            os.rename(u.m('other'), u.m('d/x'))
        t.ok(os.pread(fd, SIZE, 0) == DATA, n)
        os.pwrite(fd, b'W', 0)
        t.ok(os.pread(fd, SIZE, 0) == b'W' + DATA[1:], n)
        t.eq((os.fstat(fd).st_nlink, os.fstat(fd).st_size), (0, SIZE))
        os.close(fd)
    t.eq(tree.text(u.m('d/x')), 'o')


@test()
def readers_and_writers_at_once(t):
    """While the data is being copied nobody sees a hole, and no write is lost."""
    u = t.union()
    names = ['f%d' % i for i in range(8)]
    big(u, *names)
    u.mount()
    for n in names:
        os.chmod(u.m(n), 0o600)

    def write(at):
        for n in names:
            fd = os.open(u.m(n), os.O_WRONLY)
            os.pwrite(fd, b'\xff' * 10, at)
            os.close(fd)

    def read():
        for _ in range(3):
            for n in names:
                b = tree.read(u.m(n))
                t.ok(len(b) == SIZE and b'\0' not in b, 'a hole is seen in ' + n)
    pids = [_fork(lambda: write(5000)), _fork(lambda: write(SIZE - 10)), _fork(read), _fork(read)]
    t.eq([os.waitpid(p, 0)[1] for p in pids], [0] * 4)
    want = DATA[:5000] + b'\xff' * 10 + DATA[5010:-10] + b'\xff' * 10
    for _ in range(2):
        for n in names:
            t.ok(tree.read(u.m(n)) == want, n)
        u.remount()


def _fork(fn):
    pid = os.fork()
    if pid == 0:
        try:
            fn()
            os._exit(0)
        except BaseException as e:
            print(repr(e)[:300], flush=True)
        os._exit(1)
    return pid


@test()
def killed_while_copying(t):
    """SIGKILL around the first writes: each file has all its data afterwards, old or new."""
    u = t.union()
    names = ['f%d' % i for i in range(20)]
    big(u, *names)
    u.check_layers = False
    u.mount()
    for n in names:
        os.chmod(u.m(n), 0o640)
        os.rename(u.m(n), u.m(n + 'm'))

    def change():
        for n in names:
            _pwrite(u.m(n + 'm'))
    pid = os.fork()
    if pid == 0:
        try:
            change()
        except OSError:
            pass
        os._exit(0)
    for _ in range(100000):
        if blocks(u.upper) * 512 > 5 * SIZE:
            break
    u.proc.send_signal(signal.SIGKILL)
    os.waitpid(pid, 0)
    u.kill()
    u.mount()
    for n in names:
        b = tree.read(u.m(n + 'm'))
        t.ok(b in (DATA, b'W' + DATA[1:]), '%s: %d bytes, %d NULs' % (n, len(b), b.count(b'\0')))
        t.eq(os.stat(u.m(n + 'm')).st_mode & 0o777, 0o640)
    change()
    u.remount()
    for n in names:
        t.ok(tree.read(u.m(n + 'm')) == b'W' + DATA[1:], n)


# ---- attributes that the copying of data would change

@test(everywhere=True)
def what_a_data_copy_keeps(t):
    """A link at a path too long for a redirect needs the data at once: times, set-id bits, xattrs
    and capabilities come through."""
    u = big(t.union(), 'f')
    deep = '/'.join(['n' * 100] * 3)
    os.chmod(u.low('f'), 0o6755)
    os.setxattr(u.low('f'), 'user.k', b'v')
    if t.root:
        os.setxattr(u.low('f'), 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
    os.utime(u.low('f'), ns=(10**18 + 1, 10**18 + 123456789))
    os.makedirs(u.low(deep))
    big(u, deep + '/f')
    st = os.stat(u.low('f'))
    os.chmod(u.low(deep + '/f'), 0o6755)
    os.utime(u.low(deep + '/f'), ns=(st.st_atime_ns, st.st_mtime_ns))
    for n, v in tree.xattrs(u.low('f')).items():
        os.setxattr(u.low(deep + '/f'), n, v)
    want = tree.describe(u.low('f'))
    u.mount()
    os.link(u.m('f'), u.m('f2'))                    # data stays below
    t.eq(copied(u), 0)
    os.link(u.m(deep + '/f'), u.m('g'))             # from too deep
    os.link(u.m('f2'), u.m(deep + '/h'))
    for _ in range(2):
        for n in ('f', 'f2', 'g', deep + '/f', deep + '/h'):
            t.eq(tree.describe(u.m(n)), want, n)
        u.remount()


@test()
def writes_drop_what_writes_drop(t):
    """Set-id bits and capabilities after the first write: as on the plain file system."""
    def action(d):
        p = d + '/f'
        os.chmod(p, 0o6755)
        tree.write(p, 'W', os.O_RDWR)
        return oct(os.stat(p).st_mode), sorted(os.listxattr(p)), tree.text(p)
    t.as_plain(action, 'f f hello 755; x f user.k v')
    t.as_plain(action, 'f f hello 755; x f user.k v', opts=('metacopy=off',))


@test(needs=('tar', 'cp', 'du'))
def blocks_are_those_of_the_data(t):
    """st_blocks tells programs where data is: du, cp --sparse, tar -S and SEEK_DATA agree."""
    u = t.union()
    sparse(u.low('s'))
    big(u, 'f')
    want = {n: os.stat(u.low(n)).st_blocks for n in 'sf'}
    u.mount()
    for n in 'sf':
        os.chmod(u.m(n), 0o600)
    for _ in range(2):
        for n in 'sf':
            t.eq(os.stat(u.m(n)).st_blocks, want[n], n)
            t.eq({os.lstat(os.path.join(u.mnt, e.name)).st_blocks for e in os.scandir(u.mnt)
                  if e.name == n}, {want[n]})
        fd = os.open(u.m('s'), os.O_RDONLY)
        t.ok(os.lseek(fd, 70000, os.SEEK_DATA) > 70000, 'the hole')
        t.eq(os.lseek(fd, 0, os.SEEK_DATA), 0)
        os.close(fd)
        t.sh('rm -rf out; mkdir out; tar -S -cf out/t.tar -C mnt . ; tar -xf out/t.tar -C out; '
             'cp --sparse=auto mnt/s out/s2; cp --sparse=auto mnt/f out/f2', cwd=u.root)
        for a, b in (('s', 's'), ('s', 's2'), ('f', 'f'), ('f', 'f2')):
            t.ok(tree.read(u.root + '/out/' + b) == tree.read(u.low(a)), b)
        u.remount()


# ---- names: the data is found wherever the file goes

@test()
def moved_and_replaced(t):
    """The old name is taken by something else, files trade places, their directory is moved."""
    u = t.union(text='d d; d e')
    for n in ('a', 'b', 'd/f', 'e/g'):
        tree.write(u.low(n), n * 1000)
    u.mount()
    os.rename(u.m('a'), u.m('d/a2'))
    tree.write(u.m('a'), 'new a')
    k.rename2(u.m('b'), u.m('d/f'), k.RENAME_EXCHANGE)
    os.rename(u.m('e'), u.m('d/e2'))
    os.mkdir(u.m('e'))
    tree.write(u.m('e/g'), 'new g')
    os.chmod(u.m('d/e2/g'), 0o600)
    os.rename(u.m('d/e2/g'), u.m('top'))
    os.rename(u.m('d'), u.m('dd'))
    os.link(u.m('dd/a2'), u.m('a3'))
    want = {'a': 'new a', 'dd/a2': 'a' * 1000, 'a3': 'a' * 1000, 'b': 'd/f' * 1000, 'dd/f': 'b' * 1000,
            'top': 'e/g' * 1000, 'e/g': 'new g'}
    t.eq(copied(u), 0)
    for step in range(3):
        for n, v in want.items():
            t.eq(tree.text(u.m(n)), v, n)
        if step == 1:
            for n in want:
                tree.append(u.m(n), '!')
            want = {n: v + ('!!' if n in ('dd/a2', 'a3') else '!') for n, v in want.items()}
        u.remount()


@test()
def over_layers_of_our_own(t):
    """Each upper becomes a lower of the next mount: chmod, move, chmod again, then write."""
    u = big(t.union(text='d d; d e'), 'f', 'd/g')
    for i in range(4):
        u.mount()
        os.chmod(u.m('f' if i == 0 else 'f%d' % (i - 1)), 0o600 + i)
        os.rename(u.m('f' if i == 0 else 'f%d' % (i - 1)), u.m('f%d' % i))
        d = ('d', 'e/d0', 'd1', 'e/d2', 'd3')
        os.rename(u.m(d[i]), u.m(d[i + 1]))
        os.utime(u.m(d[i + 1] + '/g'), ns=(i, i))
        t.ok(tree.read(u.m('f%d' % i)) == DATA and tree.read(u.m(d[i + 1] + '/g')) == DATA, str(i))
        t.eq(copied(u), 0)
        u.umount()
        lowers = [u.upper] + u.lowers
        u = t.union(lowers=lowers, name='next%d' % i)
    u.mount()
    t.eq(os.stat(u.m('f3')).st_mode & 0o777, 0o603)
    for n in ('f3', 'd3/g'):
        t.ok(tree.read(u.m(n)) == DATA, n)
        tree.append(u.m(n), '!')
    u.remount()
    for n in ('f3', 'd3/g'):
        t.ok(tree.read(u.m(n)) == DATA + b'!', n)
    t.eq(tree.names(u.mnt), ['d3', 'e', 'f3'])


# ---- data that is not there, and marks

@test()
def missing_data(t):
    """EIO and a line in the log, never NULs; the rest of the directory works."""
    u = big(t.union(text='f ok fine'), 'f', 'g').mount()
    os.chmod(u.m('f'), 0o600)
    os.chmod(u.m('g'), 0o600)
    os.rename(u.m('g'), u.m('g2'))
    u.umount()
    u.check_lowers = False
    os.unlink(u.low('f'))
    os.unlink(u.low('g'))
    tree.build(u.low(), 'd g')
    u.mount()
    for n in ('f', 'g2'):
        had = len(said(u, 'data'))
        t.fails(errno.EIO, tree.read, u.m(n))
        t.eq(len(said(u, 'data')) - had, 1, 'lines in the log')
        t.fails(errno.EIO, tree.append, u.m(n), 'x')
    t.ok('f' in os.listdir(u.mnt))
    t.eq(tree.text(u.m('ok')), 'fine')


@test(identities=('root', 'user'))
def blocks_tell_nothing(t):
    """A marked lower file that takes up blocks (squashfs says so of any, bigalloc of one with xattrs):
    its data is below all the same."""
    u = t.union(lowers=2)
    for n, size in (('small', 100), ('large', 300000)):
        with open(u.low(n, 1), 'wb') as f:
            f.write(b'data' * (size // 4))
        with open(u.low(n), 'wb') as f:
            f.truncate(size)
            k.fallocate(f.fileno(), 0, 0, size)
        os.setxattr(u.low(n), t.ns + '.overlay.metacopy', b'')
    u.mount()
    for n, size in (('small', 100), ('large', 300000)):
        t.eq(tree.read(u.m(n)), b'data' * (size // 4), n)


@test()
def bad_marks(t):
    """A metacopy mark that is not one: EIO, as in the kernel; no data is guessed."""
    u = t.union(lowers=2)
    for i, value in enumerate((b'\0', b'\0\5\0\0', b'\1\4\0\0', b'\0\4\0\0')):
        u.put('f f%d hello' % i, 1)
        tree.write(u.low('f%d' % i), '')
        os.truncate(u.low('f%d' % i), 5)
        os.setxattr(u.low('f%d' % i), t.ns + '.overlay.metacopy', value)
    u.mount()
    for i in range(3):
        t.fails(errno.EIO, tree.read, u.m('f%d' % i))
    t.eq(tree.text(u.m('f3')), 'hello')


@test()
def switched_off(t):
    """metacopy=off: data is copied at the first change, and a metacopy file of before is refused."""
    u = big(t.union(), 'f', 'g').mount('metacopy=off')
    os.chmod(u.m('f'), 0o600)
    t.eq(mark(u, u.up('f'), 'metacopy'), None)
    t.eq(copied(u), SIZE)
    u.remount('metacopy=on')
    os.chmod(u.m('g'), 0o600)
    t.ok(mark(u, u.up('g'), 'metacopy') is not None)
    u.remount('metacopy=off')
    t.fails(errno.EPERM, tree.read, u.m('g'))
    t.ok(tree.read(u.m('f')) == DATA)
    u.remount('metacopy=on')
    t.ok(tree.read(u.m('g')) == DATA)


# ---- the kernel

@test(identities=('root',), everywhere=True)
def with_the_kernel_in_turns(t):
    """Either's metacopy files are read, moved, linked and written by the other."""
    u = t.union(text='d d; d e')
    big(u, *['f%d' % i for i in range(8)])
    os.link(u.low('f7'), u.low('hard'))
    u.check_layers = False
    u.mount('index=off')
    t.sh('chmod 600 f0 f1; mv f1 d/m1; ln f2 d/l2; touch f3; mv f3 m3; mv d dd; chmod 600 f7', cwd=u.mnt)
    seen = tree.snapshot(u.mnt)
    u.umount()
    opts = [o for o in FULL if not o.startswith('index')] + ['index=off']
    with by_kernel(u, *opts):
        t.same_tree(seen, tree.snapshot(u.mnt), 'the kernel on our upper')
        t.sh('mv m3 dd/m33; ln dd/m1 e/l1; chmod 640 f4; mv f4 e; mv dd e/; printf X >> f0; mv f5 m5', cwd=u.mnt)
        seen = tree.snapshot(u.mnt)
    t.ok(blocks(u.upper) * 512 < 2 * SIZE)
    u.mount(*u.opts)
    t.same_tree(seen, tree.snapshot(u.mnt), 'ours on the kernel\'s upper')
    t.sh('find . -type f -exec sh -c "printf Y >> {}" \\;', cwd=u.mnt)
    seen = tree.snapshot(u.mnt)
    u.umount()
    with by_kernel(u, *opts):
        t.same_tree(seen, tree.snapshot(u.mnt), 'the kernel after our writes')
