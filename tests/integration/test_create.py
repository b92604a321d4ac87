# SPDX-License-Identifier: GPL-2.0-or-later
"""create, mkdir, mknod, symlink, link, O_TMPFILE: where they land and what they leave."""
import errno
import os
import stat

from lib import k, test, tree


def _upper_is(t, u, *names):
    t.eq(tree.names(u.upper), sorted(names))


@test(everywhere=True)
def everything_lands_in_the_upper(t):
    """New objects of every kind, in a new, a lower and a merged directory; the same after remount."""
    u = t.union(text='f low/x 1; f both/x 1')
    u.put('f both/y 1', 'upper')
    u.mount()
    os.mkdir(u.m('new'), 0o751)
    for d in ('new', 'low', 'both'):
        tree.write(u.m(d + '/f'), 'hello ' + d)
        os.mkdir(u.m(d + '/d'), 0o700)
        os.symlink('some/target', u.m(d + '/l'))
        os.mkfifo(u.m(d + '/p'), 0o640)
        os.mknod(u.m(d + '/s'), stat.S_IFSOCK | 0o600)
        os.mknod(u.m(d + '/r'), stat.S_IFREG | 0o604)
        os.link(u.m(d + '/f'), u.m(d + '/h'))
        if t.root:
            os.mknod(u.m(d + '/c'), stat.S_IFCHR | 0o600, os.makedev(1, 3))
            os.mknod(u.m(d + '/b'), stat.S_IFBLK | 0o600, os.makedev(7, 99))
    seen = tree.snapshot(u.mnt)
    for d in ('new', 'low', 'both'):
        mine = {n: v for n, v in tree.snapshot(u.up(d)).items() if n not in ('.', 'x', 'y')}
        view = {n: v for n, v in tree.snapshot(u.m(d)).items() if n not in ('.', 'x', 'y')}
        t.same_tree(mine, view, 'the upper and the view of ' + d)
    t.eq(oct(os.stat(u.m('new')).st_mode), oct(stat.S_IFDIR | 0o751))
    t.eq(os.stat(u.m('new/f')).st_nlink, 2)
    u.remount()
    t.same_tree(seen, tree.snapshot(u.mnt), 'after a remount')


@test()
def errors_of_creation(t):
    """The errno of the plain file system for names that exist, are missing, or are not directories."""
    def action(d):
        out = []

        def tried(fn, *a):
            try:
                fn(*a)
                out.append('ok')
            except OSError as e:
                out.append(errno.errorcode[e.errno])
        for n in ('f', 'd', 'l', 'dangling', 'f/x', 'nodir/x', 'l/x', 'd/', 'new', 'new2/'):
            p = d + '/' + n
            tried(os.mkdir, p)
            tried(os.symlink, 'x', p)
            tried(os.mkfifo, p)
            tried(os.link, d + '/f', p)
            tried(lambda: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))
            tried(lambda: os.close(os.open(p, os.O_CREAT | os.O_WRONLY)))
            tried(lambda: os.close(os.open(p, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW)))
            tried(lambda: os.close(os.open(p, os.O_DIRECTORY)))
        tried(os.link, d + '/d', d + '/dl')
        tried(os.link, d + '/gone', d + '/gl')
        tried(os.unlink, d + '/d')
        tried(os.rmdir, d + '/f')
        tried(os.rmdir, d + '/d')
        tried(os.rmdir, d + '/gone')
        return out
    t.as_plain(action, 'f f hello; f d/x 1; l l d; l dangling nowhere')


@test()
def create_existing(t):
    """O_CREAT of a lower file opens it and copies nothing; O_EXCL refuses; O_TRUNC empties it."""
    u = t.mounted('f a hello; f b hello; l l a')
    os.close(os.open(u.m('a'), os.O_CREAT | os.O_RDWR))
    os.close(os.open(u.m('l'), os.O_CREAT | os.O_RDONLY))
    _upper_is(t, u)
    t.fails(errno.EEXIST, os.open, u.m('a'), os.O_CREAT | os.O_EXCL)
    t.fails(errno.EEXIST, os.open, u.m('l'), os.O_CREAT | os.O_EXCL)
    fd = os.open(u.m('b'), os.O_CREAT | os.O_TRUNC | os.O_RDWR)
    t.eq(os.fstat(fd).st_size, 0)
    os.write(fd, b'J')
    os.close(fd)
    t.eq(tree.text(u.m('b')), 'J')
    u.remount()
    t.eq((tree.text(u.m('a')), tree.text(u.m('b'))), ('hello', 'J'))


@test()
def truncate_on_open(t):
    """O_TRUNC reaches the daemon also when OPEN does not (2.1); the times change."""
    u = t.mounted('f a hello; t a 1000000000000000000')
    tree.read(u.m('a'))
    os.close(os.open(u.m('a'), os.O_WRONLY | os.O_TRUNC))
    t.eq(tree.read(u.m('a')), b'')
    t.ok(os.stat(u.m('a')).st_mtime_ns > 1000000000000000001, 'mtime')
    tree.write(u.m('n'), 'x' * 10000)
    os.close(os.open(u.m('n'), os.O_WRONLY | os.O_TRUNC))
    t.eq(os.stat(u.m('n')).st_size, 0)
    u.remount()
    t.eq(tree.read(u.m('a')), b'')


@test(identities=('root', 'userns'))
def create_over_a_stale_negative_entry(t):
    """A name made behind the mount after a miss was cached: O_CREAT without O_EXCL must not say
    "File exists" (2.1)."""
    u = t.mounted('')
    t.fails(errno.ENOENT, os.stat, u.m('f'))
    tree.write(u.up('f'), 'behind')
    tree.write(u.m('f'), 'via mount')
    t.eq(tree.text(u.m('f')), 'via mount')
    u.check_lowers = False


@test()
def exclusive_creation_has_one_winner(t):
    """Twenty rounds of four processes that create the same name with O_EXCL."""
    u = t.mounted('f low 1')

    def attempt(path):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return 1
        except FileExistsError:
            return 0
    for i in range(20):
        p = u.m('n%d' % i)
        pids, r, w = [], *os.pipe()
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                os.write(w, b'%d' % attempt(p))
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        t.eq(os.read(r, 10).count(b'1'), 1, 'winners of round %d' % i)
        os.close(r)
        os.close(w)


@test(everywhere=True)
def over_whiteouts(t):
    """Every kind created where something was deleted; nothing of what was below comes back."""
    text = '; '.join('f d%d/x 1; f f%d 1' % (i, i) for i in range(8))
    u = t.mounted(text)
    for i in range(8):
        t.sh('rm -r d%d f%d' % (i, i), cwd=u.mnt)
    t.eq(tree.names(u.mnt), [])
    for i in range(8):
        for base in ('d', 'f'):
            t.ok(tree.is_whiteout(u.up('%s%d' % (base, i))))
            p = u.m('%s%d' % (base, i))
            if i == 0:
                os.mkdir(p, 0o700)
            elif i == 1:
                tree.write(p, 'new')
            elif i == 2:
                os.symlink('t', p)
            elif i == 3:
                os.mkfifo(p)
            elif i == 4:
                tree.write(u.m('src' + base), 'linked')
                os.link(u.m('src' + base), p)
            elif i == 5:
                tree.write(u.m('mv' + base), 'moved')
                os.rename(u.m('mv' + base), p)
            elif i == 6:
                os.mkdir(u.m('mvd' + base))
                os.rename(u.m('mvd' + base), p)
            else:
                fd = os.open(u.mnt, os.O_TMPFILE | os.O_RDWR)
                os.write(fd, b'tmp')
                k.link_fd(fd, p)
                os.close(fd)
    seen = tree.snapshot(u.mnt)
    for n in ('d0', 'f0', 'd6', 'f6'):
        t.eq(tree.names(u.m(n)), [], n)
        t.fails(errno.ENOENT, os.stat, u.m(n + '/x'))
    t.eq(tree.text(u.m('d7')), 'tmp')
    u.remount()
    t.same_tree(seen, tree.snapshot(u.mnt), 'after a remount')
    t.eq(os.getxattr(u.up('d0'), t.ns + '.overlay.opaque'), b'y')


@test()
def mkdir_is_not_opaque_by_default(t):
    """As in the kernel: a new directory in a merged one carries no opaque mark unless something
    is hidden below."""
    u = t.mounted('f d/x 1; f gone/x 1')
    os.mkdir(u.m('d/new'))
    t.sh('rm -r gone; mkdir gone', cwd=u.mnt)
    t.eq([x for x in os.listxattr(u.up('d/new')) if 'opaque' in x], [])
    t.eq(os.getxattr(u.up('gone'), t.ns + '.overlay.opaque'), b'y')


@test(identities=('root',))
def mknod_of_a_whiteout_is_refused(t):
    u = t.mounted('f a 1')
    t.fails(errno.EPERM, os.mknod, u.m('w'), stat.S_IFCHR | 0o600, 0)
    os.mknod(u.m('b'), stat.S_IFBLK | 0o600, 0)
    t.eq(stat.S_IFMT(os.lstat(u.m('b')).st_mode), stat.S_IFBLK)
    t.eq(tree.names(u.mnt), ['a', 'b'])


@test(identities=('user', 'userns'))
def mknod_without_the_right(t):
    """Devices where they are not permitted: EPERM, nothing left behind."""
    u = t.mounted('f a 1')
    t.fails(errno.EPERM, os.mknod, u.m('c'), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    t.fails(errno.EPERM, os.mknod, u.m('w'), stat.S_IFCHR | 0o600, 0)
    t.eq(tree.names(u.mnt), ['a'])


@test(everywhere=True)
def hard_links(t):
    """link of upper and lower files, symlinks and fifos: one inode, one count, after remount too."""
    u = t.mounted('f low hello; l sl target; p pipe; f d/x 1')
    tree.write(u.m('up'), 'u')
    for src in ('up', 'low', 'sl', 'pipe'):
        before = os.lstat(u.m(src)).st_ino
        os.link(u.m(src), u.m('d/' + src), follow_symlinks=False)
        a, b = os.lstat(u.m(src)), os.lstat(u.m('d/' + src))
        t.eq((a.st_ino, a.st_nlink), (b.st_ino, 2), src)
        t.eq(a.st_ino, before, 'link(2) changed the inode number of ' + src)
        t.fails(errno.EEXIST, os.link, u.m(src), u.m('d/x'), follow_symlinks=False)
    t.fails(errno.EPERM, os.link, u.m('d'), u.m('dd'))
    tree.append(u.m('d/low'), '!')
    t.eq(tree.text(u.m('low')), 'hello!')
    u.remount()
    t.eq(tree.text(u.m('low')), 'hello!')
    for src in ('up', 'low', 'sl', 'pipe'):
        a, b = os.lstat(u.m(src)), os.lstat(u.m('d/' + src))
        t.eq((a.st_ino, a.st_nlink, b.st_nlink), (b.st_ino, 2, 2), src + ' after remount')
    os.unlink(u.m('low'))
    t.eq((tree.text(u.m('d/low')), os.stat(u.m('d/low')).st_nlink), ('hello!', 1))


@test(everywhere=True)
def tmpfile(t):
    """O_TMPFILE in lower, merged and new directories: written, linked, or gone without a trace."""
    u = t.mounted('f d/x 1; f e/y 1')
    os.mkdir(u.m('n'))
    for d in ('', 'd', 'n'):
        for i in range(3):
            fd = os.open(u.m(d), os.O_TMPFILE | os.O_RDWR, 0o640)
            st = os.fstat(fd)
            t.eq((st.st_nlink, stat.S_IMODE(st.st_mode), st.st_size), (0, 0o640, 0))
            os.write(fd, b'hello')
            t.eq(os.pread(fd, 10, 0), b'hello')
            if i < 2:
                k.link_fd(fd, u.m('e/%s%d' % (d, i)))
                st2 = os.stat(u.m('e/%s%d' % (d, i)))
                t.eq((st2.st_ino, st2.st_nlink), (st.st_ino, 1))
                os.write(fd, b' more')
            os.close(fd)
        fd = os.open(u.m(d), os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
        t.fails(errno.ENOENT, k.link_fd, fd, u.m('e/no'))
        os.close(fd)
    t.eq(tree.names(u.m('e')), ['0', '1', 'd0', 'd1', 'n0', 'n1', 'y'])
    t.eq(tree.text(u.m('e/d0')), 'hello more')
    t.fails((errno.ENOTDIR, errno.EISDIR), os.open, u.m('d/x'), os.O_TMPFILE | os.O_RDWR)
    u.remount()
    t.eq(tree.text(u.m('e/d0')), 'hello more')


@test()
def in_a_removed_directory(t):
    """Creating in, and listing of, a directory that was removed while it was open."""
    u = t.mounted('d low; f low2/x 1')
    os.mkdir(u.m('new'))
    os.unlink(u.m('low2/x'))
    for d in ('low', 'low2', 'new'):
        fd = os.open(u.m(d), os.O_RDONLY | os.O_DIRECTORY)
        os.rmdir(u.m(d))
        t.eq(os.fstat(fd).st_nlink, 0, 'nlink of the removed ' + d)
        t.fails(errno.ENOENT, os.open, 'x', os.O_CREAT | os.O_WRONLY, dir_fd=fd)
        t.fails(errno.ENOENT, os.mkdir, 'x', dir_fd=fd)
        t.eq(os.listdir(fd), [])
        os.close(fd)


@test()
def parent_times_and_counts(t):
    """mtime and ctime of the parent move with each change of names, as on the plain file system;
    the link count of a directory with subdirectories follows the layer's rule."""
    def action(d):
        out = []
        for fn in (lambda: tree.write(d + '/p/f', ''), lambda: os.mkdir(d + '/p/d'),
                   lambda: os.symlink('x', d + '/p/l'), lambda: os.rename(d + '/p/f', d + '/p/g'),
                   lambda: os.rename(d + '/p/g', d + '/q/g'), lambda: os.link(d + '/q/g', d + '/p/h'),
                   lambda: os.unlink(d + '/p/h'), lambda: os.rmdir(d + '/p/d'),
                   lambda: os.chmod(d + '/p/old', 0o600), lambda: tree.append(d + '/p/old', 'x')):
            for n in 'pq':
                os.utime(d + '/' + n, ns=(10**18, 10**18))
            fn()
            out.append([os.stat(d + '/' + n).st_mtime_ns != 10**18 for n in 'pq'])
        return out
    t.as_plain(action, 'f p/old 1; f q/old 1')


@test(identities=('root', 'user'))
def setgid_and_umask(t):
    """Modes and groups of new objects under several umasks, in plain and set-gid directories."""
    def action(d):
        out = []
        for mask in (0, 0o022, 0o077, 0o777):
            old = os.umask(mask)
            try:
                for parent in ('d', 'sg'):
                    base = '%s/%s/%o' % (d, parent, mask)
                    os.close(os.open(base + 'f', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o6777))
                    os.mkdir(base + 'd', 0o777)
                    os.mkfifo(base + 'p', 0o666)
                    os.mknod(base + 'r', stat.S_IFREG | 0o666)
                    os.symlink('x', base + 'l')
                    for n in 'fdprl':
                        st = os.lstat(base + n)
                        out.append((n, oct(st.st_mode), st.st_uid, st.st_gid))
            finally:
                os.umask(old)
        return out
    group = 1234 if t.root else os.getgid()
    t.as_plain(action, 'd d 755; d sg 2777; u sg %d %d; m sg 2777' % (os.getuid(), group))
