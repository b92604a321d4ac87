# SPDX-License-Identifier: GPL-2.0-or-later
"""POSIX ACLs, default ACLs, umask and set-gid inheritance: what ext4 does, we do."""
import os
import re
import stat

from lib import test, tree

ACL, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'


def _ids(t, script):
    """In a user namespace only its own id exists."""
    return re.sub(r'\b(100[0-9]|7)\b', '0', script) if t.identity == 'userns' else script


def _acl_works(t, d):
    p = d + '/acl-probe'
    tree.write(p, '')
    out = t.run('setfacl', '-m', _ids(t, 'u:1000:r'), p, check=False)
    os.unlink(p)
    if out.strip():
        t.skip('no ACLs on this file system: ' + out.strip())


def _getfacl(t, p):
    return t.run('getfacl', '-n', '-p', '--omit-header', p)


def _describe(t, d):
    out = []
    for rel in tree.walk(d):
        p = os.path.join(d, rel)
        st = os.lstat(p)
        if not stat.S_ISLNK(st.st_mode):
            out.append((rel, oct(st.st_mode), st.st_uid, st.st_gid, _getfacl(t, p)))
    return out


@test(needs=('setfacl', 'getfacl'), everywhere=True)
def set_and_read(t):
    """Access and default ACLs on lower and new objects; chmod moves the mask."""
    _acl_works(t, t.plain())

    def action(d):
        t.sh(_ids(t, 'setfacl -m u:1001:rwx,g:1002:rx,m::rw f; setfacl -d -m u:1001:rwx,o::- d; chmod 640 f;'
             'setfacl -m u:1001:r d/x; setfacl -x u:1001 d/x; setfacl -b d/x; setfacl -m m::r f;'
             'touch n; setfacl -m u:1003:- n; chmod 777 n; chmod g-w n; mkdir d/e; touch d/e/f'), cwd=d)
        return _describe(t, d)
    want = t.as_plain(action, 'f f 1; f d/x 1')
    t.ok(any(_ids(t, 'user:1001') in x[4] for x in want))


@test(needs=('setfacl', 'getfacl'), everywhere=True)
def inheritance(t):
    """Default ACLs for every kind of new object under several umasks; with set-gid parents; the
    umask does not count where a default ACL exists (2.4)."""
    _acl_works(t, t.plain())

    def action(d):
        t.sh(_ids(t, 'mkdir -p da sg both; setfacl -d -m u::rwx,g::rwx,o::rwx,u:1001:rwx da;'
             'setfacl -d -m u::rwx,g::rx,o::-,g:1002:rwx both; chmod g+s sg both; setfacl -m u:1001:rwx low/d;'
             'setfacl -d -m u::rw,g::rw,o::rw low/d'), cwd=d)
        for mask in (0, 0o022, 0o077, 0o777):
            old = os.umask(mask)
            try:
                for parent in ('da', 'sg', 'both', 'low/d'):
                    base = '%s/%s/%o-' % (d, parent, mask)
                    for mode in (0o666, 0o755, 0o6777):
                        os.close(os.open('%sf%o' % (base, mode), os.O_CREAT | os.O_WRONLY, mode))
                        os.mkdir('%sd%o' % (base, mode), mode)
                        os.mknod('%sr%o' % (base, mode), stat.S_IFREG | mode)
                        os.mkfifo('%sp%o' % (base, mode), mode)
                    os.symlink('x', base + 'l')
                    fd = os.open('%s/%s' % (d, parent), os.O_TMPFILE | os.O_WRONLY, 0o666)
                    os.fchmod(fd, os.fstat(fd).st_mode & 0o7777)
                    os.close(fd)
            finally:
                os.umask(old)
        return _describe(t, d)
    t.as_plain(action, 'f low/d/x 1')


@test(needs=('setfacl', 'getfacl'), everywhere=True)
def tmpfile_inherits(t):
    """O_TMPFILE in a directory with a default ACL and in one without, under a umask."""
    _acl_works(t, t.plain())

    def action(d):
        out = []
        t.sh(_ids(t, 'setfacl -d -m u::rwx,g::rwx,o::r,u:1001:rw a'), cwd=d)
        old = os.umask(0o027)
        try:
            for n in 'ab':
                fd = os.open(d + '/' + n, os.O_TMPFILE | os.O_RDWR, 0o666)
                out.append(oct(os.fstat(fd).st_mode))
                out.append(ACL in os.listxattr(fd))
                os.close(fd)
        finally:
            os.umask(old)
        return out
    t.as_plain(action, 'd a; d b')


@test(needs=('setfacl', 'getfacl'), everywhere=True)
def kept_by_copy_up(t):
    """ACLs of files and directories, access and default, come up and hold after a remount."""
    _acl_works(t, t.plain())
    u = t.union(text='f d/f hello; f d/g hello')
    t.sh(_ids(t, 'setfacl -m u:1001:rw,g:1002:r d/f; setfacl -m u:1001:rwx d; setfacl -d -m u:1003:rx d'),
         cwd=u.low())
    want = {r: _getfacl(t, u.low(r)) for r in ('d', 'd/f', 'd/g')}
    u.mount()
    tree.append(u.m('d/f'), '!')
    os.utime(u.m('d/g'))
    for _ in range(2):
        t.eq({r: _getfacl(t, u.m(r)) for r in want}, want)
        t.eq({r: _getfacl(t, u.up(r)) for r in want}, want)
        u.remount()
    tree.write(u.m('d/new'), '')
    t.ok(_ids(t, 'user:1003') in _getfacl(t, u.m('d/new')))


@test(needs=('setfacl', 'getfacl'))
def over_whiteouts(t):
    """Inheritance also when the new object replaces a whiteout (it is made elsewhere then)."""
    _acl_works(t, t.plain())

    def action(d):
        t.sh('rm -r d/f d/s; umask 027; touch d/f; mkdir d/s; touch d/s/x', cwd=d)
        return _describe(t, d + '/d')
    p = t.plain()
    tree.build(p, 'f d/f 1; f d/s/y 1')
    setup = _ids(t, 'setfacl -d -m u::rwx,g::rwx,o::r,u:1001:rwx d; chmod g+s d')
    t.sh(setup, cwd=p)
    want = action(p)
    u = t.union(text='f d/f 1; f d/s/y 1')
    t.sh(setup, cwd=u.low())
    u.mount()
    t.eq(action(u.mnt), want)


@test(identities=('root',), needs=('setfacl',))
def permission_by_acl(t):
    """The kernel grants and refuses by the merged ACL; chmod and setfacl by others are refused."""
    _acl_works(t, t.plain())
    u = t.union(text='f f secret 600; d d 700; f d/x 1 644')
    t.sh('setfacl -m u:1001:r f; setfacl -m u:1001:x d', cwd=u.low())
    u.mount()
    t.eq(t.as_user(1001, tree.text, u.m('f')), 'secret')
    t.eq(t.as_user(1001, tree.text, u.m('d/x')), '1')
    for uid, fn, args in ((1000, tree.read, ('f',)), (1000, tree.read, ('d/x',)), (1001, os.listdir, ('d',)),
                          (1001, tree.append, ('f', 'x'))):
        t.fails(13, t.as_user, uid, fn, u.m(args[0]), *args[1:])
    t.fails(1, t.as_user, 1001, os.chmod, u.m('f'), 0o777)
    t.run('setfacl', '-m', 'u:1000:rw', u.m('f'))
    t.eq(t.as_user(1000, tree.text, u.m('f')), 'secret')
    t.run('setfacl', '-x', 'u:1001', u.m('f'))
    t.fails(13, t.as_user, 1001, tree.read, u.m('f'))


@test(identities=('root',), needs=('setfacl',))
def set_gid_cleared_with_the_acl(t):
    """Setting an access ACL by an owner outside the group clears set-gid, as on the plain fs."""
    _acl_works(t, t.plain())

    def action(d):
        out = []
        for gid in (1000, 1234):
            tree.write(d + '/f', 'x')
            os.chown(d + '/f', 1000, gid)
            os.chmod(d + '/f', 0o2755)
            t.as_user(1000, t.run, 'setfacl', '-m', 'u:1001:rw', d + '/f')
            out.append(oct(os.stat(d + '/f').st_mode))
            os.chmod(d + '/f', 0o2755)
            t.as_user(1000, os.chmod, d + '/f', 0o2750)
            out.append(oct(os.stat(d + '/f').st_mode))
            os.unlink(d + '/f')
        return out
    t.as_plain(action, 'd x', upper_too=False)


@test(needs=('setfacl', 'getfacl'))
def acl_in_tools(t):
    """cp -a and tar take ACLs along; a changed ACL is seen at once and after a remount."""
    _acl_works(t, t.plain())
    u = t.union(text='f a hello')
    t.sh(_ids(t, 'setfacl -m u:1001:rw a'), cwd=u.low())
    u.mount()
    t.sh('cp -a a b; tar --acls -cf t.tar a; mkdir x; tar --acls -xf t.tar -C x', cwd=u.mnt)
    want = _getfacl(t, u.low('a'))
    t.eq((_getfacl(t, u.m('b')), _getfacl(t, u.m('x/a'))), (want, want))
    for acl in ('u:1001:r', 'u:1002:x', 'g:7:rwx'):
        before = _getfacl(t, u.m('a'))
        t.run('setfacl', '-m', _ids(t, acl), u.m('a'))
        t.ok(_getfacl(t, u.m('a')) != before, acl)
    seen = _getfacl(t, u.m('a'))
    u.remount()
    t.eq(_getfacl(t, u.m('a')), seen)
