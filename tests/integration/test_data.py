# SPDX-License-Identifier: GPL-2.0-or-later
"""Data operations: fallocate, holes, copy_file_range, O_DIRECT, AIO, mappings, locks."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import struct
import time

from lib import k, test, tree


def _regions(fd):
    """Data and hole boundaries, as copying programs ask for them."""
    out, pos, end = [], 0, os.fstat(fd).st_size
    while pos < end:
        try:
            data = os.lseek(fd, pos, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            out.append(('end', pos))
            break
        pos = os.lseek(fd, data, os.SEEK_HOLE)
        out.append((data, pos))
    return out


@test(everywhere=True)
def fallocate(t):
    """Every mode the file system has: contents, sizes and errors as on the plain one."""
    modes = (0, k.FALLOC_KEEP_SIZE, k.FALLOC_PUNCH_HOLE | k.FALLOC_KEEP_SIZE, k.FALLOC_ZERO,
             k.FALLOC_ZERO | k.FALLOC_KEEP_SIZE, k.FALLOC_PUNCH_HOLE, 0x400)    # FUSE has no others

    def action(d):
        out = []
        for n in ('a', 'b'):
            for i, mode in enumerate(modes):
                p = '%s/%s%d' % (d, n, i)
                fd = os.open(p, os.O_RDWR)
                for off, length in ((4096, 8192), (0, 100), (60000, 20000), (5, 0)):
                    try:
                        k.fallocate(fd, mode, off, length)
                        out.append('ok')
                    except OSError as e:
                        out.append(errno.errorcode[e.errno])
                    out.append((os.fstat(fd).st_size, hash(os.pread(fd, 200000, 0))))
                os.close(fd)
        fd = os.open(d + '/a0', os.O_RDONLY)
        try:
            k.fallocate(fd, 0, 0, 10)
        except OSError as e:
            out.append(errno.errorcode[e.errno])
        os.close(fd)
        return out
    body = '0123456789abcdef' * 4096
    t.as_plain(action, '; '.join('f %s%d %s' % (n, i, body if n == 'a' else 'x')
                                 for n in 'ab' for i in range(len(modes))))


@test(everywhere=True)
def seek_data_and_hole(t):
    """SEEK_DATA and SEEK_HOLE of lower, copied-up and new files, with data just written, also
    through a mapping, that is not on disk yet (2.3)."""
    def action(d):
        out = []
        for n in ('low', 'new'):
            fd = os.open(d + '/' + n, os.O_RDWR | os.O_CREAT)
            os.ftruncate(fd, 1 << 20)
            out.append(_regions(fd))
            os.pwrite(fd, b'x' * 4096, 512 << 10)
            out.append(_regions(fd))
            with mmap.mmap(fd, 1 << 20) as m:
                m[256 << 10] = 1
                out.append(_regions(fd)[:1])
                m.flush()
            for pos, whence in ((2 << 20, os.SEEK_DATA), (1 << 20, os.SEEK_HOLE), (-1, os.SEEK_SET),
                                (10, os.SEEK_SET), (5, os.SEEK_CUR), (0, os.SEEK_END)):
                try:
                    out.append(os.lseek(fd, pos, whence))
                except OSError as e:
                    out.append(errno.errorcode[e.errno])
            os.close(fd)
        return out
    p = t.plain()
    tree.write(p + '/low', '')
    want = action(p)
    u = t.union(text='f low')
    u.mount()
    t.eq(action(u.mnt), want)
    u.umount()
    u = t.union(text='f low', name='wb')
    try:
        u.mount('writeback=1')
    except AssertionError:
        return
    t.eq(action(u.mnt), want, 'with write-back')


@test(everywhere=True)
def copy_file_range(t):
    """Between files of all layers, ranges, growing, with source data not yet on disk; to and
    from other mounts."""
    u = t.union(text='f low ' + 'abcdefgh' * 4000 + '; f dst 0123456789')
    u.mount()
    src, dst = os.open(u.m('low'), os.O_RDONLY), os.open(u.m('dst'), os.O_RDWR)
    t.eq(os.copy_file_range(src, dst, 4, 2, 3), 4)
    t.eq(os.pread(dst, 20, 0), b'012cdef789')
    new = os.open(u.m('new'), os.O_CREAT | os.O_RDWR)
    os.write(new, b'fresh data')
    t.eq(os.copy_file_range(new, dst, 100, 0, 10), 10)
    t.eq(os.pread(dst, 40, 0), b'012cdef789fresh data')
    done = 0
    while done < 32000:
        n = os.copy_file_range(src, new, 32000 - done, done, done)
        t.ok(n > 0)
        done += n
    t.eq(os.pread(new, 40000, 0), b'abcdefgh' * 4000)
    t.eq(os.copy_file_range(src, new, 10, 1 << 20, 0), 0, 'beyond the end')
    outside = os.open(u.root + '/outside', os.O_CREAT | os.O_RDWR)
    for a, b in ((new, outside), (outside, dst)):
        try:
            t.ok(os.copy_file_range(a, b, 8, 0, 0) == 8)
        except OSError as e:
            t.ok(e.errno in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP), str(e))
    for fd in (src, dst, new, outside):
        os.close(fd)
    t.sh('cp --sparse=always new c1; cp --reflink=auto low c2; cmp new c1; cmp low c2', cwd=u.mnt)


@test(everywhere=True)
def random_io_against_a_model(t):
    """Writes, truncates, punches, reads, mappings and O_DIRECT at random on one file: always what
    a plain buffer says; on lower, upper and with write-back."""
    for opts in ((), ('writeback=1',)):
        rng = random.Random(42)
        u = t.union(name='u%d' % len(t.unions))
        model = bytearray(rng.randbytes(200000))
        tree.write(u.low('f'), bytes(model))
        u.mount(*opts)
        fds = [os.open(u.m('f'), os.O_RDWR) for _ in range(2)]
        try:
            direct = os.open(u.m('f'), os.O_RDWR | os.O_DIRECT)
        except OSError:
            direct = None
        for i in range(400):
            fd = rng.choice(fds)
            off, n = rng.randrange(250000), rng.randrange(1, 20000)
            what = rng.choice(('w', 'w', 'w', 'r', 'r', 't', 'p', 'm', 'dw', 'dr', 's'))
            if what in ('dw', 'dr') and direct is None:
                continue
            if what == 'w':
                b = rng.randbytes(n)
                os.pwrite(fd, b, off)
                model.extend(bytes(max(0, off + n - len(model))))
                model[off:off + n] = b
            elif what == 'r':
                t.eq(os.pread(fd, n, off) == bytes(model[off:off + n]), True, 'step %d: read' % i)
            elif what == 't' and i % 4 == 0:
                os.ftruncate(fd, off)
                model = model[:off] + bytes(max(0, off - len(model)))
            elif what == 'p':
                try:
                    k.fallocate(fd, k.FALLOC_PUNCH_HOLE | k.FALLOC_KEEP_SIZE, off, n)
                    end = min(off + n, len(model))
                    if off < end:
                        model[off:end] = bytes(end - off)
                except OSError as e:
                    t.eq(e.errno, errno.EOPNOTSUPP)
            elif what == 'm' and len(model) > 1:
                with mmap.mmap(fd, len(model)) as m:
                    off %= len(model)
                    n = min(n, len(model) - off)
                    t.eq(m[off:off + n] == bytes(model[off:off + n]), True, 'step %d: mapping' % i)
                    m[off:off + n] = model[off:off + n] = rng.randbytes(n)
            elif what == 'dw':
                off &= ~4095
                buf = k.aligned(8192, rng.randbytes(8192))
                os.pwrite(direct, buf, off)
                model.extend(bytes(max(0, off + 8192 - len(model))))
                model[off:off + 8192] = bytes(buf)
            elif what == 'dr':
                off &= ~4095
                buf = k.aligned(8192)
                got = os.preadv(direct, [buf], off)
                t.eq(bytes(buf)[:got] == bytes(model[off:off + 8192]), True, 'step %d: direct read' % i)
            elif what == 's':
                os.fsync(fd)
            t.eq(os.fstat(fd).st_size, len(model), 'step %d: size after %s' % (i, what))
        t.eq(tree.read(u.m('f')) == bytes(model), True, 'at the end')
        for fd in fds + ([direct] if direct is not None else []):
            os.close(fd)
        u.remount()
        t.eq(tree.read(u.m('f')) == bytes(model), True, 'after a remount')
        u.umount()


@test(identities=('root', 'user'), everywhere=True)
def aio_and_direct(t):
    """AIO on buffered and on O_DIRECT descriptors, coherent with plain reads, across a copy-up."""
    u = t.mounted('f f ' + 'x' * 16384)
    aio = k.Aio()
    plain = os.open(u.m('f'), os.O_RDWR)
    for flags in (0, os.O_DIRECT):
        try:
            fd = os.open(u.m('f'), os.O_RDWR | flags)
        except OSError as e:
            t.eq((e.errno, flags), (errno.EINVAL, os.O_DIRECT))
            continue
        buf = k.aligned(4096)
        t.eq(aio.pread(fd, buf, 4096, 4096), 4096)
        t.eq(bytes(buf[:1]), b'x')
        out = k.aligned(4096, b'%d' % bool(flags) * 4096)
        t.eq(aio.pwrite(fd, out, 4096, 4096), 4096)
        t.eq(os.pread(plain, 4098, 4095), b'x' + bytes(out) + b'x')
        os.pwrite(plain, b'P' * 4096, 8192)
        t.eq(aio.pread(fd, buf, 4096, 8192), 4096)
        t.eq(bytes(buf), b'P' * 4096, 'a buffered write is not seen')
        os.pwrite(plain, b'x' * 8192, 4096)
        os.close(fd)
    aio.close()
    os.close(plain)


@test(everywhere=True)
def shared_mappings(t):
    """Two processes through two mappings and read(2): one page cache; ftruncate under a mapping."""
    u = t.mounted('f f ' + '0' * 8192)
    fd, fd2 = os.open(u.m('f'), os.O_RDWR), os.open(u.m('f'), os.O_RDWR)
    a, b = mmap.mmap(fd, 8192), mmap.mmap(fd2, 8192)
    a[0:5] = b'hello'
    t.eq((b[0:5], os.pread(fd2, 5, 0)), (b'hello', b'hello'))
    os.pwrite(fd2, b'world', 4096)
    t.eq(a[4096:4101], b'world')

    def other():
        b[100:103] = b'sub'
        return a[0:5]
    t.eq(t.child(other), b'hello')
    t.eq(a[100:103], b'sub')
    os.ftruncate(fd, 4096)
    t.eq(os.pread(fd, 5, 4096), b'')
    os.ftruncate(fd, 8192)
    t.eq(b[4096:4101], bytes(5))
    a.flush()
    a.close()
    b.close()
    os.close(fd)
    os.close(fd2)
    t.eq(tree.read(u.up('f'))[:5], b'hello')


@test()
def mapping_then_utimes(t):
    """A page dirtied through a mapping and written later does not move an mtime that was set
    explicitly in between (2.3); closing and unmapping first is not needed."""
    def action(d):
        fd = os.open(d + '/f', os.O_RDWR)
        m = mmap.mmap(fd, 4096)
        m[0:1] = b'J'
        os.utime(d + '/f', ns=(10**18, 10**18 + 7))
        os.fsync(fd)
        m.close()
        os.close(fd)
        time.sleep(0.05)
        return os.stat(d + '/f').st_mtime_ns
    t.as_plain(action, 'f f ' + 'x' * 4096)


@test()
def locks(t):
    """flock and fcntl locks exclude other descriptors and processes, across a copy-up."""
    u = t.mounted('f f 1')
    a, b = os.open(u.m('f'), os.O_RDWR), os.open(u.m('f'), os.O_RDWR)
    fcntl.flock(a, fcntl.LOCK_EX)
    t.fails(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(a, b'copied up')
    t.fails(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(b, fcntl.LOCK_UN)
    fcntl.lockf(a, fcntl.LOCK_EX, 10, 0)

    def other(start):
        fd = os.open(u.m('f'), os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, start)
        return 'ok'
    t.fails((errno.EAGAIN, errno.EACCES), t.child, other, 5)
    t.eq(t.child(other, 10), 'ok')
    ofd = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 20, 10, 0)
    fcntl.fcntl(a, 37, ofd)             # F_OFD_SETLK
    t.fails((errno.EAGAIN, errno.EACCES), fcntl.fcntl, b, 37, ofd)
    os.close(a)
    t.eq(t.child(other, 0), 'ok')
    os.close(b)


@test(identities=('root', 'user'))
def sync_calls(t):
    """fsync, fdatasync, fsync of directories, syncfs, O_SYNC, in every fsync mode."""
    for opts in ((), ('fsync=0',), ('fsync=strict',), ('fsync=auto',), ('volatile',)):
        u = t.mounted('f f hello; d d', *opts, name='u%d' % len(t.unions))
        fd = os.open(u.m('f'), os.O_RDWR)
        os.fsync(fd)                    # nothing copied up for that
        t.eq(tree.names(u.upper), [])
        os.write(fd, b'J')
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)
        d = os.open(u.m('d'), os.O_RDONLY)
        os.fsync(d)
        tree.write(u.m('d/n'), 'x', os.O_CREAT | os.O_WRONLY | os.O_SYNC)
        os.fsync(d)
        k.check(k.libc.syncfs(d))
        os.close(d)
        os.sync()
        t.eq(tree.text(u.m('f')), 'Jello')
        u.umount()


@test()
def setattr_times(t):
    """UTIME_NOW and UTIME_OMIT, both halves, on files, directories and symlinks; truncate to the
    same size moves mtime and ctime."""
    NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2

    def utimens(p, a, m):
        ts = struct.pack('qqqq', 0, a, 0, m)
        k.check(k.libc.utimensat(k.AT_FDCWD, os.fsencode(p), ctypes.c_char_p(ts), k.AT_SYMLINK_NOFOLLOW))

    def action(d):
        out = []
        for n in ('f', 'd', 'l'):
            for a, m in ((NOW, OMIT), (OMIT, NOW), (OMIT, OMIT), (NOW, NOW), (5, 6), (7, OMIT)):
                p = d + '/' + n
                os.utime(p, ns=(10**18 + 1, 10**18 + 2), follow_symlinks=False)
                before = os.lstat(p).st_ctime_ns
                time.sleep(0.005)
                utimens(p, a, m)
                st = os.lstat(p)
                out.append((n, [x if x < 10**18 + 9 else 'now' for x in (st.st_atime_ns, st.st_mtime_ns)],
                            st.st_ctime_ns != before))
        for size in (5, 5, 3, 10, 0, 0):
            os.utime(d + '/f', ns=(1, 2))
            os.truncate(d + '/f', size)
            st = os.stat(d + '/f')
            out.append((st.st_size, st.st_mtime_ns == 2))
        for fn in (lambda: os.chmod(d + '/f', 0o1777), lambda: os.chmod(d + '/d', 0o3755),
                   lambda: os.chown(d + '/f', -1, -1), lambda: os.lchown(d + '/l', os.getuid(), -1)):
            fn()
        out.append([oct(os.lstat(d + '/' + n).st_mode) for n in 'fdl'])
        return out
    t.as_plain(action, 'f f hello; d d; l l f')


@test(everywhere=True)
def times_survive_a_remount(t):
    """Exact to the nanosecond after cp -a, touch -d and unmounting (fuse-overlayfs lost up to a
    second); what stat says before is what it says after, on the mount and below."""
    u = t.mounted('f low 1; f d/x 1; l l low; t d 1111111111999999999')
    t.sh('touch -d "2020-02-02 02:02:02.123456789" low n; cp -a d e; cp -a l l2; echo x > w; mkdir k;'
         'echo y >> d/x; touch -h -d "2021-01-01 00:00:00.987654321" l', cwd=u.mnt)
    before = {r: os.lstat(u.m(r)).st_mtime_ns for r in tree.walk(u.mnt)}
    for r in before:
        t.eq(os.lstat(u.up(r) if tree.exists(u.up(r)) else u.low(r)).st_mtime_ns, before[r], 'below: ' + r)
    u.remount()
    t.eq({r: os.lstat(u.m(r)).st_mtime_ns for r in tree.walk(u.mnt)}, before)
    t.eq(before['low'] % 10**9, 123456789)


@test(identities=('root', 'userns'))
def no_space_is_told_at_write(t):
    """Write-through is the default: ENOSPC comes from write(2), and the size is what is there."""
    u = t.union(text='f x 1')
    os.mkdir(u.root + '/small')
    k.mount('tmpfs', u.root + '/small', 'tmpfs', 0, 'size=4m')
    try:
        u.upper, u.work = u.root + '/small/upper', u.root + '/small/work'
        os.mkdir(u.upper)
        os.mkdir(u.work)
        u.mount()
        fd = os.open(u.m('f'), os.O_CREAT | os.O_WRONLY)
        done = 0
        try:
            while done < 64 << 20:
                done += os.write(fd, b'x' * (1 << 18))
            t.ok(False, '64 MiB written to 4')
        except OSError as e:
            t.eq(e.errno, errno.ENOSPC)
        os.close(fd)
        t.ok(done <= 4 << 20)
        t.eq(os.stat(u.m('f')).st_size, os.stat(u.up('f')).st_size)
        os.unlink(u.m('f'))
        end = time.monotonic() + 3 * t.slow     # the space is free when the kernel has forgotten it
        while True:
            try:
                tree.write(u.m('g'), 'x' * 100000)
                break
            except OSError as e:
                t.ok(e.errno == errno.ENOSPC and time.monotonic() < end, str(e))
        u.umount()
    finally:
        u.cleanup()
        k.umount(u.root + '/small', k.MNT_DETACH)
