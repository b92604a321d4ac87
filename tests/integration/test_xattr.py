# SPDX-License-Identifier: GPL-2.0-or-later
"""Extended attributes: every namespace the layers allow, the overlay's marks hidden."""
import errno
import os

from lib import test, tree


def _x(p):
    return sorted(os.listxattr(p, follow_symlinks=False))


@test(everywhere=True)
def as_on_the_plain_fs(t):
    """set, get, list, replace, remove, limits and errors, on files, directories and others."""
    names = ['user.a', 'user.b', 'user.' + 'n' * 250, 'user.' + 'n' * 251, 'user.', 'nonsense', 'odd.x']
    if t.root:
        names += ['trusted.t', 'security.mine']

    def action(d):
        out = []

        def tried(fn, *a, **kw):
            what = (fn.__name__, os.path.relpath(a[0], d) if a and isinstance(a[0], str) else '') + a[1:2] + a[3:4]
            try:
                r = fn(*a, **kw)
                out.append((what, sorted(r) if isinstance(r, list) else r))
            except OSError as e:
                out.append((what, errno.errorcode[e.errno]))
        for n in ('f', 'd', 'l', 'p', 'd/deep'):
            p = d + '/' + n
            for x in names:
                tried(os.getxattr, p, x, follow_symlinks=False)
                tried(os.removexattr, p, x, follow_symlinks=False)
                tried(os.setxattr, p, x, b'v1', os.XATTR_REPLACE, follow_symlinks=False)
                tried(os.setxattr, p, x, b'v2', os.XATTR_CREATE, follow_symlinks=False)
                tried(os.setxattr, p, x, b'v3', os.XATTR_CREATE, follow_symlinks=False)
                tried(os.setxattr, p, x, b'', follow_symlinks=False)
                tried(os.getxattr, p, x, follow_symlinks=False)
                tried(os.setxattr, p, x, bytes(range(256)), follow_symlinks=False)
                tried(os.getxattr, p, x, follow_symlinks=False)
            tried(lambda: [x for x in os.listxattr(p, follow_symlinks=False)])
            tried(os.removexattr, p, 'user.a', follow_symlinks=False)
            tried(os.removexattr, p, 'user.a', follow_symlinks=False)
            tried(lambda: [x for x in os.listxattr(p, follow_symlinks=False)])
        tried(os.setxattr, d + '/f', 'user.big', b'x' * 65537)
        tried(os.getxattr, d + '/missing', 'user.a')
        fd = os.open(d + '/f', os.O_RDONLY)
        tried(os.setxattr, fd, 'user.fd', b'fd')
        tried(os.getxattr, fd, 'user.fd')
        tried(os.listxattr, fd)
        os.close(fd)
        return out
    t.as_plain(action, 'f f hello; d d; f d/deep 1; l l nowhere; p p; x f user.a before; x d user.b b')


@test()
def values_of_many_sizes(t):
    """From empty to what the file system takes; lists longer than a page."""
    u = t.mounted('f f 1')
    p = u.m('f')
    for size in (0, 1, 100, 1000, 2000):
        os.setxattr(p, 'user.v', b'z' * size)
        t.eq(len(os.getxattr(p, 'user.v')), size)
    want = set()
    try:
        for i in range(60):
            os.setxattr(p, 'user.name-%s-%d' % ('x' * 100, i), b'')
            want.add('user.name-%s-%d' % ('x' * 100, i))
    except OSError as e:
        t.eq(e.errno, errno.ENOSPC)
    t.eq(set(_x(p)) - {'user.v'}, want)
    u.remount()
    t.eq(set(_x(p)) - {'user.v'}, want)


@test()
def warm_answers_follow_changes(t):
    """"No xattr" is answered from memory: it must not outlive a set, a copy-up or a rename."""
    u = t.mounted('f f 1; f g 1; x g user.k old; d d')
    p = u.m('f')
    for _ in range(3):
        t.fails(errno.ENODATA, os.getxattr, p, 'user.k')
        t.eq(_x(p), [])
    os.setxattr(p, 'user.k', b'v')
    t.eq((os.getxattr(p, 'user.k'), _x(p)), (b'v', ['user.k']))
    os.removexattr(p, 'user.k')
    t.fails(errno.ENODATA, os.getxattr, p, 'user.k')
    t.eq(_x(p), [])
    t.eq(os.getxattr(u.m('g'), 'user.k'), b'old')
    os.rename(u.m('g'), u.m('f'))
    t.eq(os.getxattr(u.m('f'), 'user.k'), b'old')
    tree.write(u.m('g'), 'new')
    t.fails(errno.ENODATA, os.getxattr, u.m('g'), 'user.k')


@test()
def marks_are_hidden(t):
    """Marks of the namespace in use are not listed and cannot be read through the mount."""
    u = t.mounted('f d/f 1; f gone/x 1')
    os.chmod(u.m('d/f'), 0o600)
    t.sh('rm -r gone; mkdir gone', cwd=u.mnt)
    for rel in ('', 'd', 'd/f', 'gone'):
        t.ok([x for x in _x(u.up(rel)) if '.overlay.' in x], 'no marks on ' + rel)
        t.eq([x for x in _x(u.m(rel)) if 'overlay' in x], [], rel)
    for x in ('origin', 'impure', 'opaque', 'uuid', 'redirect', 'metacopy', 'whiteout', 'protattr'):
        for rel in ('', 'd', 'd/f', 'gone'):
            t.fails(errno.ENODATA, os.getxattr, u.m(rel), '%s.overlay.%s' % (t.ns, x))
            t.fails(errno.ENODATA, os.removexattr, u.m(rel), '%s.overlay.%s' % (t.ns, x))


@test()
def nested_marks_are_escaped(t):
    """An overlay inside the union stores its marks one level deeper; the outer never obeys them."""
    u = t.mounted('f d/low 1; f f 1')
    q = t.ns + '.overlay.'
    for level in ('opaque', 'overlay.opaque', 'redirect', 'whatever'):
        os.setxattr(u.m('d'), q + level, b'y')
        t.eq(os.getxattr(u.m('d'), q + level), b'y')
        t.eq(os.getxattr(u.up('d'), q + 'overlay.' + level), b'y')
    os.setxattr(u.m('f'), q + 'whiteout', b'')
    t.eq(tree.names(u.m('d')), ['low'], 'a nested mark was obeyed')
    for _ in range(2):
        t.eq([x for x in _x(u.m('d')) if 'overlay' in x],
             sorted(q + x for x in ('opaque', 'overlay.opaque', 'redirect', 'whatever')))
        t.ok(tree.exists(u.m('f')) and 'f' in os.listdir(u.mnt))
        u.remount()
    os.removexattr(u.m('d'), q + 'opaque')
    t.fails(errno.ENODATA, os.getxattr, u.up('d'), q + 'overlay.opaque')
    name = q + 'n' * (255 - len(q))
    t.fails((errno.EOPNOTSUPP, errno.ERANGE), os.setxattr, u.m('d'), name, b'v')


@test()
def nested_marks_of_a_lower_are_copied_up(t):
    q = t.ns + '.overlay.'
    u = t.union(text='d d; f f 1')
    os.setxattr(u.low('d'), q + 'overlay.opaque', b'y')
    os.setxattr(u.low('f'), q + 'overlay.metacopy', b'')
    u.mount()
    os.chmod(u.m('d'), 0o700)
    os.chmod(u.m('f'), 0o600)
    t.eq(os.getxattr(u.m('d'), q + 'opaque'), b'y')
    t.eq(os.getxattr(u.up('d'), q + 'overlay.opaque'), b'y')
    t.eq(os.getxattr(u.m('f'), q + 'metacopy'), b'')


@test()
def symlinks_are_not_followed(t):
    """xattr calls on symlinks, also on ones that point into the mount itself (where a daemon that
    follows them asks itself and hangs), dangling ones and loops."""
    u = t.union(text='f f 1; x f user.k target; l rel f; l dangling no; l loop loop')
    os.symlink(u.m('f'), u.low('abs'))
    os.symlink(u.m('sub'), u.low('absdir'))
    u.put('f sub/x 1')
    u.mount()
    os.symlink(u.m('f'), u.m('newabs'))
    for n in ('rel', 'dangling', 'loop', 'abs', 'absdir', 'newabs'):
        p = u.m(n)
        t.eq(os.listxattr(p, follow_symlinks=False), [], n)
        t.fails((errno.ENODATA, errno.EPERM), os.getxattr, p, 'user.k', follow_symlinks=False)
        t.fails(errno.EPERM, os.setxattr, p, 'user.k', b'v', follow_symlinks=False)
        if t.root:
            t.fails(errno.ENODATA, os.getxattr, p, 'trusted.k', follow_symlinks=False)
            os.setxattr(p, 'trusted.k', b'on the link', follow_symlinks=False)
            t.eq(os.getxattr(p, 'trusted.k', follow_symlinks=False), b'on the link')
            os.removexattr(p, 'trusted.k', follow_symlinks=False)
    t.eq(_x(u.m('f')), ['user.k'])
    t.eq(os.getxattr(u.m('abs'), 'user.k'), b'target')


@test()
def noxattrs(t):
    """The option refuses every xattr call; the rest works."""
    u = t.union(text='f f 1; x f user.k v; f d/x 1')
    for opt in ('noxattrs', 'noxattrs=1'):
        u.mount(opt)
        t.fails(errno.EOPNOTSUPP, os.getxattr, u.m('f'), 'user.k')
        t.fails(errno.EOPNOTSUPP, os.setxattr, u.m('f'), 'user.k', b'v')
        try:
            t.eq(os.listxattr(u.m('f')), [])
        except OSError as e:
            t.eq(e.errno, errno.EOPNOTSUPP)
        tree.write(u.m('n'), 'x')
        os.chmod(u.m('f'), 0o600)
        u.umount()
    u.mount('noxattrs=0')
    t.eq(os.getxattr(u.m('f'), 'user.k'), b'v')
    t.eq(os.getxattr(u.up('f'), 'user.k'), b'v', 'lost in the copy-up under noxattrs')


@test(identities=('root',))
def trusted_only_for_root(t):
    """trusted.* is for CAP_SYS_ADMIN: others neither list nor read nor set it."""
    u = t.union(text='f f 1 666')
    os.setxattr(u.low('f'), 'trusted.t', b'v')
    u.mount()
    t.ok('trusted.t' in _x(u.m('f')))
    t.eq(t.as_user(1000, _x, u.m('f')), [])
    t.fails((errno.ENODATA, errno.EPERM), t.as_user, 1000, os.getxattr, u.m('f'), 'trusted.t')
    t.fails(errno.EPERM, t.as_user, 1000, os.setxattr, u.m('f'), 'trusted.u', b'v')
    t.as_user(1000, os.setxattr, u.m('f'), 'user.u', b'v')
    t.eq(os.getxattr(u.m('f'), 'user.u'), b'v')


@test(identities=('root',), needs=('setcap', 'getcap'))
def file_capabilities(t):
    """setcap on lower and new files, as the layer's file system keeps it."""
    u = t.mounted('f f 1 755; d d')
    tree.write(u.m('n'), '1')
    for n in 'fn':
        t.run('setcap', 'cap_net_raw+ep', u.m(n))
        t.ok('cap_net_raw' in t.run('getcap', u.m(n)))
    u.remount()
    for n in 'fn':
        t.ok('cap_net_raw' in t.run('getcap', u.m(n)))
        t.ok('cap_net_raw' in t.run('getcap', u.up(n)))


@test()
def root_directory(t):
    u = t.mounted('f f 1')
    os.setxattr(u.mnt, 'user.k', b'v')
    t.eq(os.getxattr(u.mnt, 'user.k'), b'v')
    u.remount()
    t.eq(_x(u.mnt), ['user.k'])
    os.removexattr(u.mnt, 'user.k')
    t.eq(_x(u.mnt), [])


@test()
def changed_by_others_without_caches(t):
    """With timeout=0 the layers are asked: nobody tells what has changed there."""
    u = t.mounted('f f 1; d d; f d/up 1', 'timeout=0')
    u.check_lowers = False
    tree.write(u.m('up'), '1')
    os.mkdir(u.m('dir'))
    for n in ('f', 'd', 'd/up', 'up', 'dir', 'd/up'):
        real = u.up(n) if n in ('up', 'dir') else u.low(n)
        t.eq(_x(u.m(n)), [], n)
        os.setxattr(real, 'user.k', b'v')
        t.eq((_x(u.m(n)), os.getxattr(u.m(n), 'user.k')), (['user.k'], b'v'), n)
        os.removexattr(real, 'user.k')
        t.eq(_x(u.m(n)), [], n)
    u.umount()
