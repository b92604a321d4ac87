# SPDX-License-Identifier: GPL-2.0-or-later
"""Copy-up: when it happens, what it keeps, and what a failure leaves."""
import errno
import hashlib
import os
import stat
import struct

from lib import k, test, tree


def _same_but(a, b, *fields):
    names = ('mode', 'uid', 'gid', 'size', 'mtime', 'xattrs', 'content')
    return [(n, x, y) for n, x, y in zip(names, a, b) if x != y and n not in fields]


@test(everywhere=True)
def keeps_everything(t):
    """Owner, mode, times to the nanosecond, xattrs: all but what the change itself was about; the data
    at once, or at the first write."""
    for opts in ((), ('metacopy=off',)):
        _keeps_everything(t, *opts)


def _keeps_everything(t, *opts):
    text = 'd d/s 2751; x d/s user.d dv; t d/s 1100000000987654321; x d user.p pv'
    objects = {'f': 'f %s hello 6754; x %s user.k v; x %s user.long ' + 'z' * 900,
               'e': 'f %s %.0s%.0s', 'l': 'l %s tgt%.0s%.0s', 'p': 'p %s%.0s%.0s', 's': 's %s%.0s%.0s'}
    if t.root:
        objects['c'] = 'c %s 1:3%.0s%.0s'
    for n, words in objects.items():
        p = 'd/s/' + n
        text += ';' + words % (p, p, p)
        if t.root:
            text += '; u %s 123 456' % p + ('; m %s 6754' % p if n == 'f' else '')
        text += '; t %s 1234567890123456789' % p
    text += '; t d/s 1100000000987654321; t d 1100000000987654322; t . 1100000000987654323'
    u = t.union(text=text)
    if t.root:
        os.setxattr(u.low('d/s/f'), 'trusted.k', b'tv')
        os.setxattr(u.low('d/s/f'), 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
        os.setxattr(u.low('d/s/l'), 'trusted.k', b'tv', follow_symlinks=False)
    for n in objects:
        os.utime(u.low('d/s/' + n), ns=(1000000000111111111, 1234567890123456789), follow_symlinks=False)
    want = tree.snapshot(u.low('d'))
    u.mount(*opts)
    for n in objects:
        p = u.m('d/s/' + n)
        inode, mode = os.lstat(p).st_ino, os.lstat(p).st_mode
        atime = os.lstat(u.low('d/s/' + n)).st_atime_ns
        if n == 'l':
            os.lchown(p, os.getuid(), os.getgid())
        else:
            os.chmod(p, stat.S_IMODE(mode) ^ 0o001)
            os.chmod(p, stat.S_IMODE(mode))
        t.eq(os.lstat(p).st_ino, inode, 'inode number of ' + n)
        t.eq(os.lstat(u.up('d/s/' + n)).st_atime_ns, atime, 'atime of ' + n)
    for again in range(2):
        for where in ('view', 'upper'):
            got = tree.snapshot(u.m('d') if where == 'view' else u.up('d'))
            for rel in want:
                skip = ('uid', 'gid') if rel == 's/l' else ()
                if where == 'upper' and rel == 's/f' and not opts:
                    t.ok(u.is_metacopy('d/s/f'), 'data was copied')
                    skip = ('content',)
                if where == 'upper':
                    g = got[rel]
                    got[rel] = g[:5] + (tuple(x for x in g[5] if '.overlay.' not in x[0]),) + g[6:]
                t.eq(_same_but(got[rel], want[rel], *skip), [], '%s in the %s' % (rel, where))
        u.remount()
    tree.append(u.m('d/s/f'), ' more')
    t.eq((tree.text(u.m('d/s/f')), tree.text(u.up('d/s/f'))), ('hello more',) * 2)
    t.ok(not u.is_metacopy('d/s/f'), 'still marked')
    u.umount()


@test()
def triggers(t):
    """What copies up and what does not (3.2); opening for write alone does not."""
    names = ('open_rw open_w read stat access getxattr listxattr readlink removexattr_none '
             'write truncate trunc_open chmod chown utimes setxattr link rename fallocate '
             'flags_same').split()
    u = t.mounted('; '.join('f %s hello' % n for n in names) + '; l sl x; p fifo')
    m = u.m
    os.close(os.open(m('open_rw'), os.O_RDWR))
    os.close(os.open(m('open_w'), os.O_WRONLY | os.O_APPEND))
    tree.read(m('read'))
    os.stat(m('stat'))
    os.access(m('access'), os.W_OK)
    t.fails(errno.ENODATA, os.getxattr, m('getxattr'), 'user.none')
    os.listxattr(m('listxattr'))
    os.readlink(m('sl'))
    t.fails(errno.ENODATA, os.removexattr, m('removexattr_none'), 'user.none')
    os.close(os.open(m('fifo'), os.O_RDWR | os.O_NONBLOCK))
    try:
        k.set_flags(m('flags_same'), k.get_flags(m('flags_same')))
    except OSError:
        pass
    t.eq([n for n in tree.names(u.upper) if n != 'flags_same'], [])
    fd = os.open(m('write'), os.O_RDWR)
    os.pwrite(fd, b'J', 0)
    os.close(fd)
    os.truncate(m('truncate'), 2)
    os.close(os.open(m('trunc_open'), os.O_WRONLY | os.O_TRUNC))
    os.chmod(m('chmod'), 0o600)
    os.chown(m('chown'), os.getuid(), os.getgid())
    os.utime(m('utimes'), (1, 1))
    os.setxattr(m('setxattr'), 'user.k', b'v')
    os.link(m('link'), m('link2'))
    os.rename(m('rename'), m('rename2'))
    fd = os.open(m('fallocate'), os.O_RDWR)
    k.fallocate(fd, 0, 0, 100)
    os.close(fd)
    want = set('write truncate trunc_open chmod chown utimes setxattr link link2 rename rename2 '
               'fallocate'.split())
    t.eq(set(tree.names(u.upper)) - {'flags_same'}, want)
    t.eq((tree.text(m('write')), tree.text(m('truncate'))), ('Jello', 'he'))


@test(everywhere=True)
def parents(t):
    """Parents come up with mode, owner, xattrs and times; a copy-up moves no parent's times."""
    u = t.union(text='d a/b/c; f a/b/c/f 1; m a 751; m a/b 700; m a/b/c 1777; x a/b user.k v')
    if t.root:
        u.put('u a 11 12; u a/b 13 14')
    for i, p in enumerate(('a/b/c', 'a/b', 'a', '')):
        os.utime(u.low(p), ns=(10**18 + i, 11 * 10**17 + i + 999999))
    os.utime(u.upper, ns=(10**18, 10**18 + 123456789))
    want = {p: tree.describe(u.low(p)) for p in ('a', 'a/b', 'a/b/c')}
    atimes = {p: os.stat(u.low(p)).st_atime_ns for p in want}
    u.mount()
    os.chmod(u.m('a/b/c/f'), 0o600)
    t.eq(os.stat(u.mnt).st_mtime_ns, 10**18 + 123456789, 'mtime of the root')
    for again in range(2):
        for p, w in want.items():
            t.eq(tree.describe(u.m(p)), w, p)
        t.eq(os.stat(u.upper).st_mtime_ns, 10**18 + 123456789, 'mtime of the upper root')
        u.remount()
    for p, a in atimes.items():
        t.eq(os.stat(u.up(p)).st_mtime_ns, want[p][4], 'mtime on the upper of ' + p)


@test(everywhere=True, timeout=120)
def holes(t):
    """A sparse file stays sparse and equal, whatever makes its data come up."""
    for opts in (('metacopy=off',), ()):
        _holes(t, *opts)


def _holes(t, *opts):
    u = t.union()
    size = 200 << 20
    with open(u.low('s'), 'wb') as f:
        f.truncate(size)
        for off in (0, 1 << 20, (50 << 20) + 5, size - 3):
            f.seek(off)
            f.write(b'abc')
    os.truncate(u.low('s'), size)
    t.sh('truncate -s 50M hole; : > empty; truncate -s 1 one', cwd=u.low())
    want = {n: tree.describe(u.low(n)) for n in tree.names(u.low())}
    u.mount(*opts)
    for n in want:
        os.chmod(u.m(n), 0o600)
        if not opts and n != 'empty':
            t.ok(u.is_metacopy(n) and os.stat(u.up(n)).st_blocks <= 16, n + ': data was copied')
            t.eq(tree.describe(u.m(n))[6], want[n][6], n + ' through the mount')
            fd = os.open(u.m(n), os.O_RDWR)
            os.pwrite(fd, os.pread(fd, 1, 0), 0)
            os.close(fd)
        got = tree.describe(u.up(n))
        t.eq((got[3], got[6]), (want[n][3], want[n][6]), n)
        low, up = os.stat(u.low(n)).st_blocks, os.stat(u.up(n)).st_blocks
        t.ok(up <= low + 2 * 2048 * 4, '%s: %d blocks became %d' % (n, low, up))
    u.umount()


@test(timeout=120)
def beyond_four_gib(t):
    """Sizes and offsets over 4 GiB, in sparse files."""
    u = t.union()
    u.check_lowers = False
    size = (5 << 30) + 12345
    with open(u.low('big'), 'wb') as f:
        f.truncate(size)
        for off, b in ((0, b'start'), ((4 << 30) - 2, b'middle'), (size - 3, b'end')):
            f.seek(off)
            f.write(b)
    u.mount()
    fd = os.open(u.m('big'), os.O_RDWR)
    t.eq(os.pread(fd, 6, (4 << 30) - 2), b'middle')
    os.pwrite(fd, b'X', (4 << 30) + 1)
    t.eq(os.pread(fd, 7, (4 << 30) - 2), b'midXle\0')
    t.eq((os.fstat(fd).st_size, os.pread(fd, 3, size - 3), os.pread(fd, 5, 0)), (size, b'end', b'start'))
    os.pwrite(fd, b'far', 6 << 30)
    t.eq(os.fstat(fd).st_size, (6 << 30) + 3)
    os.close(fd)
    t.ok(os.stat(u.up('big')).st_blocks < 100000, 'the holes were filled')
    u.remount()
    fd = os.open(u.m('big'), os.O_RDONLY)
    t.eq(os.pread(fd, 7, (4 << 30) - 2), b'midXle\0')
    t.eq(os.pread(fd, 3, 6 << 30), b'far')
    os.close(fd)
    t.eq(os.stat(u.low('big')).st_size, size)


@test(timeout=120)
def large_data(t):
    """64 MiB of noise, changed in the middle: every other byte is as it was."""
    u = t.union()
    data = bytearray(os.urandom(1 << 20) * 64)
    tree.write(u.low('f'), bytes(data))
    u.mount()
    fd = os.open(u.m('f'), os.O_RDWR)
    os.pwrite(fd, b'changed', 33333333)
    data[33333333:33333340] = b'changed'
    os.close(fd)
    want = hashlib.sha1(data).hexdigest()
    t.eq(hashlib.sha1(tree.read(u.m('f'))).hexdigest(), want)
    u.remount()
    t.eq(hashlib.sha1(tree.read(u.m('f'))).hexdigest(), want)


@test()
def trunc_copies_no_data(t):
    """O_TRUNC of, and truncate to 0 of, a huge lower file needs no space and no time."""
    u = t.union()
    u.check_lowers = False
    for n in 'ab':
        with open(u.low(n), 'wb') as f:
            f.truncate(1 << 40 if t.fs != 'ext4' else 1 << 40)
        fd = os.open(u.low(n), os.O_WRONLY)
        os.pwrite(fd, b'x' * 4096, 1 << 30)
        os.close(fd)
    u.mount()
    os.close(os.open(u.m('a'), os.O_WRONLY | os.O_TRUNC))
    os.truncate(u.m('b'), 100)
    t.eq((os.stat(u.m('a')).st_size, os.stat(u.m('b')).st_size), (0, 100))
    t.ok(os.stat(u.up('b')).st_blocks <= 16)


@test(everywhere=True)
def concurrent_first_writers(t):
    """Ten processes change one lower file at the same moment: one copy, no lost change."""
    u = t.union(text='f d/f ' + 'x' * 5000)
    os.truncate(u.low('d/f'), 8 << 20)
    u.mount()
    for name in ('d/f',):
        r, w = os.pipe()
        pids = []
        for i in range(10):
            pid = os.fork()
            if pid == 0:
                fd = os.open(u.m(name), os.O_RDWR)
                os.read(r, 1)               # all start together
                if i < 8:
                    os.pwrite(fd, b'%d' % i, 1000 * i)
                elif i == 8:
                    os.setxattr(u.m(name), 'user.k', b'v')
                else:
                    os.chmod(u.m(name), 0o640)
                os._exit(0)
            pids.append(pid)
        os.write(w, b'g' * 10)
        for p in pids:
            t.eq(os.waitpid(p, 0)[1], 0)
        data = tree.read(u.m(name))
        for i in range(8):
            t.eq(data[1000 * i:1000 * i + 2], b'%dx' % i if i < 5 else b'%d\0' % i, 'writer %d' % i)
        t.eq(os.getxattr(u.m(name), 'user.k'), b'v')
        t.eq(stat.S_IMODE(os.stat(u.m(name)).st_mode), 0o640)
    t.eq(tree.names(u.up('d')), ['f'])
    t.eq(os.stat(u.up('d/f')).st_nlink, 1)


@test(identities=('root', 'userns'))
def no_space(t):
    """ENOSPC in the middle: the caller gets it, nothing is visible or staged, the lower shows."""
    u = t.union()
    os.mkdir(u.root + '/small')
    k.mount('tmpfs', u.root + '/small', 'tmpfs', 0, 'size=2m')
    try:
        u.upper, u.work = u.root + '/small/upper', u.root + '/small/work'
        os.mkdir(u.upper)
        os.mkdir(u.work)
        tree.write(u.low('big'), b'x' * (5 << 20))
        os.mkdir(u.low('d'))
        tree.write(u.low('d/big'), b'y' * (5 << 20))
        u.put('f little hello')
        u.mount('metacopy=off')
        for n in ('big', 'd/big'):
            fd = os.open(u.m(n), os.O_RDWR)
            t.fails(errno.ENOSPC, os.pwrite, fd, b'J', 0)
            t.eq(os.pread(fd, 2, 0), b'xx' if n == 'big' else b'yy')
            os.close(fd)
            t.fails(errno.ENOSPC, os.chmod, u.m(n), 0o600)
            t.fails(errno.ENOSPC, os.link, u.m(n), u.m(n + '2'))
            t.fails(errno.ENOSPC, os.rename, u.m(n), u.m(n + '2'))
            t.ok(not tree.exists(u.up(n)), n + ' is in the upper')
            t.eq(len(tree.read(u.m(n))), 5 << 20)
        staged = [n for n in u.staged() if os.path.isfile(os.path.join(u.work, 'work', n)) and
                  os.lstat(os.path.join(u.work, 'work', n)).st_size]
        t.eq(staged, [], 'staged')
        tree.append(u.m('little'), '!')
        os.close(os.open(u.m('big'), os.O_WRONLY | os.O_TRUNC))
        tree.write(u.m('big'), 'now small')
        t.eq(tree.text(u.m('big')), 'now small')
        t.fails(errno.ENOSPC, tree.write, u.m('new'), b'z' * (5 << 20))
        os.unlink(u.m('d/big'))
        u.umount()
    finally:
        u.cleanup()
        k.umount(u.root + '/small', k.MNT_DETACH)


@test(identities=('root', 'userns'))
def no_space_for_the_data(t):
    """Where there is room for metadata only, that can be changed; the first write gets ENOSPC and the
    lower's data shows on."""
    u = t.union()
    os.mkdir(u.root + '/small')
    k.mount('tmpfs', u.root + '/small', 'tmpfs', 0, 'size=2m')
    try:
        u.upper, u.work = u.root + '/small/upper', u.root + '/small/work'
        os.mkdir(u.upper)
        os.mkdir(u.work)
        os.mkdir(u.low('d'))
        tree.write(u.low('d/big'), b'x' * (5 << 20))
        u.mount()
        os.chmod(u.m('d/big'), 0o600)
        os.rename(u.m('d/big'), u.m('moved'))
        os.link(u.m('moved'), u.m('d/two'))
        os.rename(u.m('d'), u.m('e'))
        t.ok(u.is_metacopy('moved'), 'data was copied')
        t.eq(os.stat(u.up('moved')).st_blocks, 0)
        fd = os.open(u.m('moved'), os.O_RDWR)
        t.fails(errno.ENOSPC, os.pwrite, fd, b'J', 0)
        t.fails(errno.ENOSPC, os.ftruncate, fd, (5 << 20) - 1)
        os.close(fd)
        t.eq(os.stat(u.up('moved')).st_blocks, 0, 'blocks after a failed first write')
        for _ in range(2):
            for n in ('moved', 'e/two'):
                st = os.stat(u.m(n))
                t.eq((stat.S_IMODE(st.st_mode), st.st_size, st.st_nlink), (0o600, 5 << 20, 2))
                t.eq(tree.read(u.m(n)), b'x' * (5 << 20), n)
            u.remount()
        tree.write(u.m('e/two'), 'small')
        t.eq(tree.text(u.m('moved')), 'small')
        u.umount()
    finally:
        u.cleanup()
        k.umount(u.root + '/small', k.MNT_DETACH)


@test(identities=('root',))
def file_flags(t):
    """chattr flags of a lower: sync and noatime are kept, immutable and append are respected and
    not set on the real upper inode."""
    u = t.union(text='f i 1; f a 1; f s 1')
    for n, f in (('i', k.FS_IMMUTABLE_FL), ('a', k.FS_APPEND_FL), ('s', k.FS_SYNC_FL | k.FS_NOATIME_FL)):
        try:
            k.set_flags(u.low(n), k.get_flags(u.low(n)) | f)
        except OSError:
            t.skip('no file flags here')
    try:
        u.mount()
        t.fails(errno.EPERM, tree.append, u.m('i'), 'x')
        t.fails(errno.EPERM, os.unlink, u.m('i'))
        t.fails(errno.EPERM, os.chmod, u.m('i'), 0o600)
        t.fails(errno.EPERM, tree.write, u.m('a'), 'x')
        tree.append(u.m('a'), '2')
        os.chmod(u.m('s'), 0o600)
        t.eq(tree.text(u.m('a')), '12')
        got = k.get_flags(u.m('s'))
        t.ok(got & k.FS_SYNC_FL and got & k.FS_NOATIME_FL, 'flags after copy-up: %x' % got)
        t.ok(k.get_flags(u.m('i')) & k.FS_IMMUTABLE_FL)
        t.ok(k.get_flags(u.m('a')) & k.FS_APPEND_FL)
        t.ok(not k.get_flags(u.up('a')) & k.FS_APPEND_FL, 'append is set on the real inode')
        u.umount()
    finally:
        for n in 'ias':
            k.set_flags(u.low(n), k.get_flags(u.low(n)) & ~(k.FS_IMMUTABLE_FL | k.FS_APPEND_FL | k.FS_SYNC_FL |
                                                             k.FS_NOATIME_FL))


@test()
def origin_and_impure_marks(t):
    """The kernel's marks: origin on the copy, impure on its parent; none on new objects. A copied hard
    link has an origin if its other names find it by that."""
    for index in ('off', 'on'):
        _origin_and_impure(t, index)


def _origin_and_impure(t, index):
    u = t.mounted('f d/f 1; f d/g 1; h d/h d/g', 'index=' + index)
    os.chmod(u.m('d/f'), 0o600)
    os.chmod(u.m('d/g'), 0o600)
    tree.write(u.m('d/new'), '1')
    x = {n: os.listxattr(u.up(n)) for n in ('', 'd', 'd/f', 'd/g', 'd/new')}
    origin, impure = t.ns + '.overlay.origin', t.ns + '.overlay.impure'
    t.ok(impure in x[''] and impure in x['d'], 'impure: %r' % x)
    t.ok(origin in x['d'] and origin in x['d/f'], 'origin: %r' % x)
    t.eq(origin in x['d/g'], index == 'on', 'origin on a hard link, index=' + index)
    t.ok(origin not in x['d/new'])
    for n in ('d/f', 'd/g') if index == 'on' else ('d/f',):
        v = os.getxattr(u.up(n), origin)
        if v or n == 'd/g':
            typ, handle = k.file_handle(u.low(n))
            t.eq((v[0], v[1], v[2], v[4]), (0, 0xfb, len(v), typ & 0xff))
            t.eq(v[21:], handle)
    u.umount()


@test(identities=('root',))
def the_kernel_reads_our_upper(t):
    """The same layers mounted by the kernel's overlayfs show the same tree; with the default options if
    it has these on, too."""
    features = 'redirect_dir=%s,metacopy=%s,index=%s'
    _the_kernel_reads(t, (features % (('off',) * 3),), '')
    _the_kernel_reads(t, (), ',' + features % (('on',) * 3))


def _the_kernel_reads(t, opts, kernel_opts):
    u = t.union(lowers=2, text='f a 1; f d/x 1; f gone 1; f e/x 1; l l a; f hl 1')
    u.put('f b 2; f d/y 2; f e/y 2; h hl2 b; f dir/sub/x 2; f dir/y 2', 1)
    u.mount(*opts)
    t.sh('echo 2 >> a; rm gone; rm -r e; mkdir e; echo 3 > e/z; mv b c; chmod 600 d/y; ln hl hm;'
         'rm d/x; ln -sfn b l; mkdir -p n/o; touch n/o/p; mkfifo pp; mv dir/sub moved; mv dir n/dir;'
         'chmod 640 n/dir/y', cwd=u.mnt)
    seen = tree.snapshot(u.mnt)
    u.umount()
    try:
        k.mount('overlay', u.mnt, 'overlay', 0, 'lowerdir=%s,upperdir=%s,workdir=%s%s' %
                (':'.join(u.lowers), u.upper, u.work, kernel_opts))
    except OSError as e:
        t.skip('no kernel overlayfs here: %s' % e)
    try:
        t.same_tree(seen, tree.snapshot(u.mnt))
    finally:
        k.umount(u.mnt)
    u.check_layers = False
    u.mount(*opts)
    t.same_tree(seen, tree.snapshot(u.mnt), 'ours after the kernel')
    u.umount()


@test(identities=('root',))
def groups_of_directories(t):
    """A file system that gives new files their directory's group (grpid): owner, mode and capabilities
    are the lower's all the same."""
    t.need('mkfs.ext4')
    cap = struct.pack('<5I', 0x02000001, 0x400, 0, 0, 0)
    d = t.dir + '/grpid'
    os.mkdir(d)
    t.sh('truncate -s 64M grpid.img; mkfs.ext4 -q grpid.img; mount -o loop,grpid grpid.img grpid', cwd=t.dir)
    u = t.union(root=d + '/u', text='f f hello 755; f data hello 755; d d')
    for n in ('f', 'data'):
        os.setxattr(u.low(n), 'security.capability', cap)
    os.chown(u.work, 0, 1000)
    u.mount()
    os.utime(u.m('f'), ns=(1, 2))
    os.link(u.m('data'), u.m('other'))
    os.chmod(u.m('d'), 0o700)
    for n in ('f', 'data', 'd'):
        st = os.lstat(u.up(n))
        t.eq((st.st_uid, st.st_gid), (0, 0), n)
    for n in ('f', 'data', 'other'):
        t.eq(os.getxattr(u.m(n), 'security.capability'), cap, n)
    u.umount()
    k.umount(d)
