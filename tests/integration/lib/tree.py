# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layers from a few lines of text, and a picture of a tree to compare.

    d PATH [MODE]            f PATH [TEXT [MODE]]     l PATH TARGET
    p PATH (fifo)            s PATH (socket)          c|b PATH MAJOR:MINOR
    h PATH TARGET (link)     m PATH MODE              u PATH UID GID
    w PATH (0:0 whiteout)    xw PATH (xattr form)     wh PATH (.wh.NAME)
    o PATH (opaque=y)        ox PATH (opaque=x)       woq PATH (.wh..wh..opq)
    x PATH NAME VALUE        t PATH NANOSECONDS
In names and values of xattrs `%` stands for the namespace in use ("trusted" or "user").
"""
import hashlib
import os
import stat

devices = True      # False inside a mount of ours, which refuses 0:0 devices: xattr whiteouts instead


def build(root, text, ns='trusted'):
    for line in text.replace(';', '\n').split('\n'):
        w = line.split()
        if w:
            _put(root, w, ns)


def _put(root, w, ns):
    kind, rel, a = w[0], w[1], w[2:]
    p = root if rel == '.' else os.path.join(root, rel)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    if kind == 'd':
        os.makedirs(p, exist_ok=True)
        if a:
            os.chmod(p, int(a[0], 8))
    elif kind == 'f':
        write(p, a[0] if a else '')
        os.chmod(p, int(a[1], 8) if len(a) > 1 else 0o644)
    elif kind == 'l':
        os.symlink(a[0], p)
    elif kind == 'p':
        os.mkfifo(p)
    elif kind == 's':
        os.mknod(p, stat.S_IFSOCK | 0o644)
    elif kind in ('c', 'b'):
        ma, mi = map(int, a[0].split(':'))
        os.mknod(p, (stat.S_IFCHR if kind == 'c' else stat.S_IFBLK) | 0o644, os.makedev(ma, mi))
    elif kind == 'h':
        os.link(os.path.join(root, a[0]), p, follow_symlinks=False)
    elif kind == 'm':
        os.chmod(p, int(a[0], 8))
    elif kind == 'u':
        os.lchown(p, int(a[0]), int(a[1]))
    elif kind == 'w' and devices:
        os.mknod(p, stat.S_IFCHR, os.makedev(0, 0))
    elif kind in ('w', 'xw'):
        write(p, '')
        os.setxattr(p, ns + '.overlay.whiteout', b'')
    elif kind == 'wh':
        write(os.path.join(os.path.dirname(p), '.wh.' + os.path.basename(p)), '')
    elif kind in ('o', 'ox'):
        os.makedirs(p, exist_ok=True)
        os.setxattr(p, ns + '.overlay.opaque', b'y' if kind == 'o' else b'x')
    elif kind == 'woq':
        os.makedirs(p, exist_ok=True)
        write(os.path.join(p, '.wh..wh..opq'), '')
    elif kind == 'x':
        value = a[1] if len(a) > 1 else ''
        os.setxattr(p, a[0].replace('%', ns), value.encode(), follow_symlinks=False)
    elif kind == 't':
        os.utime(p, ns=(int(a[0]), int(a[0])), follow_symlinks=False)
    else:
        raise ValueError('unknown line %r' % w)


def write(path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o666):
    """Write without the TCGETS and buffering of open()."""
    if isinstance(data, str):
        data = data.encode()
    fd = os.open(path, flags, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def append(path, data):
    write(path, data, os.O_WRONLY | os.O_APPEND)


def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        out = []
        while True:
            b = os.read(fd, 1 << 20)
            if not b:
                return b''.join(out)
            out.append(b)
    finally:
        os.close(fd)


def text(path):
    return read(path).decode()


def names(path):
    return sorted(os.listdir(path))


def is_whiteout(path):
    st = os.lstat(path)
    if not devices and stat.S_ISREG(st.st_mode) and st.st_size == 0:
        return any(n.endswith('.overlay.whiteout') for n in os.listxattr(path))
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def exists(path):
    return os.path.lexists(path)


def xattrs(path):
    out = {}
    for n in os.listxattr(path, follow_symlinks=False):
        try:
            out[n] = os.getxattr(path, n, follow_symlinks=False)
        except OSError as e:
            out[n] = 'errno %d' % e.errno
    return out


def describe(path, times=True, content=True, pad=False):
    """Everything a user can see of one object, as a tuple. @pad: a file that ends before its size ends with zeros."""
    st = os.lstat(path)
    what = ''
    if stat.S_ISREG(st.st_mode) and content:
        h = hashlib.sha1()
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, 'O_NOATIME', 0))
        except PermissionError:
            try:
                fd = os.open(path, os.O_RDONLY)
            except PermissionError:
                fd = -1
        if fd >= 0:
            with open(fd, 'rb', buffering=0) as f:
                while True:
                    b = f.read(1 << 20)
                    if not b:
                        break
                    h.update(b)
                if pad:
                    h.update(bytes(max(0, st.st_size - f.tell())))
            what = h.hexdigest()[:16]
    elif stat.S_ISLNK(st.st_mode):
        what = os.readlink(path)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        what = '%d:%d' % (os.major(st.st_rdev), os.minor(st.st_rdev))
    try:
        xa = tuple(sorted(xattrs(path).items()))
    except OSError as e:
        xa = ('errno', e.errno)
    size = st.st_size if stat.S_ISREG(st.st_mode) else 0
    return ('%o' % st.st_mode, st.st_uid, st.st_gid, size, st.st_mtime_ns if times else 0, xa, what)


def walk(root, rel=''):
    yield rel or '.'
    here = os.path.join(root, rel)
    if not os.path.islink(here) and os.path.isdir(here):
        try:
            entries = sorted(os.listdir(here))
        except PermissionError:
            return
        for n in entries:
            yield from walk(root, os.path.join(rel, n))


def snapshot(root, times=True, content=True):
    return {rel: describe(os.path.join(root, rel), times, content) for rel in walk(root)}


def difference(a, b):
    """Lines that say what differs between two snapshots."""
    out = []
    for p in sorted(set(a) | set(b)):
        if a.get(p) != b.get(p):
            out.append('%s: %r -> %r' % (p, a.get(p, 'missing'), b.get(p, 'missing')))
    return out
