# SPDX-License-Identifier: GPL-2.0-or-later
"""Set-id bits and capabilities are dropped as on ext4, and the kernel is told in time (2.2)."""
import ctypes
import mmap
import os
import shutil
import stat
import subprocess

from lib import k, test, tree

CAP = bytes.fromhex('0100000200200000000000000000000000000000')


def _write(p):
    fd = os.open(p, os.O_WRONLY)
    os.pwrite(fd, b'J', 0)
    os.close(fd)


def _append(p):
    tree.append(p, 'x')


def _truncate(p):
    os.truncate(p, 2)


def _ftruncate(p):
    fd = os.open(p, os.O_RDWR)
    os.ftruncate(fd, 2)
    os.close(fd)


def _open_trunc(p):
    os.close(os.open(p, os.O_WRONLY | os.O_TRUNC))


def _fallocate(p):
    fd = os.open(p, os.O_RDWR)
    k.fallocate(fd, 0, 0, 8192)
    os.close(fd)


def _copy_range(p):
    src = os.open(p + '.src', os.O_RDONLY)
    fd = os.open(p, os.O_RDWR)
    os.copy_file_range(src, fd, 4)
    os.close(fd)
    os.close(src)


def _mapped(p):
    fd = os.open(p, os.O_RDWR)
    with mmap.mmap(fd, 5) as m:
        m[0:1] = b'J'
        m.flush()
    os.close(fd)


def _chown(p):
    os.chown(p, -1, os.getgid())


CHANGES = (_write, _append, _truncate, _ftruncate, _open_trunc, _fallocate, _copy_range, _chown)


def _after(t, d, change, mode, uid, cap):
    """Mode and capability after @change by @uid of a file of @mode, owned by that user."""
    p = d + '/f'
    owner = uid if change is _chown else 0
    os.chown(p, owner, owner)
    os.chmod(p, mode)
    if cap:
        os.setxattr(p, 'security.capability', CAP)
    os.stat(p)
    t.as_user(uid, change, p)
    has = 'security.capability' in os.listxattr(p)
    return oct(stat.S_IMODE(os.stat(p).st_mode)), has


@test(identities=('root',), everywhere=True, timeout=180)
def every_change_as_on_the_plain_fs(t):
    """write, append, truncate, fallocate, copy_file_range, chown; by root and by others; on lower
    and upper files; also set-gid without group execution."""
    plain = t.plain()
    for change in CHANGES:
        for uid in (0, 1000):
            for mode, cap in ((0o6777, False), (0o4766, False), (0o2767, False), (0o777, True)):
                what = '%s by %d on %o%s' % (change.__name__, uid, mode, ' with a capability' if cap else '')
                if mode == 0o2767 and uid and change is not _chown:
                    continue        # see set_gid_without_group_execution
                tree.build(plain, 'f f hello; f f.src other')
                want = _after(t, plain, change, mode, uid, cap)
                for where in ('low', 'up'):
                    u = t.union(text='f f hello; f f.src other', name='u-' + where)
                    u.check_lowers = False
                    u.mount()
                    if where == 'up':
                        os.utime(u.m('f'))
                    got = _after(t, u.mnt, change, mode, uid, cap)
                    t.eq(got, want, what + ', ' + where)
                    u.umount()
                    shutil.rmtree(u.root)


@test(identities=('root',))
def set_gid_without_group_execution(t):
    """A writer outside the group: cleared as ext4 does it."""
    u = t.mounted('f f hello 2766')
    os.chown(u.m('f'), 0, 0)
    os.chmod(u.m('f'), 0o2766)
    t.as_user(1000, _write, u.m('f'))
    p = t.plain() + '/f'
    tree.write(p, 'hello')
    os.chmod(p, 0o2766)
    t.as_user(1000, _write, p)
    t.eq(oct(os.stat(u.m('f')).st_mode), oct(os.stat(p).st_mode))


def _exec_id(uid, p):
    return subprocess.run([p, '-u'], stdout=subprocess.PIPE, check=True).stdout.strip().decode()


def _exec_after_change(t, u, change):
    p = u.m('id')
    t.eq(t.as_user(1000, _exec_id, 1000, p), '0', 'a set-uid program does not run as its owner')
    t.as_user(1000, change, p)
    # No stat in between: the kernel must know by now.
    t.eq(t.as_user(1000, _exec_id, 1000, p), '1000', 'runs with its old rights after ' + change.__name__)
    t.eq(stat.S_IMODE(os.stat(p).st_mode), 0o777)


def _keep_write(p):
    """Change without changing: the program must still run."""
    fd = os.open(p, os.O_RDWR)
    b = os.pread(fd, 1, 0)
    os.pwrite(fd, b, 0)
    os.close(fd)


def _keep_fallocate(p):
    fd = os.open(p, os.O_RDWR)
    k.fallocate(fd, k.FALLOC_KEEP_SIZE, 0, 4096)
    os.close(fd)


def _keep_copy(p):
    fd = os.open(p, os.O_RDWR)
    src = os.open('/usr/bin/id', os.O_RDONLY)
    ctypes.CDLL(None).posix_fadvise(src, 0, 0, 0)
    data = os.read(src, 4096)
    fd2 = os.open(os.path.dirname(p) + '/open/copy', os.O_CREAT | os.O_RDWR)
    os.write(fd2, data)
    os.copy_file_range(fd2, fd, 4096, 0, 0)
    for f in (fd, fd2, src):
        os.close(f)


@test(identities=('root',))
def exec_after_a_write_by_another_user(t):
    """A non-root user changes a set-uid root program: the next execution has no rights left, with
    and without write-back, on lower and copied-up files."""
    for opts in ((), ('writeback=1',), ('timeout=0',)):
        for change in (_keep_write, _keep_fallocate, _keep_copy):
            for where in ('low', 'up'):
                name = 'u%d' % len(t.unions)
                u = t.union(name=name, text='d open 777')
                shutil.copy('/usr/bin/id', u.low('id'))
                os.chmod(u.low('id'), 0o4777)
                u.mount(*opts)
                if where == 'up':
                    os.utime(u.m('id'))
                _exec_after_change(t, u, change)
                u.umount()


@test(identities=('root',))
def mapped_write(t):
    """A write through a shared mapping by another user drops the bits as on the plain fs."""
    results = []
    u = t.mounted('f f hello')
    for d in (t.plain(), u.mnt):
        p = d + '/f'
        tree.write(p, 'hello')
        os.chmod(p, 0o4777)
        t.as_user(1000, _mapped, p)
        results.append(oct(os.stat(p).st_mode))
    t.eq(results[1], results[0])


@test(identities=('root',))
def root_keeps_the_bits(t):
    """Root's writes leave set-id bits (as on ext4), many times over, and also after stats."""
    u = t.mounted('f f hello 6755')
    for i in range(20):
        tree.append(u.m('f'), 'x')
        t.eq(stat.S_IMODE(os.stat(u.m('f')).st_mode), 0o6755)
    t.eq(stat.S_IMODE(os.stat(u.up('f')).st_mode), 0o6755)


@test(identities=('root',))
def suid_and_dev_are_the_default_for_root(t):
    """As uid 0 allow_other, suid and dev hold without being asked for; `nosuid` and `nodev` win."""
    u = t.union(text='f f hello 644; c null 1:3; m null 666')
    shutil.copy('/usr/bin/id', u.low('id'))
    os.chmod(u.low('id'), 0o4755)
    u.mount()
    t.eq(t.as_user(1000, _exec_id, 1000, u.m('id')), '0')
    t.as_user(1000, tree.write, u.m('null'), 'x', os.O_WRONLY)
    t.eq(t.as_user(1000, tree.text, u.m('f')), 'hello')
    u.umount()
    u.mount('nosuid', 'nodev')
    t.eq(t.as_user(1000, _exec_id, 1000, u.m('id')), '1000')
    t.fails(13, tree.write, u.m('null'), 'x', os.O_WRONLY)
