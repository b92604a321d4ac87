# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that callers of fuse-overlayfs give: what they change, and what they leave alone."""
import errno
import os

from lib import k, test, tree
from lib.overlay import said

MANY = 'd d/a; d d/b; d d/c; f d/f 1; d e'


def _nlinks(d):
    """Of d as stat, and as a listing with attributes, has it."""
    return [os.stat(d).st_nlink] + [e.stat(follow_symlinks=False).st_nlink for e in os.scandir(d) if e.is_dir()]


@test()
def static_nlink(t):
    """Every directory has one link, from whatever layer; files keep their count."""
    u = t.union(text=MANY + '; h d/f2 d/f')
    if t.fs == 'btrfs':
        t.skip('directories have one link there')
    u.mount()
    t.eq(os.stat(u.m('d')).st_nlink, 5)
    u.umount()
    u.mount('static_nlink')
    os.makedirs(u.m('new/x'))
    for d in ('d', 'e', 'new', 'new/x', '.'):
        t.eq(set(_nlinks(u.m(d))), {1}, d)
    t.eq(os.stat(u.m('d/f')).st_nlink, 2)
    fd = os.open(u.m('new/x'), os.O_RDONLY)
    os.rmdir(u.m('new/x'))
    t.eq(os.fstat(fd).st_nlink, 0)
    os.close(fd)
    t.run('rm', '-r', u.m('new'), u.m('d'))
    t.eq(tree.names(u.mnt), ['e'])


@test(identities=('root', 'userns'))
def ino32_t(t):
    """No number needs more than 32 bits, not of a second file system either; stat and listing agree."""
    u = t.union(lowers=2, text='f a 1; f m/x 1')
    k.mount('tmpfs', u.lowers[1], 'tmpfs')
    u.check_lowers = False
    u.put('f b 1; f n/y 1; f m/z 1', 1)
    for opts, small in (((), False), (('ino32_t',), True)):
        u.mount(*opts)
        seen = {}
        for d in ('.', 'm', 'n'):
            for ino, _, n in k.listing(u.m(d)):
                seen[d + '/' + n] = ino
                if n != '..':
                    t.eq(os.lstat(u.m(d + '/' + n)).st_ino, ino, n)
        t.ok(all(seen.values()))
        t.eq(all(i < 1 << 32 for i in seen.values()), small, str(seen))
        before = os.stat(u.m('n/y')).st_ino
        tree.append(u.m('n/y'), '2')
        t.eq(os.stat(u.m('n/y')).st_ino, before)
        fd = os.open(u.m('m'), os.O_TMPFILE | os.O_RDWR)
        t.ok(0 < os.fstat(fd).st_ino and (not small or os.fstat(fd).st_ino < 1 << 32))
        os.close(fd)
        u.umount()
    k.umount(u.lowers[1])


@test(needs=('setfacl', 'getfacl'))
def noacl(t):
    """No ACL is seen, read or set, and the layers keep theirs; other attributes are there as ever."""
    u = t.union(text='f f 1 640; d d; f plain 1; x f user.k v; x d user.k v')
    me = os.getuid()
    t.run('setfacl', '-m', 'u:%d:rw' % me, u.low('f'))
    t.run('setfacl', '-m', 'd:u:%d:rwx' % me, u.low('d'))
    names = ('system.posix_acl_access', 'system.posix_acl_default')
    u.mount()
    t.ok(names[0] in os.listxattr(u.m('f')))
    u.umount()
    u.mount('noacl')
    for n, acl in (('f', names[0]), ('d', names[1])):
        t.eq(os.listxattr(u.m(n)), ['user.k'])
        t.eq(os.getxattr(u.m(n), 'user.k'), b'v')
        t.fails(errno.EOPNOTSUPP, os.getxattr, u.m(n), acl)
        t.fails(errno.EOPNOTSUPP, os.removexattr, u.m(n), acl)
        t.fails(errno.EOPNOTSUPP, os.setxattr, u.m(n), acl, os.getxattr(u.low(n), acl))
    t.eq(os.listxattr(u.m('plain')), [])
    t.ok(t.sh('setfacl -m u:%d:r plain && echo done || true' % me, cwd=u.mnt).find('done') < 0)
    tree.append(u.m('f'), '2')
    os.chmod(u.m('d'), 0o700)
    t.ok(names[0] in os.listxattr(u.up('f')) and names[1] in os.listxattr(u.up('d')), 'lost in a copy-up')
    os.mkfifo(u.m('p'))
    u.umount()
    u.mount()
    t.ok(names[1] in os.listxattr(u.m('d')))


@test()
def without_effect(t):
    """Taken, with a line in the log where the caller may have expected something."""
    u = t.union(text='f f 1')
    u.mount('private,splice_read,splice_write,splice_move,no_splice_read,threaded=1,fast_ino=0')
    t.eq([s for s in said(u, 'warn') + said(u, 'ignor') if 'suid' not in s], [])
    u.umount()
    u.mount('fast_ino,threaded=0,plugins=/x.so')
    t.eq([len(said(u, "'%s' has no effect" % o)) for o in ('fast_ino', 'threaded=0', 'plugins=/x.so')], [1, 1, 1])


def _selinux(directory, there):
    """Runs as root: the kernel's list of file systems in this namespace, with that of SELinux or without."""
    with open('/proc/filesystems') as f:
        lines = [s for s in f.read().split('\n') if 'selinuxfs' not in s]
    tree.write(directory + '/filesystems', '\n'.join(['nodev\tselinuxfs'] * there + lines))
    k.mount(directory + '/filesystems', '/proc/filesystems', None, k.MS_BIND)


LABELS = 'context="system_u:object_r:container_file_t:s0:c1,c2",rootcontext=a'


@test(prepare=lambda directory: _selinux(directory, False))
def labels_without_selinux(t):
    """One line says that they have no effect."""
    u = t.mounted('f f 1', LABELS, 'noatime')
    t.eq(len(said(u, 'have no effect: the kernel has no SELinux')), 1)
    t.eq(len(said(u, 'warning')), 1)
    t.ok('context' not in k.mounted_at(u.mnt)[0][4])
    t.eq(tree.text(u.m('f')), '1')


@test(prepare=lambda directory: _selinux(directory, True))
def labels_with_selinux(t):
    """Root's labels go to mount(2), which here (a kernel that only looks as if it had SELinux) does not know
    them; in a user namespace and through fusermount3 nobody may give any, and the mount is made without."""
    if os.path.exists('/sys/fs/selinux/enforce'):
        t.skip('this kernel has SELinux; the test needs one without')
    u = t.union(text='f f 1')
    if t.root:
        try:
            u.mount(LABELS)
        except AssertionError as e:
            t.ok('Invalid argument (with SELinux labels' in str(e), str(e))
        t.ok(u.proc is None, 'mounted')
        u.mount()
        return
    u.mount(LABELS)
    t.eq(len(said(u, 'have no effect: it takes root')), 1)
    t.eq(tree.text(u.m('f')), '1')


@test()
def read_ahead(t):
    """read_ahead= below the kernel's own is for anybody, above it for root; it shows in the READs that a large file takes."""
    u = t.union()
    with open(u.low('big'), 'wb') as f:
        f.write(os.urandom(2 << 20))

    def reads():
        fd = os.open(u.m('big'), os.O_RDONLY)
        while os.read(fd, 32768):
            pass
        os.close(fd)

    def kib():
        dev = os.stat(u.mnt).st_dev
        with open('/sys/class/bdi/%d:%d/read_ahead_kb' % (os.major(dev), os.minor(dev))) as f:
            return int(f.read())
    u.mount()
    own = kib()
    usual = u.requests_during(reads)['READ']
    u.umount()
    u.mount('read_ahead=16384')
    t.eq(kib(), 16)
    t.ok(u.requests_during(reads)['READ'] >= 2 * usual)
    t.eq([l for l in u.log_text().split('\n') if 'reads ahead' in l], [])
    u.umount()
    u.mount('read_ahead=1048576')
    if t.root:
        t.eq(kib(), 1024)
        t.ok(u.requests_during(reads)['READ'] <= usual // 2)
    else:
        t.eq(kib(), own)
        t.ok('the kernel reads ahead as far as it does by itself' in u.log_text())
