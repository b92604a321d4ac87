# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that Python's os module lacks."""
import ctypes
import errno
import fcntl
import os
import struct

from .registry import Skip

libc = ctypes.CDLL(None, use_errno=True)
_c = ctypes

MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND = 1, 2, 32, 4096
MS_MOVE, MS_REC, MS_PRIVATE = 8192, 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_STATX_FORCE_SYNC = -100, 0x1000, 0x100, 0x2000
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE, FALLOC_ZERO, FALLOC_INSERT = 1, 2, 8, 16, 32
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801c581f, 0x401c5820
FS_SYNC_FL, FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL, FS_NOATIME_FL = 8, 16, 32, 64, 128
FICLONE = 0x40049409
STATX_BTIME, STATX_BASIC = 0x800, 0x7ff
_machine = os.uname().machine
_nr = {'x86_64': dict(renameat2=316, statx=332, io_setup=206, io_destroy=207, io_getevents=208,
                      io_submit=209, getdents64=217, name_to_handle_at=303,
                      open_tree=428, move_mount=429, mount_setattr=442),
       'aarch64': dict(renameat2=276, statx=291, io_setup=0, io_destroy=1, io_getevents=4,
                       io_submit=2, getdents64=61, name_to_handle_at=264,
                       open_tree=428, move_mount=429, mount_setattr=442)}.get(_machine, {})

libc.mount.argtypes = [_c.c_char_p, _c.c_char_p, _c.c_char_p, _c.c_ulong, _c.c_char_p]
libc.fallocate.argtypes = [_c.c_int, _c.c_int, _c.c_int64, _c.c_int64]
libc.syscall.restype = _c.c_long
libc.opendir.restype = libc.fdopendir.restype = libc.readdir.restype = _c.c_void_p
libc.opendir.argtypes = [_c.c_char_p]
for _f in ('readdir', 'closedir', 'rewinddir', 'telldir', 'dirfd'):
    getattr(libc, _f).argtypes = [_c.c_void_p]
libc.telldir.restype = _c.c_long
libc.seekdir.argtypes = [_c.c_void_p, _c.c_long]


def check(r, what=''):
    if r < 0:
        e = _c.get_errno()
        raise OSError(e, '%s: %s' % (what, os.strerror(e)) if what else os.strerror(e))
    return r


def syscall(name, *args):
    if name not in _nr:
        raise OSError(errno.ENOSYS, 'system call number of %s not known here' % name)
    return check(libc.syscall(_c.c_long(_nr[name]), *args), name)


def _b(s):
    return None if s is None else os.fsencode(s)


def mount(src, tgt, typ=None, flags=0, data=None):
    check(libc.mount(_b(src), _b(tgt), _b(typ), flags, _b(data)), 'mount %s on %s' % (src, tgt))


def umount(tgt, flags=0):
    check(libc.umount2(_b(tgt), flags), 'umount %s' % tgt)


def user_namespace(uid_map):
    """A descriptor of a new user namespace with this map for both kinds of ids."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWUSER)
            os.write(ready[1], b'x')
            os.close(go[1])
            os.read(go[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])
    try:
        if not os.read(ready[0], 1):
            raise Skip('no user namespace can be made here')     # in a chroot, or forbidden
        for name in ('uid_map', 'gid_map'):
            with open('/proc/%d/%s' % (pid, name), 'w') as f:
                f.write(uid_map)
        return os.open('/proc/%d/ns/user' % pid, os.O_RDONLY)
    finally:
        for fd in (ready[0], go[0], go[1]):
            os.close(fd)
        os.waitpid(pid, 0)


def idmapped(src, tgt, userns):
    """Mount what is at @src once more at @tgt, with the ids of a user namespace (a descriptor)."""
    fd = syscall('open_tree', _c.c_int(AT_FDCWD), _b(src), _c.c_uint(0x80001))     # clone, close on exec
    try:
        attr = struct.pack('QQQQ', 0x100000, 0, 0, userns)                         # MOUNT_ATTR_IDMAP
        syscall('mount_setattr', _c.c_int(fd), b'', _c.c_uint(AT_EMPTY_PATH), attr, _c.c_size_t(len(attr)))
        syscall('move_mount', _c.c_int(fd), b'', _c.c_int(AT_FDCWD), _b(tgt), _c.c_uint(4))
    finally:
        os.close(fd)


def unshare(flags):
    check(libc.unshare(flags), 'unshare')


def private_namespace():
    unshare(CLONE_NEWNS)
    mount('none', '/', None, MS_REC | MS_PRIVATE)


def prctl(option, value):
    check(libc.prctl(option, value, 0, 0, 0), 'prctl')


def rename2(a, b, flags):
    syscall('renameat2', _c.c_int(AT_FDCWD), _b(a), _c.c_int(AT_FDCWD), _b(b), _c.c_uint(flags))


def fallocate(fd, mode, off, length):
    check(libc.fallocate(fd, mode, off, length), 'fallocate')


def link_fd(fd, path):
    """Give an O_TMPFILE a name, as an unprivileged process does it."""
    check(libc.linkat(AT_FDCWD, b'/proc/self/fd/%d' % fd, AT_FDCWD, _b(path), 0x400), 'linkat')


def statx(path, mask=STATX_BASIC | STATX_BTIME, flags=AT_SYMLINK_NOFOLLOW):
    """mask, btime (ns, 0 if not told), ctime, mtime and attributes of struct statx."""
    buf = _c.create_string_buffer(256)
    syscall('statx', _c.c_int(AT_FDCWD), _b(path), _c.c_int(flags), _c.c_uint(mask), buf)
    got, = struct.unpack_from('I', buf, 0)
    attrs, = struct.unpack_from('Q', buf, 8)
    sec, nsec = struct.unpack_from('qI', buf, 80)
    csec, cnsec = struct.unpack_from('qI', buf, 96)
    msec, mnsec = struct.unpack_from('qI', buf, 112)
    return {'mask': got, 'attributes': attrs, 'ctime': csec * 10**9 + cnsec,
            'mtime': msec * 10**9 + mnsec,
            'btime': sec * 10**9 + nsec if got & STATX_BTIME else 0}


def get_flags(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return struct.unpack('l', fcntl.ioctl(fd, FS_IOC_GETFLAGS, b'\0' * 8))[0] & 0xffffffff
    finally:
        os.close(fd)


def set_flags(path, flags):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack('l', flags))
    finally:
        os.close(fd)


def file_handle(path):
    """(type, bytes), or OSError."""
    buf = _c.create_string_buffer(8 + 128)
    struct.pack_into('Ii', buf, 0, 128, 0)
    mid = _c.c_int()
    check(libc.name_to_handle_at(_c.c_int(AT_FDCWD), _b(path), buf, _c.byref(mid), 0),
          'name_to_handle_at')
    n, t = struct.unpack_from('Ii', buf, 0)
    return t, buf.raw[8:8 + n]


def open_by_handle(mount_fd, handle, flags=os.O_RDONLY):
    typ, data = handle
    buf = _c.create_string_buffer(struct.pack('Ii', len(data), typ) + data)
    return check(libc.open_by_handle_at(mount_fd, buf, flags), 'open_by_handle_at')


class Dir:
    """A DIR stream, for positions and for changes while listing."""

    def __init__(self, path):
        self.d = libc.opendir(_b(path))
        if not self.d:
            check(-1, 'opendir %s' % path)

    def read(self):
        """(inode number, type, name) or None at the end."""
        _c.set_errno(0)
        e = libc.readdir(self.d)
        if not e:
            if _c.get_errno():
                check(-1, 'readdir')
            return None
        ino, _, reclen, typ = struct.unpack('QqHB', _c.string_at(e, 19))
        return ino, typ, os.fsdecode(_c.string_at(e + 19))

    def all(self):
        out = []
        while True:
            e = self.read()
            if e is None:
                return out
            out.append(e)

    def tell(self):
        return libc.telldir(self.d)

    def seek(self, pos):
        libc.seekdir(self.d, pos)

    def rewind(self):
        libc.rewinddir(self.d)

    def fd(self):
        return libc.dirfd(self.d)

    def close(self):
        libc.closedir(self.d)


def listing(path):
    d = Dir(path)
    try:
        return d.all()
    finally:
        d.close()


class Aio:
    """libaio without the library: submit one operation, wait for it."""

    def __init__(self):
        self.ctx = _c.c_ulong(0)
        syscall('io_setup', _c.c_uint(8), _c.byref(self.ctx))

    def _run(self, opcode, fd, buf, size, off):
        # struct iocb: data, key, rw_flags, opcode, reqprio, fd, buf, nbytes, offset, ...
        cb = _c.create_string_buffer(struct.pack('QIIHhIQQqQII', 1, 0, 0, opcode, 0, fd,
                                                 _c.addressof(buf), size, off, 0, 0, 0))
        ptr = _c.c_void_p(_c.addressof(cb))
        syscall('io_submit', self.ctx, _c.c_long(1), _c.byref(ptr))
        event = _c.create_string_buffer(32)
        syscall('io_getevents', self.ctx, _c.c_long(1), _c.c_long(1), event, None)
        res = struct.unpack_from('q', event.raw, 16)[0]
        if res < 0:
            raise OSError(-res, os.strerror(-res))
        return res

    def pread(self, fd, buf, size, off):
        return self._run(0, fd, buf, size, off)

    def pwrite(self, fd, buf, size, off):
        return self._run(1, fd, buf, size, off)

    def close(self):
        syscall('io_destroy', self.ctx)


def aligned(size, data=b''):
    """A page aligned buffer, as O_DIRECT wants it (kept alive by the attribute)."""
    import mmap
    m = mmap.mmap(-1, max(size, 4096))
    m[:len(data)] = data
    buf = (_c.c_char * size).from_buffer(m)
    buf.keep = m
    return buf


_own_drops = 0


def drop_caches(what=2):
    global _own_drops
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write(str(what))
    _own_drops += bin(what).count('1')


def foreign_drops():
    """How often others on this machine have emptied the caches."""
    with open('/proc/vmstat') as f:
        counts = dict(line.split() for line in f)
    return int(counts['drop_slab']) + int(counts['drop_pagecache']) - _own_drops


def mounts(pid='self'):
    """(device number, mountpoint, type, source, super options) of each mount of a process."""
    out = []
    with open('/proc/%s/mountinfo' % pid, errors='surrogateescape') as f:
        for line in f:
            left, _, right = line.rstrip('\n').partition(' - ')
            l, r = left.split(' '), right.split(' ')
            where = l[4].encode('utf-8', 'surrogateescape').decode('unicode_escape')
            out.append((l[2], where, r[0], r[1], r[2] if len(r) > 2 else ''))
    return out


def mounted_at(path, pid='self'):
    return [m for m in mounts(pid) if m[1] == path]
