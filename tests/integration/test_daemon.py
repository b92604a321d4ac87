# SPDX-License-Identifier: GPL-2.0-or-later
"""Life of the daemon: starting, going to the background, ending; ways to be mounted."""
import errno
import fcntl
import mmap
import os
import re
import signal
import subprocess
import time

from lib import k, test, tree
from lib.disk import Disk

MNT_FORCE = 1
FIFREEZE, FITHAW = 0xc0045877, 0xc0045878


def _background(t, u, *opts, wait=True, **popen):
    """Start without -f; (exit status, stderr read to its end)."""
    kw = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    kw.update(popen)
    p = subprocess.run(u.command(opts, foreground=False), timeout=30 * t.slow, **kw)
    return p.returncode, p.stdout


def _daemons(mnt):
    """Processes that serve this mount, by their command line."""
    out = []
    for p in os.listdir('/proc'):
        if p.isdigit():
            try:
                with open('/proc/%s/cmdline' % p, 'rb') as f:
                    args = f.read().split(b'\0')
            except OSError:
                continue
            if os.fsencode(mnt) in args and b'fuse' in args[0]:
                out.append(int(p))
    return out


def _wait(t, cond, what, limit=10):
    end = time.monotonic() + limit * t.slow
    while not cond():
        t.ok(time.monotonic() < end, what)
        time.sleep(0.02)


@test()
def to_the_background(t):
    """Exit 0 only when the mount is ready; stderr reaches its end; own session; 0, 1, 2 are
    redirected; it ends by itself on unmount."""
    u = t.union(text='f f hello')
    status, said = _background(t, u)
    t.eq((status, said), (0, ''))
    t.eq(tree.text(u.m('f')), 'hello')
    pids = _daemons(u.mnt)
    t.eq(len(pids), 1)
    pid = pids[0]
    for fd in '012':
        t.eq(os.readlink('/proc/%d/fd/%s' % (pid, fd)), '/dev/null')
    t.ok(os.getsid(pid) != os.getsid(0), 'still in the session of its caller')
    t.eq(os.readlink('/proc/%d/cwd' % pid), '/')
    u.unmount_once()
    _wait(t, lambda: not _daemons(u.mnt), 'the daemon does not end')
    u.check()


@test()
def mount_type_and_source(t):
    """Type fuse.fuse-unionfs; fsname= and subtype= and SOURCE show in mountinfo."""
    u = t.union(text='f f 1')
    u.mount()
    _, _, typ, source, _ = k.mounted_at(u.mnt)[0]
    t.eq((typ, source), ('fuse.fuse-unionfs', 'fuse-unionfs'))
    u.umount()
    u.mount('fsname=my-name', 'subtype=other')
    t.eq(k.mounted_at(u.mnt)[0][2:4], ('fuse.other', 'my-name'))
    u.umount()
    plain = u.command
    u.command = lambda o, **kw: plain(o, **kw)[:-1] + ['the-source', u.mnt]
    u.mount()
    t.eq(k.mounted_at(u.mnt)[0][2:4], ('fuse.fuse-unionfs', 'the-source'))


@test()
def signals(t):
    """SIGTERM and SIGINT unmount and end with status 0; twice in a row does no harm."""
    u = t.union(text='f f 1')
    for sig in (signal.SIGTERM, signal.SIGINT):
        for times in (1, 3):
            u.mount()
            tree.write(u.m('new'), 'x')
            for _ in range(times):
                try:
                    u.proc.send_signal(sig)
                except ProcessLookupError:
                    pass
            u.wait_end()
            t.eq(k.mounted_at(u.mnt), [])
            u.check()
    t.eq(_background(t, u)[0], 0)
    os.kill(_daemons(u.mnt)[0], signal.SIGTERM)
    _wait(t, lambda: not k.mounted_at(u.mnt) and not _daemons(u.mnt), 'SIGTERM in the background')


@test(identities=('root', 'userns'))
def sigterm_below_another_mount(t):
    """No path leads to a mount that another one covers, so it cannot be unmounted: the daemon ends all
    the same, by the first signal, and says why. The covering mount is not touched."""
    for opts in ((), ('writeback=1',)):
        u = t.union(text='f f hello', name='below%d' % len(opts)).mount(*opts)
        tree.write(u.m('new'), 'data')
        v = t.union(text='f g over', name='above%d' % len(opts))
        v.mnt = u.mnt
        v.mount()
        _wait(t, lambda: tree.names(v.mnt) == ['g'], 'not covered')
        u.proc.send_signal(signal.SIGTERM)
        u.wait_end()
        t.ok('another mount covers it' in u.log_text(), u.log_text())
        t.eq(tree.text(u.up('new')), 'data')
        t.eq(tree.text(v.m('g')), 'over')
        tree.write(v.m('n'), '1')
        v.umount()
        t.fails(errno.ENOTCONN, os.stat, u.m('never-asked'))
        u.detach()
        t.eq(k.mounted_at(u.mnt), [])


@test()
def sigterm_where_it_has_come_to(t):
    """A directory above the mountpoint was renamed, or (root) the mount moved: it is unmounted there."""
    for how in ('renamed', 'moved') if t.identity != 'user' else ('renamed',):
        u = t.union(text='f f hello', name=how)
        base = '%s/a b %s' % (t.dir, how)
        os.makedirs(base + '/mnt')
        u.mnt = base + '/mnt'
        u.mount()
        if how == 'renamed':
            os.rename(base, base + ' new')
            now = base + ' new/mnt'
        else:
            now = base + '/other'
            os.mkdir(now)
            k.mount(u.mnt, now, None, k.MS_MOVE)
        t.eq(tree.text(now + '/f'), 'hello')
        u.proc.send_signal(signal.SIGTERM)
        u.wait_end()
        t.eq(os.listdir(now), [])
        t.eq([m for m in k.mounts() if how in m[1] and m[2].startswith('fuse')], [])


@test()
def sigterm_on_a_busy_mount(t):
    """The name is free at once; open files work on; the daemon ends with the last of them."""
    u = t.mounted('f f hello')
    fd = os.open(u.m('f'), os.O_RDWR)
    d = os.open(u.mnt, os.O_RDONLY)
    u.proc.send_signal(signal.SIGTERM)
    _wait(t, lambda: not k.mounted_at(u.mnt), 'still mounted')
    os.pwrite(fd, b'J', 0)
    t.eq(os.pread(fd, 9, 0), b'Jello')
    tree_fd = os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=d)
    os.write(tree_fd, b'x')
    t.ok(u.proc.poll() is None)
    for f in (fd, d, tree_fd):
        os.close(f)
    u.wait_end()
    t.eq((tree.text(u.up('f')), tree.text(u.up('new'))), ('Jello', 'x'))


@test()
def lazy_unmount_by_others(t):
    """umount -l of a busy mount: the same, and without an index a new daemon may start on the layers
    meanwhile."""
    u = t.mounted('f f hello')
    fd = os.open(u.m('f'), os.O_RDWR)
    u.detach()
    _wait(t, lambda: not k.mounted_at(u.mnt), 'still mounted')
    v = t.union(lowers=u.lowers, name='again')
    v.check_lowers = False
    v.upper, v.work = u.upper, u.work
    v.mount('index=off')
    t.eq(tree.text(v.m('f')), 'hello')
    os.unlink(v.m('f'))
    tree.write(v.m('n'), '1')
    t.eq(os.pread(fd, 9, 0), b'hello')
    os.close(fd)
    u.wait_end()
    t.eq(tree.names(v.mnt), ['n'])
    tree.write(v.m('n2'), '1')
    os.unlink(v.m('n'))
    v.umount()
    t.eq(tree.names(u.upper), ['f', 'n2'])


@test(timeout=120)
def again_and_again(t):
    """A new daemon starts on the same layers while the old one may still be ending."""
    u = t.union(text='f f hello')
    for i in range(12):
        t.eq(_background(t, u), (0, ''), 'mount %d' % i)
        tree.write(u.m('n%d' % i), 'x')
        if i:
            os.unlink(u.m('n%d' % (i - 1)))
        u.unmount_once()
    _wait(t, lambda: not _daemons(u.mnt), 'daemons left')
    t.eq(tree.names(u.upper), ['n11'])
    t.eq(u.staged(), [])


def _beside(t, u, name, work=None):
    """A union on the upper of @u, and on its work directory or another one."""
    v = t.union(lowers=u.lowers, name=name)
    v.upper, v.work = u.upper, work or u.work
    v.check_lowers = v.check_layers = False
    return v


@test()
def upper_in_use(t):
    """By default, as with index=on, an upper or work of a live mount is refused, and nothing changes;
    with index=off a warning says so. Called fuse-overlayfs it is the warning, unless index=on was asked
    for. Once the other has ended it is as ever, even at once."""
    u = t.mounted('f a 1')
    tree.write(u.m('a'), 'x')
    other = t.dir + '/other'
    os.makedirs(other + '/up')
    os.symlink(t.binary, t.dir + '/fuse-overlayfs')

    def told(upper, work, program=t.binary, opts=''):
        at = t.dir + '/at'
        os.makedirs(at, exist_ok=True)
        p = subprocess.run([program, '-o', 'lowerdir=%s,upperdir=%s,workdir=%s%s' % (u.lowers[0], upper, work, opts),
                            at], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           timeout=60 * t.slow)
        mounted = bool(k.mounted_at(at))
        t.eq(mounted, p.returncode == 0, p.stderr)
        if mounted:
            t.eq(tree.text(at + '/a') if upper == u.upper else 'x', 'x')
            if t.identity == 'user':
                t.run('fusermount3', '-u', at)
            else:
                k.umount(at)
            _wait(t, lambda: not _daemons(at), 'daemons left')
        return p.returncode, p.stderr

    os.mkdir(other + '/work')
    for upper, work, word in ((u.upper, other + '/work', u.upper), (other + '/up', u.work, u.work)):
        for opts in ('', ',index=on'):
            r, err = told(upper, work, opts=opts)
            t.eq((r, len(err.strip().split('\n'))), (1, 1), err)
            t.ok(word in err and 'used by another mount, ' + u.mnt in err and 'busy' in err, err)
            t.eq(os.listdir(other + '/work'), [])
        for program, opts in ((t.binary, ',index=off'), (t.dir + '/fuse-overlayfs', '')):
            r, err = told(upper, work, program, opts)
            t.eq((r, err.count('used by another mount')), (0, 1), err)
            t.ok(word in err, err)
            t.sh('chmod -R u+rwx . && rm -rf work index', cwd=other + '/work')
        t.eq(told(upper, work, t.dir + '/fuse-overlayfs', ',index=on')[0], 1)
    u.umount()
    r, err = told(u.upper, u.work)
    t.eq((r, err), (0, ''))


@test()
def remount_is_the_kernels(t):
    """`mount -o remount` comes to the helper like a mount: it never starts a second daemon."""
    u = t.mounted('f a 1')
    p = subprocess.run([t.binary, '-o', 'remount,lowerdir=%s,upperdir=%s,workdir=%s' % (u.lowers[0], u.upper, u.work),
                        u.mnt], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=60 * t.slow)
    t.eq(p.returncode, 1)
    t.ok('remount' in p.stderr and 'mount -i' in p.stderr, p.stderr)
    t.eq(len(k.mounted_at(u.mnt)), 1)
    t.eq(len(_daemons(u.mnt)), 1)
    if t.identity == 'root':
        t.run('env', 'LIBMOUNT_FORCE_MOUNT2=always', 'mount', '-i', '-o', 'remount,ro', u.mnt)
        t.fails(errno.EROFS, tree.write, u.m('a'), 'x')
        t.run('env', 'LIBMOUNT_FORCE_MOUNT2=always', 'mount', '-i', '-o', 'remount,rw', u.mnt)
        tree.write(u.m('a'), 'x')


@test()
def two_daemons_on_one_upper(t):
    """Allowed with index=off as in the kernel; each cleans only its own from the work directory. The
    second goes on the first's work directory: the first goes on."""
    u = t.mounted('f a 1; f b 1; f d 1; f e 1')
    tree.append(u.m('a'), '2')
    os.unlink(u.m('d'))
    v = _beside(t, u, 'v')
    v.mount('index=off')
    os.unlink(v.m('b'))
    os.unlink(u.m('e'))
    v.umount()
    os.unlink(u.m('a'))
    tree.write(u.m('c'), 'x')
    t.ok(all(tree.is_whiteout(u.up(n)) for n in 'abde'))


@test()
def killed_beside_another(t):
    """What a killed daemon left stays while another lives on the same layers, and goes at the next
    mount that is alone."""
    u = t.mounted('f a 1; f b 1')
    v = _beside(t, u, 'v')
    v.mount('index=off')
    os.unlink(v.m('a'))
    left = lambda: [n for n in u.staged() + u.indexed() if n[0] == '#']
    t.eq(len(left()), 1)
    v.kill()
    t.eq(len(left()), 1)
    os.unlink(u.m('b'))
    u.check_layers = False
    u.umount()
    u.check_layers = True
    t.eq(len(left()), 1)
    u.mount()
    t.eq(left(), [])
    t.eq(tree.names(u.mnt), [])
    u.umount()


@test(identities=('root',))
def mount_command_and_fstab(t):
    """`mount -t fuse.fuse-unionfs none MNT -o ...` and a line of fstab with its words."""
    t.need('mount.fuse3')
    u = t.union(text='f f hello')
    k.mount('tmpfs', '/usr/local/bin', 'tmpfs')     # mount(8) sets a PATH of its own
    os.symlink(t.binary, '/usr/local/bin/fuse-unionfs')
    opts = 'lowerdir=%s,upperdir=%s,workdir=%s' % (u.lowers[0], u.upper, u.work)
    t.run('mount', '-t', 'fuse.fuse-unionfs', 'none', u.mnt, '-o', opts)
    t.eq(tree.text(u.m('f')), 'hello')
    t.eq(k.mounted_at(u.mnt)[0][2:4], ('fuse.fuse-unionfs', 'none'))
    tree.write(u.m('n'), 'x')
    t.run('umount', u.mnt)
    _wait(t, lambda: not _daemons(u.mnt), 'the daemon does not end')
    fstab = t.logs + '/fstab'
    words = 'nofail,noauto,user,_netdev,x-systemd.automount,x-foo=bar,rw,exec,noatime,suid,dev'
    tree.write(fstab, 'none %s fuse.fuse-unionfs %s,%s 0 0\n' % (u.mnt, words, opts))
    said = t.run('mount', '-T', fstab, u.mnt)
    t.eq(said.strip(), '', 'warnings about words of fstab')
    t.eq(sorted(os.listdir(u.mnt)), ['f', 'n'])
    t.run('umount', u.mnt)
    _wait(t, lambda: not _daemons(u.mnt), 'the daemon does not end')
    t.run('mount', '-t', 'fuse.fuse-unionfs', 'none', u.mnt, '-o', 'ro,' + opts)
    t.fails(errno.EROFS, os.mkdir, u.m('x'))
    t.run('umount', u.mnt)
    _wait(t, lambda: not _daemons(u.mnt), 'the daemon does not end')


@test(identities=('root', 'userns'))
def descriptor_as_mountpoint(t):
    """/dev/fd/N: an already opened and mounted descriptor, as mount.fuse3 and containers pass it."""
    u = t.union(text='f f hello')
    fd = os.open('/dev/fuse', os.O_RDWR)
    uid, gid = os.getuid(), os.getgid()
    k.mount('none', u.mnt, 'fuse.fuse-unionfs', 0,
            'fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other,default_permissions' % (fd, uid, gid))
    os.set_inheritable(fd, True)
    where, u.mnt = u.mnt, '/dev/fd/%d' % fd
    cmd = u.command(())
    u.mnt = where
    with open(u.log, 'ab') as log:
        u.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(fd,))
    os.close(fd)
    t.eq(tree.text(u.m('f')), 'hello')
    tree.write(u.m('n'), 'x')
    u.umount()
    t.eq(tree.text(u.up('n')), 'x')


@test(identities=('root',))
def descriptor_in_the_background(t):
    """The same without -f: inherited descriptors survive going to the background."""
    u = t.union(text='f f hello')
    fd = os.open('/dev/fuse', os.O_RDWR)
    k.mount('none', u.mnt, 'fuse.fuse-unionfs', 0,
            'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions' % fd)
    where, u.mnt = u.mnt, '/dev/fd/%d' % fd
    cmd = u.command((), foreground=False)
    u.mnt = where
    p = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, pass_fds=(fd,), timeout=30 * t.slow)
    os.close(fd)
    t.eq((p.returncode, p.stdout), (0, ''))
    t.eq(tree.text(u.m('f')), 'hello')
    k.umount(u.mnt)


@test()
def relative_paths(t):
    """Relative and `..` paths of layers and mountpoint are taken from where the caller stands."""
    u = t.union(text='f f hello')
    os.makedirs(u.root + '/x/y')
    os.chdir(u.root + '/x/y')
    p = subprocess.run([t.binary, '-o', 'lowerdir=../../l1,upperdir=../../x/../upper,workdir=../../work',
                        '../../mnt'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=30 * t.slow)
    os.chdir('/')
    t.eq((p.returncode, p.stdout), (0, ''))
    tree.write(u.m('n'), 'x')
    t.eq((tree.names(u.mnt), tree.names(u.upper)), (['f', 'n'], ['n']))
    u.unmount_once()


@test()
def help_and_version(t):
    for args in (('-h',), ('--help',), ('-V',), ('--version',)):
        p = subprocess.run([t.binary, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        t.eq(p.returncode, 0, '%s: %s' % (args, p.stdout))
        t.ok('fuse-unionfs' in p.stdout, p.stdout)
    said = subprocess.run([t.binary, '--help'], stdout=subprocess.PIPE, text=True).stdout
    for word in ('lowerdir=', 'upperdir=', 'workdir=', 'volatile', 'timeout=', 'threads=', 'noxattrs',
                 'userxattr', 'writeback', 'fsync', 'auto_unmount', 'fsname=', 'allow_other', 'max_write'):
        t.ok(word in said, '--help does not speak of ' + word)
    version = subprocess.run([t.binary, '-V'], stdout=subprocess.PIPE, text=True).stdout
    t.ok(re.search(r'\d+\.\d+', version), version)


@test(identities=('root', 'user'))
def options_work(t):
    """One mount with each option that has a visible or no effect: all accepted in silence."""
    u = t.union(text='f f hello')
    common = ['default_permissions', 'timeout=1', 'threads=1', 'threads=8', 'max_threads=4', 'clone_fd', 'writeback=0',
              'fsync=1', 'max_write=65536', 'noatime,nodiratime', 'debug', 'noexec', 'rw,async',
              'nofail,x-a.b=c,_netdev,noauto,users,comment=foo', 'timeout=0.5', 'auto_unmount']
    for o in common + (['allow_root', 'allow_other,dev,suid,exec', 'userxattr'] if t.root else []):
        u.mount(*o.split(','))
        said = [l for l in u.log_text().split('\n') if 'warn' in l.lower() or 'ignor' in l.lower()]
        t.eq(said, [], 'option ' + o)
        t.eq(tree.text(u.m('f')), 'hello')
        tree.write(u.m('n'), 'x' * 200000)
        t.eq(len(tree.read(u.m('n'))), 200000)
        u.umount()
    for flag in ('-s', '-d'):
        plain = u.command
        u.command = lambda opts, **kw: plain(opts, **kw)[:1] + [flag] + plain(opts, **kw)[1:]
        u.mount()
        t.eq(tree.text(u.m('f')), 'hello')
        u.umount()
        u.command = plain


@test(identities=('root',))
def auto_unmount(t):
    """With auto_unmount the mount disappears when the daemon is killed. (For plain users the
    fusermount3 of Debian 12 does not manage it without allow_other: its own check is refused.)"""
    for attempt in range(5):
        u = t.mounted('f f hello', 'auto_unmount', 'io_uring=auto', name='u%d' % attempt)
        u.proc.kill()
        u.proc.wait()
        u.proc = None
        end = time.monotonic() + 3
        while k.mounted_at(u.mnt) and time.monotonic() < end:
            time.sleep(0.02)
        if not k.mounted_at(u.mnt):
            return
        # fusermount3 opens the directory to see ENOTCONN; a connection that still ends lets it in
    t.ok(False, 'still mounted')


@test(identities=('root',), needs=('strace',))
def mounted_over_what_it_needs(t):
    """Over /etc: no line of the log has the daemon ask its own mount for the time zone."""
    u = t.union(lowers=0)
    u.lowers = ['/etc']
    u.mnt, u.check_lowers = '/etc', False
    t.eq(_background(t, u, 'io_uring=off'), (0, ''))
    pid = _daemons('/etc')[0]
    out = t.dir + '/strace'
    tracer = subprocess.Popen(['strace', '-f', '-q', '-p', str(pid), '-o', out, '-e', 'trace=%file'],
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait(t, lambda: re.search(r'TracerPid:\s+[1-9]', open('/proc/%d/status' % pid).read()), 'not traced')
    os.kill(pid, signal.SIGUSR1)
    time.sleep(0.3 * t.slow)
    os.kill(pid, signal.SIGTERM)
    _wait(t, lambda: not _daemons('/etc'), 'the daemon has not ended')
    tracer.wait(10 * t.slow)
    asked = [line for line in tree.text(out).split('\n') if re.search(r'open.*"/etc(?!.*O_PATH)', line)]
    t.eq(asked, [])
    t.ok(not k.mounted_at('/etc'))


@test(identities=('root',), filesystems=('tmpfs',), timeout=60)
def a_seek_when_it_ends(t):
    """SIGTERM while the kernel writes pages for an LSEEK, with a descriptor that was inherited: nobody serves them any more."""
    disk = Disk(t, ('mkfs.ext4', '-q', '-F'), 64 << 20)
    for mode in ('io_uring=off', 'io_uring=auto'):
        u = t.union(name=mode.replace('=', '-'))
        u.upper, u.work = '%s/upper-%s' % (disk.at, u.name), '%s/work-%s' % (disk.at, u.name)
        os.mkdir(u.upper)
        os.mkdir(u.work)
        fd = os.open('/dev/fuse', os.O_RDWR)
        k.mount('none', u.mnt, 'fuse.fuse-unionfs', 0,
                'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions' % fd)
        where, u.mnt = u.mnt, '/dev/fd/%d' % fd
        proc = subprocess.Popen(u.command((mode, 'threads=1', 'max_threads=1')), pass_fds=(fd,), stdin=subprocess.DEVNULL)
        u.mnt = where
        os.close(fd)
        f, size = os.open(u.m('f'), os.O_CREAT | os.O_RDWR), 8 << 20
        os.truncate(f, size)
        m = mmap.mmap(f, size)
        root = os.open(disk.at, os.O_RDONLY)
        fcntl.ioctl(root, FIFREEZE, 0)
        for at in range(0, size, 8192):
            m[at] = 1
        pid = os.fork()
        if pid == 0:
            try:
                os.lseek(f, 0, os.SEEK_DATA)
            finally:
                os._exit(0)
        time.sleep(0.3 * t.slow)
        proc.send_signal(signal.SIGTERM)
        time.sleep(0.1 * t.slow)
        fcntl.ioctl(root, FITHAW, 0)
        try:
            proc.wait(5 * t.slow)
            hangs = False
        except subprocess.TimeoutExpired:
            hangs = True
        # A process that waits for itself cannot even be killed: the connection is ended.
        k.umount(u.mnt, MNT_FORCE | k.MNT_DETACH)
        proc.wait()
        os.waitpid(pid, 0)
        m.close()
        os.close(f)
        os.close(root)
        t.ok(not hangs, '%s: the daemon does not end' % mode)
    k.umount(disk.at)
