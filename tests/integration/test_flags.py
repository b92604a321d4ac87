# SPDX-License-Identifier: GPL-2.0-or-later
"""FS_IOC_GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR."""
import errno
import fcntl
import os
import struct
import time
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


@test(identities=('root',), everywhere=True)
def append_only_in_the_upper(t):
    """`chattr +a` that somebody gave the real file: appending works, nothing else does, until it is taken off."""
    for opts in ((), ('writeback=1',)):
        u = t.union(name='w' if opts else 'u')
        tree.write(u.up('f'), 'hello')
        tree.write(u.up('g'), 'hello')
        _need_flags(t, u.up('f'))
        try:
            k.set_flags(u.up('f'), k.get_flags(u.up('f')) | k.FS_APPEND_FL)
            u.mount(*opts)
            for word in ('+1', '+2'):
                tree.append(u.m('f'), word)
            fd = os.open(u.m('f'), os.O_WRONLY | os.O_APPEND)
            for mode in (0, 1):
                try:
                    k.fallocate(fd, mode, 0, 20 if mode else 3)
                except OSError as e:
                    t.ok(e.errno == errno.EOPNOTSUPP, e)
            t.fails(errno.EPERM, k.fallocate, fd, 3, 0, 4)
            os.fsync(fd)
            os.close(fd)
            if not opts:
                t.fails(errno.EPERM, tree.write, u.m('f'), 'x')
            t.fails(errno.EPERM, os.truncate, u.m('f'), 0)
            t.eq((tree.text(u.m('f')), tree.text(u.up('f'))), ('hello+1+2',) * 2)
            # set while it is open for writing, and known without the flag
            with open(u.m('g'), 'r+b', 0) as g:
                g.write(b'H')
                os.fsync(g.fileno())
            k.set_flags(u.up('g'), k.get_flags(u.up('g')) | k.FS_APPEND_FL)
            u.remount()
            tree.append(u.m('g'), '!')
            t.ok(k.get_flags(u.m('g')) & k.FS_APPEND_FL)
            k.set_flags(u.m('g'), k.get_flags(u.m('g')) | k.FS_NODUMP_FL)
            t.ok(k.get_flags(u.up('g')) & k.FS_APPEND_FL, 'taken off by another flag')
            k.set_flags(u.m('g'), k.get_flags(u.m('g')) & ~k.FS_APPEND_FL)
            with open(u.m('g'), 'r+b', 0) as g:
                g.write(b'J')
                os.fsync(g.fileno())
            t.eq((tree.text(u.m('g')), tree.text(u.up('g'))), ('Jello!',) * 2)
            u.umount()
        finally:
            for n in 'fg':
                k.set_flags(u.up(n), k.get_flags(u.up(n)) & ~k.FS_APPEND_FL)


@test(identities=('root',), everywhere=True)
def directories_keep_their_flags(t):
    """As with the kernel's overlayfs; what is made in them inherits from the copy."""
    wanted = k.FS_NOATIME_FL | k.FS_SYNC_FL
    u = t.union(text='d d; f d/x 1; d d/e; f d/e/y 1; d plain')
    _need_flags(t, u.low('d'))
    for n in ('d', 'd/e'):
        try:
            k.set_flags(u.low(n), k.get_flags(u.low(n)) | wanted | k.FS_NODUMP_FL)
        except OSError:
            t.skip('not all flags on %s' % t.fs)
    u.mount()
    plain = t.plain()
    os.mkdir(plain + '/d')
    k.set_flags(plain + '/d', k.get_flags(u.low('d')))
    for at in (plain + '/d', u.m('d'), u.m('d/e')):
        tree.write(at + '/new', 'x')
        os.mkdir(at + '/sub')
    for n in ('new', 'sub'):
        want = k.get_flags('%s/d/%s' % (plain, n)) & (wanted | k.FS_NODUMP_FL)
        for d in ('d', 'd/e'):
            t.eq(k.get_flags(u.up(d)) & (wanted | k.FS_NODUMP_FL), wanted | k.FS_NODUMP_FL, d)
            t.eq(k.get_flags(u.m('%s/%s' % (d, n))) & (wanted | k.FS_NODUMP_FL), want, '%s in %s' % (n, d))
    tree.write(u.m('plain/new'), 'x')
    t.eq(k.get_flags(u.up('plain')) & wanted, 0)


@test(identities=('root', 'user'), everywhere=True)
def flags_move_the_time_of_change(t):
    u = t.union(text='f f hello; d d')
    _need_flags(t, u.low('f'))
    u.mount()
    tree.write(u.m('n'), 'x')
    flags = [k.FS_NODUMP_FL] + ([k.FS_APPEND_FL] if t.identity == 'root' else [])
    for n in ('f', 'd', 'n'):
        for f in flags:
            before = os.stat(u.m(n)).st_ctime_ns
            time.sleep(0.02)
            k.set_flags(u.m(n), k.get_flags(u.m(n)) ^ f)
            now = os.stat(u.m(n)).st_ctime_ns
            t.ok(now > before, '%s: %d, before %d' % (n, now, before))
            t.eq(now, os.stat(u.up(n)).st_ctime_ns, n)
    for n in ('f', 'd', 'n'):
        if t.identity == 'root':
            k.set_flags(u.m(n), k.get_flags(u.m(n)) & ~k.FS_APPEND_FL)


@test(identities=('root',), needs=('mkfs.erofs',))
def what_it_says_as_a_layer_of_a_layer(t):
    """The same through the kernel's overlayfs, which knows flags of some of its objects only."""
    source, image = t.plain('source'), t.dir + '/image'
    tree.build(source, 'f f hello; f d/x 1; f g gone', t.ns)
    t.run('mkfs.erofs', image, source)
    at, more = t.plain('erofs'), t.plain('more')
    p = subprocess.run(['mount', '-t', 'erofs', '-o', 'loop,ro', image, at], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        t.skip('cannot mount erofs: %s' % p.stdout)
    u = t.union()
    for d in ('up', 'wk'):
        os.mkdir(t.dir + '/' + d)
    for opts in ('lowerdir=%s:%s' % (more, at), 'lowerdir=%s,upperdir=%s/up,workdir=%s/wk' % (at, t.dir, t.dir)):
        k.mount('overlay', u.lowers[0], 'overlay', 0, opts)
        u.mount()
        t.sh('echo more >>f; chmod 600 d/x; mv d d2; rm g; mv d2 d', cwd=u.mnt)
        t.eq(tree.text(u.m('f')), 'hellomore\n')
        u.umount()
        k.umount(u.lowers[0])
        t.run('rm', '-rf', *(u.up(n) for n in os.listdir(u.upper)))
    k.umount(at)
