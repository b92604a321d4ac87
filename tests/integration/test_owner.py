# SPDX-License-Identifier: GPL-2.0-or-later
"""Owners that are shown otherwise than they are stored: id maps, squashing, owner and mode in xattrs."""
import errno
import os
import stat
import subprocess

from lib import k, test, tree

MAPS = ('uidmapping=:0:1000:500:7000:7000:1', 'gidmapping=:0:1000:500')
OVERRIDE = 'user.containers.override_stat'
OLD = 'user.fuseoverlayfs.override_stat'
NOBODY = (65534, 65534)


def _owner(p):
    st = os.lstat(p)
    return st.st_uid, st.st_gid


def _mode(p):
    return oct(os.lstat(p).st_mode)


def _carries(p):
    return os.getxattr(p, OVERRIDE, follow_symlinks=False).decode()


# ---- maps ---------------------------------------------------------------------------------------------

@test(identities=('root',))
def maps_show(t):
    """Stored ids are shown as mapped; what no range has as the overflow id; in listings, too, and for
    every kind of object."""
    u = t.union(text='f a 1; d d; f d/x 1; l l a; p p; c c 1:3; f out 1; f gap 1')
    for n, uid, gid in (('a', 0, 5), ('d', 5, 0), ('d/x', 499, 499), ('l', 7, 7), ('p', 8, 9), ('c', 7000, 1),
                        ('out', 1000, 500), ('gap', 7001, 1)):
        os.chown(u.low(n), uid, gid, follow_symlinks=False)
    u.mount(*MAPS)
    want = {'a': (1000, 1005), 'd': (1005, 1000), 'd/x': (1499, 1499), 'l': (1007, 1007), 'p': (1008, 1009),
            'c': (7000, 1001), 'out': NOBODY, 'gap': (65534, 1001)}
    t.eq({n: _owner(u.m(n)) for n in want}, want)
    t.eq(_owner(u.mnt), (1000, 1000))
    t.eq({e.name: (e.stat(follow_symlinks=False).st_uid) for e in os.scandir(u.mnt)},
         {n: o[0] for n, o in want.items() if '/' not in n})


@test(identities=('root',), everywhere=True)
def maps_store(t):
    """Whatever a mapped caller makes, chowns, links, renames and copies up is stored by the map, and shown
    the same after a remount."""
    u = t.union(text='d d 755; f d/low hello; f d/gone 1; l d/ln low; d d/sub')
    t.sh('chown -hR 5:6 d', cwd=u.low())
    u.mount(*MAPS)

    def work():
        os.umask(0o022)
        d = u.m('d')
        tree.write(d + '/new', 'x')
        os.mkdir(d + '/dir')
        os.mkfifo(d + '/fifo')
        os.symlink('x', d + '/s')
        os.link(d + '/new', d + '/hard')
        os.unlink(d + '/gone')
        tree.write(d + '/gone', 'again')        # over a whiteout: staged
        os.rmdir(d + '/sub')
        os.mkdir(d + '/sub')
        tree.append(d + '/low', '!')
        os.utime(d + '/ln', ns=(1, 2), follow_symlinks=False)
        fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o644)
        k.link_fd(fd, d + '/tmp')
        os.close(fd)
        os.rename(d + '/new', d + '/renamed')
        os.chown(d + '/renamed', -1, 1006)
    t.as_user(1005, work, gid=1006)
    names = ['dir', 'fifo', 'gone', 'hard', 'ln', 'low', 'renamed', 's', 'sub', 'tmp']
    for _ in range(2):
        t.eq(tree.names(u.m('d')), names)
        for n in names:
            t.eq((_owner(u.m('d/' + n)), _owner(u.up('d/' + n))), ((1005, 1006), (5, 6)), n)
        t.eq(_owner(u.up('d')), (5, 6))
        u.remount()


@test(identities=('root',))
def maps_chown(t):
    """chown by root: by the map, and EOVERFLOW outside it with nothing copied up; a caller outside the map
    makes files of the overflow id; copy-up keeps an owner outside the map."""
    u = t.union(text='f a 1; f b 1; f out 1; d dout')
    os.chown(u.low('out'), 4000, 4001)
    os.chown(u.low('dout'), 4000, 4001)
    os.chmod(u.low('dout'), 0o2755)
    u.mount(*MAPS)
    os.chown(u.m('a'), 1017, 1018)
    t.eq((_owner(u.up('a')), _owner(u.m('a'))), ((17, 18), (1017, 1018)))
    for uid, gid in ((5, -1), (-1, 5), (1500, 1000), (65534, -1)):
        t.fails(errno.EOVERFLOW, os.chown, u.m('b'), uid, gid)
    t.ok(not tree.exists(u.up('b')), 'copied up for nothing')
    os.chmod(u.m('out'), 0o600)
    t.eq((_owner(u.up('out')), _owner(u.m('out'))), ((4000, 4001), NOBODY))
    tree.write(u.m('made'), '')
    t.eq((_owner(u.up('made')), _owner(u.m('made'))), (NOBODY, NOBODY))
    tree.write(u.m('dout/in'), '')              # a set-gid directory gives a group outside the map
    t.eq(_owner(u.up('dout/in')), (65534, 4001))
    u.remount()
    t.eq((_owner(u.m('out')), _mode(u.m('out'))), (NOBODY, oct(stat.S_IFREG | 0o600)))


@test(identities=('root',))
def maps_decide_access(t):
    """The kernel checks against what is shown."""
    u = t.union(text='f own 1 600; f other 1 600')
    os.chown(u.low('own'), 5, 5)
    u.mount(*MAPS)
    t.eq(t.as_user(1005, tree.text, u.m('own')), '1')
    t.fails(errno.EACCES, t.as_user, 1005, tree.text, u.m('other'))
    t.fails(errno.EPERM, t.as_user, 1005, os.chmod, u.m('other'), 0o666)


@test(identities=('root',), needs=('setfacl', 'getfacl'))
def maps_in_acls(t):
    """Ids in ACLs are mapped both ways, default ones as well; copy-up and inheritance take along those
    that no range has."""
    u = t.union(text='f f hello 600; d d')
    if t.run('setfacl', '-m', 'u:5:r,g:6:r,u:4000:r', u.low('f'), check=False).strip():
        t.skip('no ACLs on this file system')
    t.sh('setfacl -d -m u:7:rwx,u:4000:r d', cwd=u.low())
    u.mount(*MAPS)

    def acl(p, *more):
        return [x for x in t.run('getfacl', '-n', '-p', '--omit-header', *more, p).split()
                if x.split(':')[-2].isdigit()]
    t.eq(acl(u.m('f')), ['user:1005:r--', 'user:65534:r--', 'group:1006:r--'])
    t.eq(t.as_user(1005, tree.text, u.m('f')), 'hello')
    os.utime(u.m('f'))                          # copies up
    t.eq(acl(u.up('f')), ['user:5:r--', 'user:4000:r--', 'group:6:r--'])
    for n in ('new', 'over'):
        tree.write(u.m('d/' + n), '')
    os.unlink(u.m('d/over'))
    tree.write(u.m('d/over'), '')
    t.eq(sorted(x.split(':')[1] for x in acl(u.up('d/over'))), ['4000', '7'])
    tree.write(u.m('n'), '')
    t.run('setfacl', '-m', 'u:1008:rw,g:1009:r', u.m('n'))
    t.eq(acl(u.up('n')), ['user:8:rw-', 'group:9:r--'])
    t.ok('too large' in t.run('setfacl', '-m', 'u:8:rw', u.m('n'), check=False))
    u.remount()
    t.eq(acl(u.m('n')), ['user:1008:rw-', 'group:1009:r--'])


@test()
def bad_values(t):
    """Refused at mount with one sentence that names the option; an empty map is none."""
    u = t.union(text='f a 1')
    for o in ('uidmapping=0:1', 'uidmapping=0:1:x', 'gidmapping=0:1:0', 'uidmapping=0:0:4294967296',
              'gidmapping=0:0:10:5:20:10', 'uidmapping=0:0:10:20:5:10', 'uidmapping=0:1:1:', 'uidmapping=-1:0:1',
              'squash_to_uid=x', 'squash_to_gid=4294967295', 'squash_to_root=2', 'xattr_permissions=3',
              'xattr_permissions=', 'uidmapping=4294967290:0:10'):
        p = subprocess.run(u.command((o,)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        t.eq(p.returncode, 1, o)
        t.eq((p.stdout.count('\n'), o.split('=')[0] in p.stdout), (1, True), p.stdout)
    u.mount('uidmapping=', 'gidmapping=:', 'xattr_permissions=0', 'squash_to_root=0')
    t.eq(_owner(u.m('a')), _owner(u.low('a')))


# ---- squashing ----------------------------------------------------------------------------------------

@test(identities=('root',))
def squash(t):
    """All is shown as one owner, the more special option wins; root keeps below what it can; that owner
    may do with everything as he likes."""
    u = t.union(text='f a 1 644; d d 755; f d/x 1; l l a')
    os.chown(u.low('d'), 33, 44)
    u.mount('squash_to_root', 'squash_to_uid=1005')
    for n in ('', 'a', 'd', 'd/x', 'l'):
        t.eq(_owner(u.m(n)), (1005, 0), n)

    def work():
        tree.write(u.m('d/new'), 'x')
        os.mkdir(u.m('d/sub'))
        tree.append(u.m('a'), '2')
        os.chmod(u.m('d/x'), 0o600)
        os.chown(u.m('d/x'), 1005, -1)
        os.rename(u.m('l'), u.m('d/l'))
    t.as_user(1005, work)
    t.eq(_owner(u.up('d')), (33, 44), 'copy-up has lost the owner')
    t.eq(os.lstat(u.up('d/new')).st_uid, 1005)
    os.chown(u.m('a'), 77, 88)
    t.eq((_owner(u.m('a')), _owner(u.up('a'))), ((1005, 0), (77, 88)))
    u.remount()
    t.eq((tree.text(u.m('a')), _mode(u.m('d/x')), tree.names(u.m('d'))),
         ('12', oct(stat.S_IFREG | 0o600), ['l', 'new', 'sub', 'x']))


def _foreign(directory):
    tree.build(directory + '/foreign', 'f root hello 644; d rootdir 755; f rootdir/x 1; l link root; '
               'f secret no 600')
    os.chmod(directory + '/foreign', 0o755)


@test(identities=('user', 'userns'), prepare=_foreign)
def squash_over_foreign_owners(t):
    """A daemon that may not give files away copies up what is root's all the same, as its own."""
    me = os.getuid()
    u = t.union(lowers=[t.dir + '/foreign'])
    u.mount('squash_to_uid=%d' % me, 'squash_to_gid=%d' % os.getgid())
    t.eq(_owner(u.m('rootdir/x')), (me, os.getgid()))
    tree.append(u.m('root'), '!')
    os.chmod(u.m('rootdir'), 0o700)
    tree.write(u.m('rootdir/new'), 'x')
    os.rename(u.m('link'), u.m('rootdir/link'))
    os.chown(u.m('root'), me, os.getgid())
    t.eq(_owner(u.up('root')), (me, os.getgid()))
    u.remount()
    t.eq((tree.text(u.m('root')), tree.names(u.m('rootdir'))), ('hello!', ['link', 'new', 'x']))


@test(identities=('user',), prepare=_foreign)
def squashed_group_alone(t):
    """Only what is squashed may be anything: the user still is not, and cannot be given."""
    u = t.union(lowers=[t.dir + '/foreign'])
    u.mount('squash_to_gid=%d' % os.getgid())
    t.eq(_owner(u.m('root')), (0, os.getgid()))
    tree.write(u.m('n'), '')
    t.fails(errno.EPERM, os.chown, u.m('n'), 0, -1)


# ---- owner and mode in an xattr -------------------------------------------------------------------------

def _layer(u):
    """What containers/storage makes of an image for this user (force_mask)."""
    d = u.low()
    tree.build(d, 'd etc 700; f etc/shadow secret 700; f etc/passwd names 700; f bin 1 700; f null "" 700; '
                  'f sda "" 700; f pipe "" 700; f sock "" 700; l link bin; f plain 1 640; f old 1 700; d tmp 700; '
                  'd empty 700')
    me = (os.getuid(), os.getgid())
    for n, v in (('', '0:0:0755:dir'), ('etc', '0:0:0755:dir'), ('etc/shadow', '0:42:0640:file'),
                 ('etc/passwd', '0:0:0644:file'), ('bin', '0:0:04755:file'), ('null', '0:0:0666:char-1-3'),
                 ('sda', '0:6:0660:block-8-0'), ('pipe', '%d:%d:0600:pipe' % me), ('sock', '0:0:0777:socket'),
                 ('old', '%d:%d:100600' % me), ('tmp', '0:0:01777'), ('empty', '%d:%d:0500' % me)):
        os.setxattr(u.low(n), OVERRIDE, v.encode())


@test(identities=('root', 'user', 'userns'))
def permissions_shown(t):
    """Owner, mode and kind are those of the xattr, in stat and in listings; it is not to be seen itself."""
    u = t.union()
    _layer(u)
    u.mount('xattr_permissions=2')
    me = (os.getuid(), os.getgid())
    want = {'etc': (0, 0, 0o40755), 'etc/shadow': (0, 42, 0o100640), 'bin': (0, 0, 0o104755),
            'null': (0, 0, 0o20666), 'sda': (0, 6, 0o60660), 'pipe': me + (0o10600,),
            'sock': (0, 0, 0o140777), 'old': me + (0o100600,), 'tmp': (0, 0, 0o41777), 'empty': me + (0o40500,),
            'plain': me + (0o100640,)}
    if t.identity == 'userns':          # ids that the namespace does not have
        want['etc/shadow'] = (0, 65534, 0o100640)
        want['sda'] = (0, 65534, 0o60660)
    for again in range(2):
        t.eq({n: _owner(u.m(n)) + (os.lstat(u.m(n)).st_mode,) for n in want}, want)
        t.eq((os.lstat(u.m('null')).st_rdev, os.lstat(u.m('sda')).st_rdev), (os.makedev(1, 3), os.makedev(8, 0)))
        u.remount()
    t.eq({e.name: e.is_file(follow_symlinks=False) for e in os.scandir(u.mnt)},
         {n: stat.S_ISREG(os.lstat(u.m(n)).st_mode) for n in os.listdir(u.mnt)})
    for n in ('', 'etc', 'plain', 'bin'):
        t.ok(not any('override' in x for x in os.listxattr(u.m(n))))
        t.fails(errno.ENODATA, os.getxattr, u.m(n), OVERRIDE)
    t.fails(errno.EPERM, os.setxattr, u.m('old'), OVERRIDE, b'0:0:04777')
    t.ok(not tree.exists(u.up('old')))


@test(identities=('user',))
def permissions_kept(t):
    """A plain user's daemon: what he makes and chmods, down to mode 000, is in the xattr; the real files stay
    open to the daemon; all the same after a remount."""
    u = t.union()
    _layer(u)
    u.mount('xattr_permissions=2')
    me = (os.getuid(), os.getgid())
    os.umask(0o027)
    tree.write(u.m('tmp/f'), 'data')
    os.mkdir(u.m('tmp/d'))
    os.mkfifo(u.m('tmp/p'))
    os.symlink('f', u.m('tmp/l'))
    os.link(u.m('tmp/f'), u.m('tmp/h'))
    fd = os.open(u.m('tmp/ro'), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o400)
    os.write(fd, b'ro')
    os.close(fd)
    t.fails(errno.EACCES, tree.append, u.m('tmp/ro'), 'x')
    tree.write(u.m('tmp/d/x'), 'x')
    os.chmod(u.m('tmp/d'), 0)
    t.fails(errno.EACCES, os.listdir, u.m('tmp/d'))
    os.chmod(u.m('old'), 0)
    t.fails(errno.EACCES, tree.read, u.m('old'))
    t.fails(errno.EPERM, os.chmod, u.m('bin'), 0o777)
    t.fails(errno.EPERM, os.chown, u.m('tmp/f'), 0, 0)
    want = {'tmp/f': 0o100640, 'tmp/h': 0o100640, 'tmp/d': 0o40000, 'tmp/p': 0o10640, 'tmp/ro': 0o100400, 'old': 0o100000}
    for again in range(2):
        t.eq({n: oct(os.lstat(u.m(n)).st_mode) for n in want}, {n: oct(m) for n, m in want.items()})
        for n in want:
            t.eq(_owner(u.m(n)), me, n)
            real = os.lstat(u.up(n)).st_mode
            t.eq((real & 0o600, real & 0o7077 & ~(want[n] & 7) * 0o11), (0o600, 0), n)
        u.remount()
    t.eq(_carries(u.up('tmp/p')), '%d:%d:0640:pipe' % me)
    t.eq(_carries(u.up('old')), '%d:%d:00' % me)
    os.chmod(u.m('old'), 0o600)
    t.eq(tree.text(u.m('old')), '1')
    os.chmod(u.m('tmp/d'), 0o700)
    t.eq(tree.text(u.m('tmp/d/x')), 'x')
    os.rename(u.m('tmp/d'), u.m('tmp/e'))
    t.eq(_carries(u.up('tmp/e')), '%d:%d:0700' % me)
    t.sh('rm -r tmp/e tmp/f tmp/h tmp/l tmp/p tmp/ro', cwd=u.mnt)
    t.eq(tree.names(u.m('tmp')), [])


@test(identities=('root', 'userns'))
def permissions_of_all(t):
    """root at the mount gives files to whom it likes; below they stay the daemon's. A chown takes set-id
    bits, copy-up carries owner and kind along, devices are regular files below."""
    other = 0 if t.identity == 'userns' else 7
    u = t.union()
    _layer(u)
    u.mount('xattr_permissions=2')
    os.umask(0)
    tree.write(u.m('f'), 'x')
    os.chown(u.m('f'), other, other)
    os.chmod(u.m('f'), 0o6711)
    os.mkfifo(u.m('p'), 0o640)
    if t.root:
        os.mknod(u.m('dev'), stat.S_IFCHR | 0o620, os.makedev(1, 5))
        os.mknod(u.m('blk'), stat.S_IFBLK | 0o600, os.makedev(8, 1))
        t.eq((_carries(u.up('dev')), _carries(u.up('blk'))), ('0:0:0620:char-1-5', '0:0:0600:block-8-1'))
        with open(u.m('dev'), 'wb') as f:
            f.write(b'x')                       # /dev/null's neighbour takes anything
        t.fails(errno.EPERM, os.mknod, u.m('wh'), stat.S_IFCHR, 0)
    t.eq((_carries(u.up('f')), os.lstat(u.up('f')).st_uid, os.lstat(u.up('f')).st_mode & 0o7000),
         ('%d:%d:06711' % (other, other), 0, 0))
    os.chown(u.m('f'), 0, 0)
    t.eq(_mode(u.m('f')), oct(stat.S_IFREG | 0o711))
    if t.root:                                  # others make files, too, which are the daemon's below
        for n, fn in (('of7', tree.write), ('dir7', os.mkdir)):
            t.as_user(7, fn, u.m('tmp/' + n), *(('x',) if fn is tree.write else ()), gid=8)
            t.eq((_owner(u.m('tmp/' + n)), _owner(u.up('tmp/' + n))), ((7, 8), (0, 0)), n)
        t.fails(errno.EPERM, t.as_user, 8, os.unlink, u.m('tmp/of7'))
    os.utime(u.m('null'))                       # copies up
    os.utime(u.m('etc/passwd'))
    tree.append(u.m('plain'), '2')
    t.eq((_carries(u.up('null')), _carries(u.up('etc/passwd')), _carries(u.up('etc'))),
         ('0:0:0666:char-1-3', '0:0:0644', '0:0:0755'))
    t.ok(stat.S_ISREG(os.lstat(u.up('null')).st_mode))
    os.unlink(u.m('bin'))
    t.ok(tree.is_whiteout(u.up('bin')))
    os.rename(u.m('etc'), u.m('tmp/etc'))
    if t.root:
        os.lchown(u.m('link'), 5, 6)
    before = tree.snapshot(u.mnt)
    u.remount()
    t.same_tree(before, tree.snapshot(u.mnt))
    t.eq(tree.text(u.m('plain')), '12')


@test(identities=('user', 'root'), needs=('setfacl', 'getfacl'))
def permissions_and_acls(t):
    """An ACL changes the mode that is shown, a mode the ACL that is shown; the daemon stays able to read."""
    u = t.union(text='f f hello 640')
    u.mount('xattr_permissions=2')
    tree.write(u.m('n'), 'data')
    os.chmod(u.m('n'), 0o600)
    if t.run('setfacl', '-m', 'u::-,u:1001:rw,o::-', u.m('n'), check=False).strip():
        t.skip('no ACLs on this file system')
    for _ in range(2):
        t.eq(_mode(u.m('n')), oct(stat.S_IFREG | 0o060))
        t.eq(t.run('getfacl', '-n', '-p', '--omit-header', u.m('n')).split(),
             ['user::---', 'user:1001:rw-', 'group::---', 'mask::rw-', 'other::---'])
        t.eq(os.lstat(u.up('n')).st_mode & 0o707, 0o600)
        u.remount()
    os.chmod(u.m('n'), 0o740)
    t.ok('mask::r--' in t.run('getfacl', '-n', '-p', u.m('n')) and
         'user::rwx' in t.run('getfacl', '-n', '-p', u.m('n')))
    t.eq(tree.text(u.m('n')), 'data')


@test(identities=('root',))
def permissions_with_maps(t):
    """Ids in the xattr are stored ones."""
    u = t.union(text='f f 1')
    os.setxattr(u.low('f'), OVERRIDE, b'5:6:0644')
    u.mount('xattr_permissions=2', *MAPS)
    t.eq(_owner(u.m('f')), (1005, 1006))
    os.chown(u.m('f'), 1007, 1008)
    t.eq(_carries(u.up('f')), '7:8:0644')


@test(identities=('root',))
def permissions_in_security(t):
    """xattr_permissions=1 keeps them in security.*, symlinks included; a layer is read by the name that its
    root carries."""
    u = t.union(text='f f 1; f g 1')
    os.setxattr(u.low('g'), OLD, b'9:9:100600')
    os.setxattr(u.low(''), OLD, b'0:0:40755')
    u.mount('xattr_permissions=1')
    t.eq((_owner(u.m('g')), _mode(u.m('g'))), ((9, 9), oct(stat.S_IFREG | 0o600)))
    os.chown(u.m('f'), 7, 8)
    os.symlink('x', u.m('l'))
    os.lchown(u.m('l'), 5, 6)
    name = 'security.fuseoverlayfs.override_stat'
    t.eq((os.getxattr(u.up('f'), name), os.getxattr(u.up('l'), name, follow_symlinks=False)),
         (b'7:8:0644', b'5:6:0777'))
    u.remount()
    t.eq((_owner(u.m('f')), _owner(u.m('l')), os.listxattr(u.m('f'))), ((7, 8), (5, 6), []))


@test(identities=('user',))
def permissions_in_security_take_root(t):
    u = t.union(text='f f 1')
    p = subprocess.run(u.command(('xattr_permissions=1',)), stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    t.eq(p.returncode, 1)
    t.ok('xattr_permissions' in p.stdout and u.upper in p.stdout, p.stdout)


@test(identities=('root',))
def bad_override(t):
    """What cannot be understood is shown without any rights; nothing else suffers."""
    u = t.union(text='f bad 1 700; f good 1; f wh 1')
    os.setxattr(u.low('bad'), OVERRIDE, b'0:0')
    os.setxattr(u.low('wh'), OVERRIDE, b'0:0:0600:char-0-0')
    u.mount('xattr_permissions=2')
    t.eq((_owner(u.m('bad')), _mode(u.m('bad'))), ((0, 0), oct(stat.S_IFREG)))
    t.eq(tree.names(u.mnt), ['bad', 'good', 'wh'])
    t.eq((tree.text(u.m('good')), _mode(u.m('wh'))), ('1', oct(stat.S_IFREG | 0o600)))
    os.unlink(u.m('bad'))
