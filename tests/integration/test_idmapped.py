# SPDX-License-Identifier: GPL-2.0-or-later
"""
Idmapped mounts of ours (Linux 6.12): the ids of the layers shown as others. Since these are allowed, most
requests come without the caller's ids, on every mount: nobody may have more rights by that.
"""
import errno
import os
import stat

from lib import Skip, k, test, tree
from lib.overlay import said

BASE = 100000


def _idmapped(t, text, *opts):
    """A union, and where it is mounted once more with id N of the layers as BASE + N."""
    u = t.mounted(text, 'debug', *opts)
    if tuple(map(int, os.uname().release.split('.')[:2])) < (6, 12):
        raise Skip('Linux 6.12 is the first with idmapped FUSE mounts')
    at = t.dir + '/idmapped'
    os.makedirs(at, exist_ok=True)
    ns = k.user_namespace('0 %d 60000' % BASE)
    try:
        k.idmapped(u.mnt, at, ns)
    finally:
        os.close(ns)
    return u, at


def _ids(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid


def _make_all(at):
    os.mkdir(at + '/dir')
    os.symlink('x', at + '/link')
    os.mkfifo(at + '/fifo')
    tree.write(at + '/file', 'x')
    fd = os.open(at, os.O_TMPFILE | os.O_RDWR)
    k.link_fd(fd, at + '/tmp')
    os.close(fd)
    os.rename(at + '/file', at + '/file2')
    os.link(at + '/file2', at + '/file')


def _tmpfile(d):
    os.close(os.open(d, os.O_TMPFILE | os.O_RDWR))


@test(identities=('root',), everywhere=True)
def owners(t):
    """Seen, made and given through the mapping; the layers hold the other side of it."""
    u, at = _idmapped(t, 'd open 777; f f hello; f d/x 1; f gone 1; f m 1')
    os.chown(u.m('m'), 7, 8)
    t.eq((_ids(at + '/f'), _ids(at + '/m'), _ids(at)), ((BASE, BASE), (BASE + 7, BASE + 8), (BASE, BASE)))
    t.as_user(BASE, _make_all, at)
    t.as_user(BASE + 5, _make_all, at + '/open', gid=BASE + 6)
    for n in ('dir', 'link', 'fifo', 'file', 'file2', 'tmp'):
        t.eq((_ids(u.m(n)), _ids(u.up(n)), _ids('%s/%s' % (at, n))), ((0, 0), (0, 0), (BASE, BASE)), n)
        t.eq((_ids(u.up('open/' + n)), _ids('%s/open/%s' % (at, n))), ((5, 6), (BASE + 5, BASE + 6)), n)
    os.chown(at + '/f', BASE + 3, BASE + 4)
    t.eq((_ids(u.up('f')), _ids(u.m('f')), _ids(at + '/f')), ((3, 4), (3, 4), (BASE + 3, BASE + 4)))
    t.as_user(BASE, os.unlink, at + '/gone')
    t.ok(not tree.exists(u.m('gone')))
    # who is not in the map owns nothing here and makes nothing
    for fn, args in ((os.mkdir, (at + '/no',)), (os.chown, (at + '/f', 1, 1)), (_tmpfile, (at,)),
                     (t.as_user, (BASE + 70000, _tmpfile, at + '/open'))):
        t.fails((errno.EOVERFLOW, errno.EINVAL), fn, *args)
    t.fails(errno.EOVERFLOW, t.as_user, BASE + 1, _tmpfile, at + '/open', gid=9)
    k.umount(at)


@test(identities=('root',))
def permissions(t):
    """By the mapped owner: the ids of the layer have no rights by being these."""
    u, at = _idmapped(t, 'f mine 600; f d/x 1; f secret no 600; d closed 700')
    os.chown(u.m('mine'), 5, 5)
    t.as_user(BASE + 5, os.chmod, at + '/mine', 0o640)
    t.as_user(BASE + 5, tree.append, at + '/mine', '+')
    for uid in (5, 1000, BASE + 6):
        t.fails((errno.EPERM, errno.EACCES), t.as_user, uid, os.chmod, at + '/mine', 0o666)
        t.fails(errno.EACCES, t.as_user, uid, tree.append, at + '/mine', '+')
        t.fails(errno.EACCES, t.as_user, uid, tree.read, at + '/secret')
        t.fails(errno.EACCES, t.as_user, uid, os.unlink, at + '/d/x')
        t.fails((errno.EACCES, errno.EOVERFLOW), t.as_user, uid, os.mkdir, at + '/d/new')
        t.fails(errno.EACCES, t.as_user, uid, os.listdir, at + '/closed')
    t.eq(tree.names(u.m('d')), ['x'])
    k.umount(at)


@test(identities=('root',))
def requests_without_ids(t):
    """The kernel does leave them out (or this tests nothing); no set-id bit outlives a change by it, root's
    own changes leave them, and trusted.* is listed for root only."""
    u, at = _idmapped(t, 'f prog x; f prog2 x; f f 1; x f trusted.k v; x f user.k v')
    os.listxattr(u.m('f'))
    t.ok(said(u, 'LISTXATTR') and all('uid 4294967295' in s for s in said(u, 'LISTXATTR')), 'ids are there')
    t.ok('trusted.k' in os.listxattr(u.m('f')) and 'trusted.k' in os.listxattr(at + '/f'))
    for uid in (1000, BASE):
        for p in (u.m('f'), at + '/f'):
            t.eq(t.as_user(uid, os.listxattr, p), ['user.k'])
    for n, where, uid in (('prog', at, BASE + 5), ('prog2', u.mnt, 5)):
        os.chown(u.m(n), 5, 5)
        p = '%s/%s' % (where, n)

        def fallocate():
            fd = os.open(p, os.O_RDWR)
            k.fallocate(fd, 0, 0, 100)
            os.close(fd)
        for change in (lambda: tree.append(p, '+'), lambda: os.truncate(p, 2), fallocate):
            os.chmod(u.m(n), 0o6775)
            change()
            t.eq(oct(os.stat(u.m(n)).st_mode & 0o7777), '0o6775', 'changed by root')
            t.as_user(uid, change)
            t.eq(oct(os.stat(u.up(n)).st_mode & 0o7777), '0o775', n)
    k.umount(at)


@test(identities=('root',), needs=('setfacl', 'getfacl'))
def acls(t):
    """Ids in ACLs, too, are on the layer's side in the layer."""
    u, at = _idmapped(t, 'f f x 600; d d')
    t.run('setfacl', '-m', 'u:%d:rw' % (BASE + 10), at + '/f')
    t.ok('user:10:rw' in t.run('getfacl', '-pn', u.up('f')), 'in the layer')
    t.as_user(BASE + 10, tree.append, at + '/f', 'y')
    t.fails(errno.EACCES, t.as_user, BASE + 11, tree.read, at + '/f')
    t.as_user(10, tree.read, u.m('f'))
    k.umount(at)


@test(identities=('root',))
def where_it_is_not_offered(t):
    """allow_root needs the callers' ids, and says no to the kernel."""
    u = t.mounted('f f 1', 'allow_root')
    ns = k.user_namespace('0 %d 60000' % BASE)
    os.mkdir(t.dir + '/no')
    t.fails(errno.EINVAL, k.idmapped, u.mnt, t.dir + '/no', ns)
    os.close(ns)
    t.ok(stat.S_ISREG(os.stat(u.m('f')).st_mode))
    t.fails(errno.EACCES, t.as_user, 1000, os.stat, u.m('f'))
