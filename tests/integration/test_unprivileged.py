# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain users and user namespaces: rights they have, rights they have not, foreign owners."""
import errno
import os
import stat
import subprocess

from lib import k, test, tree

PLAIN = ('user', 'userns')


def _foreign(directory):
    """Runs as root: a lower with root's files beside the user's."""
    d = directory + '/foreign'
    tree.build(d, 'f root hello 644; f rootdir/x 1; f secret no 600; l link root; d shared 1777; '
                  'f shared/root 1; d open 777; f open/mine 1; f open/root 1; p open/fifo; f open/rw hello 666')
    for n in ('open/mine',):
        os.chown(d + '/' + n, 1000, 1000)
    os.chmod(d, 0o777)


@test(identities=PLAIN, prepare=_foreign)
def foreign_owners_are_eperm(t):
    """Copy-up of what belongs to others would change its owner: EPERM before anything is visible;
    reading, deleting and moving away what may be deleted work."""
    u = t.union(lowers=[t.dir + '/foreign'])
    u.mount()
    t.eq(tree.text(u.m('root')), 'hello')
    before = tree.snapshot(u.upper)
    for fn, args in ((os.chmod, (u.m('root'), 0o600)), (os.utime, (u.m('root'),)),
                     (os.truncate, (u.m('root'), 0)), (tree.append, (u.m('root'), 'x'))):
        t.fails((errno.EPERM, errno.EACCES, errno.EOVERFLOW), fn, *args)
    # The kernel allows these by the mode; the daemon cannot keep the owner.
    t.fails((errno.EPERM, errno.EACCES, errno.EOVERFLOW), tree.append, u.m('open/rw'), 'x')
    t.fails((errno.EPERM, errno.EOVERFLOW), os.link, u.m('open/rw'), u.m('linked')) \
        if t.identity == 'userns' else None
    t.same_tree({n: v for n, v in before.items() if n != '.'},
                {n: v for n, v in tree.snapshot(u.upper).items() if n not in ('.', 'open')}, 'something is visible')
    t.ok(not tree.exists(u.up('open/rw')) and not tree.exists(u.up('linked')))
    t.eq(u.staged(), [])
    t.eq(tree.text(u.m('open/rw')), 'hello')


@test(identities=('user',), prepare=_foreign)      # in a namespace the kernel says EOVERFLOW
def deleting_below_foreign_directories(t):
    """A name in the root of the union, whose upper directory is the user's own, can be deleted
    whoever owns the object: a whiteout copies nothing."""
    u = t.union(lowers=[t.dir + '/foreign'])
    u.mount()
    for n in ('root', 'link', 'secret'):
        os.unlink(u.m(n))
        t.ok(tree.is_whiteout(u.up(n)))
    tree.write(u.m('root'), 'mine now')
    t.eq((tree.text(u.m('root')), os.stat(u.m('root')).st_uid), ('mine now', os.getuid()))
    u.remount()
    t.eq(tree.text(u.m('root')), 'mine now')
    t.fails(errno.ENOENT, os.lstat, u.m('link'))


@test(identities=('user',))
def read_only_directories(t):
    """mkdir -m 555, and unpacking trees with read-only directories and files."""
    u = t.mounted('f low/x 1; f low/s/y 1')
    t.sh('mkdir -m 555 a; mkdir -p b/c; echo 1 > b/c/f; chmod 444 b/c/f; chmod 555 b/c b', cwd=u.mnt)
    t.eq(stat.S_IMODE(os.stat(u.m('a')).st_mode), 0o555)
    t.fails(errno.EACCES, tree.write, u.m('a/x'), '')
    t.sh('chmod 555 low/s low; tar -cf ../t.tar .; mkdir ../out; tar -xf ../t.tar -C ../out; mkdir n; '
         'tar -xf ../t.tar -C n', cwd=u.mnt)
    t.eq(oct(os.stat(u.m('n/b/c')).st_mode), oct(stat.S_IFDIR | 0o555))
    t.eq(tree.text(u.m('n/b/c/f')), '1\n')
    u.remount()
    t.eq(oct(os.stat(u.m('n/b/c')).st_mode), oct(stat.S_IFDIR | 0o555))
    t.eq(tree.names(u.m('n/low/s')), ['y'])
    t.sh('chmod -R u+w .; rm -rf n b a low', cwd=u.mnt)
    t.eq(tree.names(u.mnt), [])


@test(identities=('user',))
def mode_less_lowers(t):
    """Lower directories and files the user closed for himself: seen, not entered, opened again by
    chmod through the mount."""
    u = t.union(text='d closed; f ro/x 1; f f hello 444')
    os.chmod(u.low('ro'), 0o555)
    os.chmod(u.low('closed'), 0)
    u.check_lowers = False
    try:
        u.mount()
        t.fails(errno.EACCES, os.listdir, u.m('closed'))
        t.eq(tree.names(u.mnt), ['closed', 'f', 'ro'])
        t.fails(errno.EACCES, tree.write, u.m('ro/new'), '')
        os.chmod(u.m('ro'), 0o755)
        tree.write(u.m('ro/new'), 'x')
        os.chmod(u.m('f'), 0o644)
        tree.append(u.m('f'), '!')
        t.eq(tree.text(u.m('f')), 'hello!')
        u.remount()
        t.eq((tree.names(u.m('ro')), tree.text(u.m('f'))), (['new', 'x'], 'hello!'))
        u.umount()
    finally:
        os.chmod(u.low('closed'), 0o755)
        os.chmod(u.low('ro'), 0o755)


@test(identities=PLAIN)
def special_files(t):
    """chmod, touch and chown of lower fifos and sockets (fuse-overlayfs opens them and hangs or
    fails); they are never opened by the daemon."""
    u = t.mounted('p fifo; s sock; l link x')
    for n in ('fifo', 'sock'):
        os.chmod(u.m(n), 0o600)
        os.utime(u.m(n), ns=(5, 6))
        os.chown(u.m(n), os.getuid(), os.getgid())
        st = os.lstat(u.m(n))
        t.eq((stat.S_IMODE(st.st_mode), st.st_mtime_ns), (0o600, 6))
        os.rename(u.m(n), u.m(n + '2'))
        os.link(u.m(n + '2'), u.m(n + '3'))
    os.utime(u.m('link'), ns=(7, 8), follow_symlinks=False)
    u.remount()
    t.eq(tree.names(u.mnt), ['fifo2', 'fifo3', 'link', 'sock2', 'sock3'])
    t.eq(os.lstat(u.m('link')).st_mtime_ns, 8)


@test(identities=('user',))
def others_are_kept_out(t):
    """Without allow_other nobody else gets in; with the owner's own rights everything is checked."""
    u = t.mounted('f f hello 000; d d 000')
    t.fails(errno.EACCES, tree.read, u.m('f'))
    t.fails(errno.EACCES, os.listdir, u.m('d'))
    t.fails(errno.EPERM, os.chown, u.m('d'), 0, 0)


@test(identities=('userns',))
def daemon_mounts_by_itself(t):
    """In a user namespace no fusermount3 is needed: it works with an empty PATH."""
    u = t.union(text='f f hello')
    u.mount(env={'PATH': '/nonexistent'})
    t.eq(tree.text(u.m('f')), 'hello')
    tree.write(u.m('n'), 'x')
    os.setxattr(u.m('n'), 'user.k', b'v')
    t.ok(k.mounted_at(u.mnt))


@test(identities=('userns',))
def defaults_of_namespace_root(t):
    """uid 0 of a user namespace gets allow_other, suid and dev, too; marks go to user.overlay."""
    u = t.mounted('f d/f 1; f gone/x 1')
    opts = k.mounted_at(u.mnt)[0][4]
    t.ok('allow_other' in opts, opts)
    t.sh('rm -r gone; mkdir gone; chmod 700 d', cwd=u.mnt)
    t.eq(os.getxattr(u.up('gone'), 'user.overlay.opaque'), b'y')
    t.ok(tree.is_whiteout(u.up('gone')) is False)
    u.remount()
    t.eq(tree.names(u.m('gone')), [])


@test(identities=('user',))
def fusermount_unmounts(t):
    """fusermount3 -u ends the daemon; -u -z of a busy mount lets it live until the last close."""
    u = t.mounted('f f hello')
    fd = os.open(u.m('f'), os.O_RDONLY)
    t.ok(subprocess.run(['fusermount3', '-u', u.mnt], stderr=subprocess.DEVNULL).returncode != 0)
    t.run('fusermount3', '-u', '-z', u.mnt)
    t.eq(os.pread(fd, 9, 0), b'hello')
    t.ok(u.proc.poll() is None)
    os.close(fd)
    u.wait_end()
