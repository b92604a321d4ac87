# SPDX-License-Identifier: GPL-2.0-or-later
"""FS_IOC_GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR."""
import errno
import fcntl
import os
import struct
import subprocess

from lib import k, test, tree


def _need_flags(t, p):
    try:
        k.set_flags(p, k.get_flags(p))
    except OSError as e:
        t.skip('no file flags on %s: %s' % (t.fs, e))


@test(identities=('root',), everywhere=True)
def immutable_and_append(t):
    """chattr +i and +a through the mount hold at once and after a remount; they are kept in
    overlay.protattr and never set on the real inode; the lower is left alone."""
    u = t.union(text='f i hello; f a hello; d d; f d/x 1')
    _need_flags(t, u.low('i'))
    u.mount()
    tree.write(u.m('n'), 'new')
    for n, f in (('i', k.FS_IMMUTABLE_FL), ('a', k.FS_APPEND_FL), ('d', k.FS_IMMUTABLE_FL), ('n', k.FS_APPEND_FL)):
        k.set_flags(u.m(n), k.get_flags(u.m(n)) | f)
    for again in range(2):
        t.fails(errno.EPERM, tree.append, u.m('i'), 'x')
        t.fails(errno.EPERM, os.unlink, u.m('i'))
        t.fails(errno.EPERM, os.rename, u.m('i'), u.m('j'))
        t.fails(errno.EPERM, os.link, u.m('i'), u.m('j'))
        t.fails(errno.EPERM, tree.write, u.m('a'), 'x')
        t.fails(errno.EPERM, os.truncate, u.m('a'), 0)
        t.fails(errno.EPERM, tree.write, u.m('d/new'), 'x')
        t.fails(errno.EPERM, os.unlink, u.m('d/x'))
        tree.append(u.m('a'), '+')
        for n, f in (('i', k.FS_IMMUTABLE_FL), ('a', k.FS_APPEND_FL), ('d', k.FS_IMMUTABLE_FL)):
            t.ok(k.get_flags(u.m(n)) & f, 'flag of %s' % n)
            t.ok(not k.get_flags(u.up(n)) & (k.FS_IMMUTABLE_FL | k.FS_APPEND_FL), 'set on the real ' + n)
        u.remount()
    t.eq(os.getxattr(u.up('i'), 'trusted.overlay.protattr'), b'i')
    t.eq(os.getxattr(u.up('a'), 'trusted.overlay.protattr'), b'a')
    for n in 'iadn':
        k.set_flags(u.m(n), k.get_flags(u.m(n)) & ~(k.FS_IMMUTABLE_FL | k.FS_APPEND_FL))
    t.ok('trusted.overlay.protattr' not in os.listxattr(u.up('i')))
    tree.append(u.m('i'), '!')
    os.unlink(u.m('a'))
    tree.write(u.m('d/new'), 'x')
    t.eq(tree.text(u.m('i')), 'hello!')


@test(identities=('root', 'user'), everywhere=True)
def ordinary_flags(t):
    """nodump and noatime and the like: set through the mount, read back, on the upper only."""
    u = t.union(text='f f hello; d d')
    _need_flags(t, u.low('f'))
    u.mount()
    tree.write(u.m('n'), 'x')
    for n in ('f', 'd', 'n'):
        before = k.get_flags(u.m(n))
        k.set_flags(u.m(n), before | k.FS_NODUMP_FL)
        t.eq(k.get_flags(u.m(n)), before | k.FS_NODUMP_FL, n)
    u.remount()
    for n in ('f', 'd', 'n'):
        t.ok(k.get_flags(u.m(n)) & k.FS_NODUMP_FL, n + ' after a remount')
    t.ok(not k.get_flags(u.low('f')) & k.FS_NODUMP_FL, 'written to the lower')
    t.eq(tree.text(u.m('f')), 'hello')


@test(identities=('root',), everywhere=True)
def fsxattr(t):
    """FS_IOC_FSGETXATTR shows the flags too; FSSETXATTR sets them."""
    u = t.union(text='f f hello')
    _need_flags(t, u.low('f'))
    u.mount()

    def get(p):
        fd = os.open(p, os.O_RDONLY)
        try:
            return fcntl.ioctl(fd, k.FS_IOC_FSGETXATTR, b'\0' * 28)
        finally:
            os.close(fd)
    try:
        low = get(u.low('f'))
    except OSError:
        t.skip('no FSGETXATTR here')
    t.eq(struct.unpack_from('I', get(u.m('f'))), struct.unpack_from('I', low))
    fd = os.open(u.m('f'), os.O_RDONLY)
    flags, = struct.unpack_from('I', low)
    fcntl.ioctl(fd, k.FS_IOC_FSSETXATTR, struct.pack('I', flags | 0x80) + low[4:])     # nodump
    os.close(fd)
    t.ok(struct.unpack_from('I', get(u.m('f')))[0] & 0x80)
    t.ok(k.get_flags(u.m('f')) & k.FS_NODUMP_FL)
    t.eq(get(u.low('f')), low, 'the lower')


@test()
def foreign_ioctls(t):
    """Anything else is ENOTTY at once: terminals, clones of block devices, nonsense."""
    u = t.mounted('f f hello; d d')
    for n in ('f', 'd'):
        fd = os.open(u.m(n), os.O_RDONLY)
        t.ok(not os.isatty(fd))
        for cmd in (0x5401, 0x1234, 0x80047601):
            t.fails((errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL), fcntl.ioctl, fd, cmd, b'\0' * 8)
        os.close(fd)


@test(identities=('user',))
def protected_flags_need_the_right(t):
    u = t.union(text='f f hello')
    _need_flags(t, u.low('f'))
    u.mount()
    t.fails(errno.EPERM, k.set_flags, u.m('f'), k.get_flags(u.m('f')) | k.FS_IMMUTABLE_FL)
    tree.append(u.m('f'), '!')


@test(identities=('root',), needs=('mkfs.erofs',))
def what_a_file_system_says_of_itself(t):
    """erofs calls every file immutable; that is no flag that somebody has set, and nothing to keep a change from."""
    source, image = t.plain('source'), t.dir + '/image'
    tree.build(source, 'f f hello; f d/x 1; d e; l l f; f g gone', t.ns)
    t.run('mkfs.erofs', image, source)
    u = t.union()
    p = subprocess.run(['mount', '-t', 'erofs', '-o', 'loop,ro', image, u.lowers[0]], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        t.skip('cannot mount erofs: %s' % p.stdout)
    u.mount()
    for again in range(2):
        for d in (u.mnt, source):
            t.sh('''echo more >>f; chmod 600 d/x; touch d e; mv d d2; ln f f2; rm g l; ln -s x l; mkdir n; echo 1 >n/1
                ln f2 f3; mv f3 f4; rm f2 f4; mv d2 d; rm -r n; echo g >g''', cwd=d)
        t.eq(tree.text(u.m('f')), tree.text(source + '/f'))
        t.eq(sorted(tree.walk(u.mnt)), sorted(tree.walk(source)))
        u.remount()
    t.eq(k.get_flags(u.m('f')) & (k.FS_IMMUTABLE_FL | k.FS_APPEND_FL), 0)
    u.umount()
    k.umount(u.lowers[0])
